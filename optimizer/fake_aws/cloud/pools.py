"""What each pool offers and costs at a moment, read from a market."""

from __future__ import annotations

import hashlib
from datetime import datetime
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from optimizer.fake_aws.clock import milliseconds
from simulator.errors import InputError
from simulator.market import Market, Pool

PRICE_UNITS = 10**12
"""Prices are whole numbers of 1e-12 USD per hour, so that bills add up exactly in any order."""
HOUR_MS = 3_600_000
UNITS_PER_USD = PRICE_UNITS * HOUR_MS
"""A bill is a whole number of 1e-12 USD x milliseconds / hour."""


class Pools:
    """The pools of a market on the fake cloud's clock; before the first tick and after the last, they hold.

    Attributes:
        pools: The pools, by index.
        anchor_ms: When tick 0 begins.
    """

    def __init__(self, market: Market, anchor: datetime) -> None:
        self.pools: tuple[Pool, ...] = market.pools
        self.anchor_ms = milliseconds(anchor)
        self.ticks = market.ticks
        self.tick_ms = market.tick_seconds * 1000
        self._capacity = market.spot_capacity
        self._price = {"spot": market.spot_price, "on-demand": market.on_demand_price}
        self._sums: dict[tuple[int, str], list[int]] = {}
        self._index = {(pool.zone, pool.instance_type): i for i, pool in enumerate(self.pools)}
        if len(self._index) != len(self.pools):
            raise InputError(
                "the market has a zone and instance type twice; accepted: one provider per market"
            )
        self.zones: dict[str, list[str]] = {}
        for pool in sorted(self.pools):
            zones = self.zones.setdefault(pool.region, [])
            if pool.zone not in zones:
                zones.append(pool.zone)
        if len({zone for zones in self.zones.values() for zone in zones}) != sum(
            map(len, self.zones.values())
        ):
            raise InputError("the market has a zone in two regions; accepted: every zone in one region")

    def find(self, zone: str, instance_type: str) -> int | None:
        """Index of a pool, None if the market has no such pool."""
        return self._index.get((zone, instance_type))

    def in_region(self, region: str) -> list[int]:
        """Indices of the pools of a region."""
        return [i for i, pool in enumerate(self.pools) if pool.region == region]

    def tick_at(self, ms: int) -> int:
        """The tick in force at a moment, 0 to T - 1."""
        return min(max((ms - self.anchor_ms) // self.tick_ms, 0), self.ticks - 1)

    def starts_at(self, tick: int) -> int:
        """When a tick begins."""
        return self.anchor_ms + tick * self.tick_ms

    def capacity(self, pool: int, tick: int) -> int:
        """Spot instances that the pool can hold during a tick."""
        return int(self._capacity[pool, tick])

    def price(self, pool: int, lifecycle: str, tick: int) -> float:
        """USD per hour."""
        return float(self._price[lifecycle][pool, tick])

    def spot_prices(self, pool: int) -> NDArray[np.float64]:
        """(T,) USD per hour."""
        prices: NDArray[np.float64] = self._price["spot"][pool]
        return prices

    def cost(self, pool: int, lifecycle: str, start_ms: int, end_ms: int) -> int:
        """Cost of one instance over [start, end), in bill units (`UNITS_PER_USD`)."""
        return self._sum_until(pool, lifecycle, end_ms) - self._sum_until(pool, lifecycle, start_ms)

    def price_units(self, pool: int, lifecycle: str, ms: int) -> int:
        """Price at a moment in 1e-12 USD per hour, as bills use it."""
        return round(self.price(pool, lifecycle, self.tick_at(ms)) * PRICE_UNITS)

    def _sum_until(self, pool: int, lifecycle: str, ms: int) -> int:
        sums = self._sums.get((pool, lifecycle))
        if sums is None:
            units = (round(price * PRICE_UNITS) for price in self._price[lifecycle][pool].tolist())
            sums = list(accumulate((unit * self.tick_ms for unit in units), initial=0))
            self._sums[pool, lifecycle] = sums
        tick = self.tick_at(ms)
        unit = (sums[tick + 1] - sums[tick]) // self.tick_ms
        return sums[tick] + unit * (ms - self.starts_at(tick))


def subnet_of(zone: str) -> str:
    """The one subnet of a zone."""
    return f"subnet-{hashlib.sha256(zone.encode()).hexdigest()[:17]}"
