"""What a market holds, in figures: one row per pool."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.market.market import UNLIMITED_CAPACITY, Market


@dataclass(frozen=True)
class PriceSummary:
    """USD per instance-hour over all ticks."""

    min: float
    median: float
    mean: float
    max: float


@dataclass(frozen=True)
class PoolSummary:
    """Figures of one pool.

    Attributes:
        name: Name of the pool.
        provider: Cloud.
        region: Region.
        zone: Zone.
        instance_type: Instance type.
        availability: Share of ticks with spot capacity, 0 to 1.
        interruptions: How often capacity went from some to none.
        mean_up_hours: Mean length of a run of ticks with capacity; None if there is none.
        mean_down_hours: Mean length of a run without; None if there is none.
        highest_capacity: Most instances at any tick; None means unlimited.
        spot_price: Spot price.
        on_demand_price: On-demand price.
        spot_to_on_demand: Mean spot price over mean on-demand price.
    """

    name: str
    provider: str
    region: str
    zone: str
    instance_type: str
    availability: float
    interruptions: int
    mean_up_hours: float | None
    mean_down_hours: float | None
    highest_capacity: int | None
    spot_price: PriceSummary
    on_demand_price: PriceSummary
    spot_to_on_demand: float


@dataclass(frozen=True)
class MarketSummary:
    """Figures of a market: its clock, its source and its pools.

    Attributes:
        source: Where the data came from and what was assumed.
        start: UTC time of tick 0, ISO 8601.
        end: UTC time at which the last tick ends.
        tick_seconds: Seconds per tick.
        ticks: Number of ticks.
        days: Length in days.
        pools: One entry per pool.
    """

    source: str
    start: str
    end: str
    tick_seconds: int
    ticks: int
    days: float
    pools: tuple[PoolSummary, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dictionaries and lists, for JSON."""
        return asdict(self)


def summarise(market: Market) -> MarketSummary:
    """Figures of `market`; runs cut off by its ends count with the length that is seen."""
    pools = []
    tick_hours = market.tick_seconds / 3600
    for row, pool in enumerate(market.pools):
        up = market.spot_capacity[row] > 0
        spot, on_demand = _prices(market.spot_price[row]), _prices(market.on_demand_price[row])
        most = int(market.spot_capacity[row].max())
        pools.append(
            PoolSummary(
                name=pool.name,
                provider=pool.provider,
                region=pool.region,
                zone=pool.zone,
                instance_type=pool.instance_type,
                availability=float(up.mean()),
                interruptions=int((up[:-1] & ~up[1:]).sum()),
                mean_up_hours=_mean_run(up, tick_hours),
                mean_down_hours=_mean_run(~up, tick_hours),
                highest_capacity=None if most == UNLIMITED_CAPACITY else most,
                spot_price=spot,
                on_demand_price=on_demand,
                spot_to_on_demand=spot.mean / on_demand.mean,
            )
        )
    return MarketSummary(
        market.source,
        market.start.isoformat(),
        market.end.isoformat(),
        market.tick_seconds,
        market.ticks,
        market.ticks * market.tick_seconds / 86_400,
        tuple(pools),
    )


def _prices(values: NDArray[np.float64]) -> PriceSummary:
    return PriceSummary(
        float(values.min()), float(np.median(values)), float(values.mean()), float(values.max())
    )


def _mean_run(inside: NDArray[np.bool_], tick_hours: float) -> float | None:
    runs = int(inside[0]) + int((~inside[:-1] & inside[1:]).sum())
    return float(inside.sum()) * tick_hours / runs if runs else None
