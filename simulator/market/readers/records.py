"""What a reader hands over: capacity samples or price events of one pool, with the file they came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError
from simulator.market.market import Pool

HIGHEST_PRICE = 1e6
"""USD per instance-hour; a price above it is taken for damage."""


@dataclass(frozen=True, eq=False)
class CapacityTrace:
    """Evenly spaced samples of how many spot instances one pool had.

    Attributes:
        file: Where it was read.
        pool: The pool.
        start: UTC time of the first sample, None where the file and its folder do not say.
        gap_seconds: Seconds between samples, positive.
        capacity: (n,) int64 instances.
        spot_price: (n,) float64 USD per hour at the same samples, None where the file has none.
    """

    file: str
    pool: Pool
    start: datetime | None
    gap_seconds: Fraction
    capacity: NDArray[np.int64]
    spot_price: NDArray[np.float64] | None = None

    @property
    def span_seconds(self) -> Fraction:
        """How long the trace lasts."""
        return self.gap_seconds * int(self.capacity.shape[0])


@dataclass(frozen=True, eq=False)
class PriceHistory:
    """Prices of one pool as a step function: each value holds until the next one.

    Attributes:
        file: Where it was read.
        pool: The pool.
        product: Operating system or licence, as AWS names it; empty where the source has only one.
        times_ms: (E,) int64, milliseconds since 1970 UTC, strictly increasing, E ≥ 1.
        spot_price: (E,) float64 USD per hour.
        on_demand_price: (E,) float64 USD per hour, None where the source has none.
        end_ms: Until when the source speaks: the last value holds at least that long.
    """

    file: str
    pool: Pool
    product: str
    times_ms: NDArray[np.int64]
    spot_price: NDArray[np.float64]
    on_demand_price: NDArray[np.float64] | None
    end_ms: int


def merge_histories(histories: list[PriceHistory]) -> PriceHistory:
    """Join histories of one pool and product from several files.

    The same event in two files is kept once.

    Raises:
        InputError: Two files give one moment different prices, or only one of them has on-demand prices.
    """
    first = histories[0]
    if len(histories) == 1:
        return first
    files = ", ".join(sorted({history.file for history in histories}))
    with_on_demand = [history.on_demand_price is not None for history in histories]
    if any(with_on_demand) and not all(with_on_demand):
        raise InputError(
            f"{files}: pool {first.pool.name} has on-demand prices in one file and none in another; "
            "accepted: files of one kind"
        )
    times = np.concatenate([history.times_ms for history in histories])
    spot = np.concatenate([history.spot_price for history in histories])
    on_demand = (
        np.concatenate([h.on_demand_price for h in histories if h.on_demand_price is not None])
        if all(with_on_demand)
        else None
    )
    order = np.argsort(times, kind="stable")
    times, spot = times[order], spot[order]
    keep = np.append(True, times[1:] != times[:-1])
    clash = ~keep[1:] & (spot[1:] != spot[:-1])
    if clash.any():
        at = int(np.flatnonzero(clash)[0])
        moment = np.datetime64(int(times[at]), "ms")
        raise InputError(
            f"{files}: pool {first.pool.name} costs {spot[at]} and {spot[at + 1]} at {moment} UTC; "
            "accepted: one price per moment"
        )
    return replace(
        first,
        file=files,
        times_ms=times[keep],
        spot_price=spot[keep],
        on_demand_price=None if on_demand is None else on_demand[order][keep],
        end_ms=max(history.end_ms for history in histories),
    )
