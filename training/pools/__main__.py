"""`python -m training.pools TRACES PRICES`: does the network over pools beat the planner on zones left out?

The protocol is `training.several_pools`: for each group of zones that is left out, networks are trained on
the other zones, with prices drawn from the same spread, and replayed on the group beside the planner. The
difference is given with a 95 % interval that resamples groups and, within each, windows. With `--out` nothing
is left out or judged: the networks are trained on all zones and written as one bundle.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from policies.planner import SemiMarkovPlanner
from simulator.deadline.observability import Observability
from simulator.deadline.observation import BoolArray, FloatArray
from simulator.synthetic import SemiMarkovModel
from training.agent import Arrays
from training.pools.episodes import pool_markets
from training.pools.judge import fitted, judge, report, without_group, zone_series
from training.pools.recipe import PoolsRecipe, guided_pools, train_pools, write_pools
from training.several_pools import CACHE_BYTES, DRAWS, folds, price_ratios
from training.tracking import sha256_of

NAME = "pools-network"
POOLS = 3
MARKETS = 12
"""Sets of zones with prices of their own that a member is trained on."""


def train_members(
    series: Sequence[BoolArray],
    ratios: Mapping[str, FloatArray],
    model: SemiMarkovModel,
    recipe: PoolsRecipe,
    seeds: Sequence[int],
    observability: Observability,
    note: Callable[[str], None] = lambda what: None,
) -> list[Arrays]:
    """One member per seed, each with markets of its own."""
    members = []
    for seed in seeds:
        markets = pool_markets(series, ratios, model, pools=POOLS, markets=MARKETS, seed=seed)
        members.append(train_pools(markets, model, recipe, seed, observability=observability))
        note(f"seed {seed} trained")
    return members


def main() -> None:
    """Train and compare, or train and write a bundle."""
    parser = argparse.ArgumentParser(
        prog="python -m training.pools", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("traces", type=Path, help="folder of SkyPilot availability traces, one per zone")
    parser.add_argument("prices", type=Path, help="SpotLake price history")
    parser.add_argument("--steps", type=int, default=PoolsRecipe().steps, help="of each member")
    parser.add_argument("--seeds", type=int, default=2, help="members")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of prices to judge on")
    parser.add_argument("--observability", choices=get_args(Observability), default="full")
    parser.add_argument("--out", type=Path, help="bundle to write, trained on all zones")
    arguments = parser.parse_args()
    began = time.perf_counter()
    recipe, seeds = PoolsRecipe(steps=arguments.steps), range(arguments.seeds)
    ratios = price_ratios(arguments.prices)

    def note(what: str) -> None:
        sys.stderr.write(f"{time.perf_counter() - began:.0f} s: {what}\n")

    def trained(series: Sequence[BoolArray], model: SemiMarkovModel) -> list[Arrays]:
        return train_members(series, ratios, model, recipe, seeds, arguments.observability, note)

    series = zone_series(arguments.traces)
    if arguments.out is not None:
        model = fitted(series)
        members = trained(series, model)
        policy = guided_pools(arguments.out.stem, SemiMarkovPlanner(model), members)
        files = [*sorted(arguments.traces.glob("*.json")), arguments.prices]
        hashes = {path.name: sha256_of(path) for path in files}
        write_pools(arguments.out, policy, members, recipe, seeds, hashes)
        sys.stdout.write(f"{arguments.out}\n")
        return
    parts = list(folds(arguments.traces, arguments.prices, arguments.draws))
    learned = []
    for group, fold in enumerate(parts):
        planner = SemiMarkovPlanner(fold.model, cache_bytes=CACHE_BYTES)
        learned.append(guided_pools(NAME, planner, trained(without_group(series, group), fold.model)))
    sys.stdout.write(report(judge(parts, learned, arguments.observability), NAME))


if __name__ == "__main__":
    main()
