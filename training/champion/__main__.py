"""`python -m training.champion --market FILE ... --out FILE`: train the champion from its recipe."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from simulator.errors import InputError
from simulator.market import Market
from training.champion.recipe import Recipe, train_champion, write_champion
from training.tracking import sha256_of


def main() -> int:
    """Train from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.champion", description=__doc__)
    parser.add_argument(
        "--market", type=Path, action="append", required=True, help="market at its trace's own tick"
    )
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    parser.add_argument("--seeds", type=int, default=5, help="members of the ensemble, seeds 0, 1, ...")
    parser.add_argument("--steps", type=int, default=Recipe().steps, help="environment steps per member")
    parser.add_argument("--processes", type=int, default=2, help="members trained at the same time")
    arguments = parser.parse_args()
    began = time.monotonic()

    def watch(seed: int) -> None:
        sys.stderr.write(f"seed {seed} done after {time.monotonic() - began:.0f} s\n")

    try:
        markets = [Market.load(path) for path in arguments.market]
        recipe, seeds = Recipe(steps=arguments.steps), range(arguments.seeds)
        source = ", ".join(pool.name for market in markets for pool in market.pools)
        policy, members = train_champion(
            markets, recipe, seeds, processes=arguments.processes, source=source, watch=watch
        )
        hashes = {path.name: sha256_of(path) for path in arguments.market}
        write_champion(arguments.out, policy, members, recipe, seeds, hashes)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{arguments.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
