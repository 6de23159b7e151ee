"""Several pools, zones left out: `python -m training.several_pools TRACES PRICES` prints a table.

Nine zones of 2023 at ticks of ten minutes make three groups of three, each with zones of three regions (or
with `--groups 2` five and four). A group is left out in turn: the planner is fitted to the other zones and
replayed on the group, 48 h of work, windows side by side. With `--groups 1` all nine are one group and the
time is parted instead: fitted to the first 60 %, replayed on the rest.

A zone's spot price is constant: its ratio to the on-demand price is drawn from the spread that SpotLake saw
in January 2024 (`price_ratios`). That file has no GPU types, so each draw takes one of its types, and for
every pool one zone of it.

With `--throughputs`, `--move-minutes` or `--move-usd` pools also differ in throughput, drawn for each,
and a move of the job to another region takes time and money; all made up.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from policies.planner import SemiMarkovPlanner
from policies.planner.fit import AGE_EDGES, CHUNK_TICKS, TICK_SECONDS, TYPES
from policies.registry import load_policy
from policies.shield import Shielded
from simulator.deadline import DeadlineJob
from simulator.deadline.observability import Observability
from simulator.deadline.observation import FloatArray
from simulator.deadline.replay import Windows, replay
from simulator.deadline.terms import PoolTerms
from simulator.errors import InputError
from simulator.market import Market, ticks_for
from simulator.market.build import BuildOptions, build_market
from simulator.market.readers import PriceHistory, read_records
from simulator.synthetic import SemiMarkovModel, fit_semi_markov

GROUPS = 3
FITTED_SHARE = 0.6
"""Of the time, where no zone is left out."""
SETTINGS = tuple((deadline, overhead) for deadline in (52, 70) for overhead in (3, 12))
"""Hours, minutes; 52 and 70 h are 312 and 420 ticks."""
DRAWS = 4
THROUGHPUT_STEP = 0.05
BASELINES = ("round-robin-uniform-progress", "uniform-progress", "cheapest-first", "greedy")
REFERENCE = BASELINES[0]
CACHE_BYTES = 2_000_000_000
"""Nine pools make many short lists, with a table each."""
ON_DEMAND_PRICE = 3.06
"""USD per hour of a V100 instance (p3.2xlarge), the same in all zones."""


@dataclass(frozen=True, eq=False)
class Fold:
    """One part of the comparison.

    Attributes:
        model: Fitted to the zones that are not left out.
        markets: The left-out zones as one market, once for each draw of prices, with what each is called.
    """

    model: SemiMarkovModel
    markets: tuple[tuple[str, Market], ...]


@dataclass(frozen=True, slots=True)
class Variety:
    """How pools differ beside their prices.

    Attributes:
        throughputs: Lowest and highest; drawn evenly, in steps of `THROUGHPUT_STEP`: the optimum is exact.
        move_minutes: Of a move between regions.
        move_usd: The same.
        seed: Of the draws.
    """

    throughputs: tuple[float, float] = (1.0, 1.0)
    move_minutes: float = 0.0
    move_usd: float = 0.0
    seed: int = 0

    def terms(self, market: Market, draw: int) -> PoolTerms | None:
        """Terms of the jobs on a market, another draw having others; None if pools differ in nothing."""
        if self == Variety(seed=self.seed):
            return None
        zones = zlib.crc32("".join(pool.name for pool in market.pools).encode())
        rng = np.random.default_rng([self.seed, draw, zones])
        drawn = rng.uniform(*self.throughputs, len(market.pools))
        factors = np.round(np.rint(drawn / THROUGHPUT_STEP) * THROUGHPUT_STEP, 6)
        names = (pool.name for pool in market.pools)
        return PoolTerms(
            throughput=tuple(zip(names, factors.tolist(), strict=True)),
            move_seconds=60.0 * self.move_minutes,
            move_usd=self.move_usd,
        )


def price_ratios(path: Path) -> dict[str, FloatArray]:
    """Mean spot price over on-demand price of each zone of a price history, by instance type.

    Raises:
        InputError: The file is no price history with on-demand prices.
    """
    by_type: dict[str, list[float]] = {}
    for record in read_records(path):
        if not isinstance(record, PriceHistory) or record.on_demand_price is None:
            raise InputError(f"{path}: no price history with on-demand prices; accepted: SpotLake rows")
        ratio = float((record.spot_price / record.on_demand_price).mean())
        by_type.setdefault(record.pool.instance_type, []).append(ratio)
    return {name: np.array(ratios) for name, ratios in by_type.items()}


def folds(
    traces: Path, prices: Path, draws: int = DRAWS, seed: int = 0, groups: int = GROUPS
) -> Iterator[Fold]:
    """The folds of the comparison, one for each group of zones.

    Raises:
        InputError: A file is missing or not what it should be, or there are more groups than zones.
    """
    files = sorted(traces.glob("*.json"))
    market = build_market(
        files, BuildOptions(tick_seconds=TICK_SECONDS, spot_price=1.0, on_demand_price=ON_DEMAND_PRICE)
    )
    if not 1 <= groups <= len(files):
        raise InputError(f"{groups} groups of {len(files)} zones; accepted: 1 to {len(files)}")
    series = market.spot_capacity > 0
    split = int(FITTED_SHARE * market.ticks) if groups == 1 else 0
    ratios = price_ratios(prices)
    rng = np.random.default_rng(seed)
    for group in range(groups):
        left_out = list(range(group, len(files), groups))  # neighbours in the order of names are apart
        model = fit_semi_markov(
            [row[:split] for row in series]
            if groups == 1
            else [row for zone, row in enumerate(series) if zone not in left_out],
            types=TYPES,
            chunk_ticks=CHUNK_TICKS,
            age_edges=AGE_EDGES,
            tick_seconds=TICK_SECONDS,
        )
        part = market.select(left_out).window(split, market.ticks - split)
        zones = "+".join(pool.zone for pool in part.pools)
        markets = []
        for draw in range(draws):
            of_type = ratios[str(rng.choice(sorted(ratios)))]
            drawn = rng.choice(of_type, len(left_out), replace=False)
            priced = Market.build(
                part.pools,
                tick_seconds=TICK_SECONDS,
                start=part.start,
                spot_price=drawn[:, None] * ON_DEMAND_PRICE,
                spot_capacity=part.spot_capacity,
                on_demand_price=part.on_demand_price,
            )
            markets.append((f"{zones} prices {draw}", priced))
        yield Fold(model, tuple(markets))


def compare(
    parts: Sequence[Fold],
    baselines: Sequence[str] = BASELINES,
    observability: Observability = "full",
    variety: Variety | None = None,
) -> pd.DataFrame:
    """Replay the planner and the baselines over all windows of all settings.

    Returns:
        What `replay` returns, one row per policy and window, with `deadline_hours` and `overhead_minutes`.
    """
    tables = []
    for deadline, overhead in SETTINGS:
        plain = DeadlineJob(48 * 3600, deadline * 3600, overhead * 60)
        stride = (
            ticks_for(plain.deadline_seconds, TICK_SECONDS) + 2
        )  # side by side, as in the public protocol
        for fold in parts:
            for draw, (name, market) in enumerate(fold.markets):
                job = replace(plain, terms=(variety or Variety()).terms(market, draw))
                planner = SemiMarkovPlanner(fold.model, cache_bytes=CACHE_BYTES)
                table = replay(
                    [Shielded(planner), *map(load_policy, baselines)],
                    Windows.all_pools(market, job, stride, name),
                    job,
                    observability=observability,
                )
                tables.append(table.assign(deadline_hours=deadline, overhead_minutes=overhead))
    return pd.concat(tables, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per policy and setting (and over all of them): cost above the optimum, below the reference, misses."""
    setting = "due in " + table["deadline_hours"].astype(str) + " h, overhead "
    table = table.assign(setting=setting + table["overhead_minutes"].astype(str) + " min")
    parts = [(name, part) for name, part in table.groupby("setting", sort=False)]
    rows = []
    for name, part in [*parts, ("all", table)]:
        means = part.groupby("policy", sort=False)[["cost_usd", "optimum_usd", "on_demand_usd"]].mean()
        reference = means.loc[REFERENCE, "cost_usd"]
        for policy, mean in means.iterrows():
            own = part[part["policy"] == policy]
            rows.append(
                {
                    "setting": name,
                    "policy": policy,
                    "windows": len(own),
                    "above optimum": f"{mean['cost_usd'] / mean['optimum_usd'] - 1:.1%}",
                    "below round robin": f"{1 - mean['cost_usd'] / reference:.1%}",
                    "of on-demand": f"{mean['cost_usd'] / mean['on_demand_usd']:.1%}",
                    "missed": int(own["missed"].sum()),
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("traces", type=Path, help="folder of SkyPilot availability traces, one per zone")
    parser.add_argument("prices", type=Path, help="SpotLake price history")
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of prices for each three zones")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--groups", type=int, default=GROUPS, help="of zones; 1 leaves out time instead")
    parser.add_argument("--observability", choices=get_args(Observability), default="full")
    parser.add_argument(
        "--throughputs", type=float, nargs=2, default=(1.0, 1.0), help="lowest and highest, drawn per pool"
    )
    parser.add_argument("--move-minutes", type=float, default=0.0, help="of a move between regions")
    parser.add_argument("--move-usd", type=float, default=0.0, help="of a move between regions")
    arguments = parser.parse_args()
    low, high = arguments.throughputs
    variety = Variety((low, high), arguments.move_minutes, arguments.move_usd, arguments.seed)
    began = time.perf_counter()
    parts = list(folds(arguments.traces, arguments.prices, arguments.draws, arguments.seed, arguments.groups))
    table = compare(parts, observability=arguments.observability, variety=variety)
    sys.stdout.write(summary(table).to_string(index=False) + "\n")
    sys.stdout.write(f"{time.perf_counter() - began:.0f} s\n")


if __name__ == "__main__":
    main()
