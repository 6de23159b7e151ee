"""Fit the survival curve: `python -m policies.service.lookahead.fit MARKET --first-share 0.6`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from policies.service.lookahead.survival import Survival
from simulator.errors import InputError
from simulator.market import Market

EDGES_SECONDS = (0, 600, 1200, 2400, 4800, 9600, 19200, 38400, 86400, 172800)
SHIPPED = Path(__file__).with_name("v100_2023.json")


def fit_survival(markets: Sequence[Market], edges: ArrayLike = EDGES_SECONDS) -> Survival:
    """How long capacity stays in the pools of some markets: ends per second by age.

    Runs whose beginning was not seen do not count; one end at the mean rate is added to every age.

    Args:
        markets: At a tick no longer than half of the first edge after 0.
        edges: (B,) seconds, from 0 upwards.

    Raises:
        InputError: No run begins and ends in the markets.
    """
    bounds = np.asarray(edges, np.float64)
    ends, seconds = np.zeros(len(bounds)), np.zeros(len(bounds))
    for market in markets:
        _count(market.spot_capacity > 0, float(market.tick_seconds), bounds, ends, seconds)
    if ends.sum() == 0:
        raise InputError("no run of spot capacity begins and ends in the markets; accepted: longer ones")
    mean = ends.sum() / seconds.sum()
    return Survival.of(bounds, (ends + 1.0) / (seconds + 1.0 / mean))


def load_survival(path: Path = SHIPPED) -> Survival:
    """Read a curve that `main` wrote.

    Raises:
        InputError: It is no such file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Survival.of(values["edges_seconds"], values["ends_per_hour"]).scaled(1.0 / 3600.0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no survival curve ({error}); accepted: what the fit wrote") from error


@njit(cache=True, nogil=True)
def _count(
    up: NDArray[np.bool_],
    tick_seconds: float,
    edges: NDArray[np.float64],
    ends: NDArray[np.float64],
    seconds: NDArray[np.float64],
) -> None:
    for p in range(up.shape[0]):
        age = -1.0
        for t in range(up.shape[1] - 1):
            if not up[p, t]:
                age = 0.0
            elif age >= 0.0:
                bucket = np.searchsorted(edges, age, side="right") - 1
                seconds[bucket] += tick_seconds
                ends[bucket] += 0.0 if up[p, t + 1] else 1.0
                age += tick_seconds


def main() -> None:
    """Fit to the market files on the command line and write the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("market", type=Path, nargs="+")
    parser.add_argument("--first-share", type=float, default=1.0, help="use only the first share of each")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    arguments = parser.parse_args()
    markets = [Market.load(path) for path in arguments.market]
    parts = [market.window(0, int(market.ticks * arguments.first_share)) for market in markets]
    curve = fit_survival(parts)
    values = {
        "source": ", ".join(pool.name for market in markets for pool in market.pools),
        "first_share": arguments.first_share,
        "edges_seconds": curve.edges.tolist(),
        "ends_per_hour": [round(rate * 3600.0, 6) for rate in curve.rates],
    }
    arguments.out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
