"""Fit the planner's model: `python -m policies.planner.fit MARKET... --out FILE` makes the shipped one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError
from simulator.market import Market
from simulator.market.resample import sample_index
from simulator.synthetic.semi_markov import SemiMarkovModel, fit_semi_markov

TICK_SECONDS = 600
TYPES = 4
CHUNK_TICKS = 840
AGE_EDGES = (1, 2, 3, 4, 6, 9, 14, 20, 30, 45, 70, 110)
"""Chosen by leaving out pairs of the six 2023 training zones: `python -m training.champion.model_choice`."""
SHIPPED = Path(__file__).with_name("v100_2023.json")


def fit_planner_model(markets: Sequence[Market], source: str = "") -> SemiMarkovModel:
    """Fit the model to every pool of the markets, at ticks of ten minutes.

    Raises:
        InputError: A market has a longer tick.
    """
    return fit_semi_markov(
        [series for market in markets for series in availability_series(market)],
        types=TYPES,
        chunk_ticks=CHUNK_TICKS,
        age_edges=AGE_EDGES,
        tick_seconds=TICK_SECONDS,
        source=source,
    )


def availability_series(market: Market) -> list[NDArray[np.bool_]]:
    """Whether each pool of a market has spot, at ticks of ten minutes.

    Raises:
        InputError: The market has a longer tick.
    """
    if market.tick_seconds > TICK_SECONDS:
        raise InputError(
            f"market with a tick of {market.tick_seconds} s; accepted: {TICK_SECONDS} or less, "
            "best the trace's own"
        )
    ticks = market.ticks * market.tick_seconds // TICK_SECONDS
    index = sample_index(ticks, TICK_SECONDS, Fraction(market.tick_seconds))
    return [row[index] > 0 for row in market.spot_capacity]


def main() -> None:
    """Fit to the market files on the command line and write the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("market", type=Path, nargs="+", help="market file at its trace's own tick")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    arguments = parser.parse_args()
    markets = [Market.load(path) for path in arguments.market]
    source = ", ".join(pool.name for market in markets for pool in market.pools)
    arguments.out.write_text(fit_planner_model(markets, source).to_json() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
