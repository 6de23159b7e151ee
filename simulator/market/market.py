"""The market: what every pool offered and cost at every tick of one clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.errors import InputError

UNLIMITED_CAPACITY = 1_000_000
"""Spot capacity that stands for "as many instances as asked"."""

HIGHEST_CELLS = 200_000_000
"""Pools x ticks of one market; 4 GB of arrays."""


@dataclass(frozen=True, slots=True, order=True)
class Pool:
    """One place where a spot instance can run: provider x region x zone x instance type."""

    provider: str
    region: str
    zone: str
    instance_type: str

    @property
    def name(self) -> str:
        """The pool as one string, `provider/zone/instance_type`; unique within a market."""
        return f"{self.provider}/{self.zone}/{self.instance_type}"


@dataclass(frozen=True, eq=False)
class Market:
    """Spot prices, spot capacity and on-demand prices of P pools over T ticks. Immutable.

    Attributes:
        pools: The P pools, all different.
        tick_seconds: Length of a tick, a positive whole number of seconds.
        start: UTC time at which tick 0 begins.
        spot_price: (P, T) float64, USD per instance-hour, finite and not negative.
        spot_capacity: (P, T) int32, spot instances available at the start of each tick;
            `UNLIMITED_CAPACITY` means as many as asked.
        on_demand_price: (P, T) float64, USD per instance-hour, finite and positive.
        source: Where the data came from, for reports; free text.

    Raises:
        InputError: Shapes differ, a value is out of range, or a pool appears twice.
    """

    pools: tuple[Pool, ...]
    tick_seconds: int
    start: datetime
    spot_price: NDArray[np.float64]
    spot_capacity: NDArray[np.int32]
    on_demand_price: NDArray[np.float64]
    source: str = ""

    @classmethod
    def build(
        cls,
        pools: Sequence[Pool],
        *,
        tick_seconds: int,
        start: datetime,
        spot_price: ArrayLike,
        spot_capacity: ArrayLike,
        on_demand_price: ArrayLike,
        source: str = "",
    ) -> Market:
        """Make a market from anything array-like.

        Args:
            pools: P pools.
            tick_seconds: Seconds per tick.
            start: Aware datetime of tick 0.
            spot_price: (P, T), or anything that broadcasts to the shape of `spot_capacity`.
            spot_capacity: (P, T) instances.
            on_demand_price: (P, T), or anything that broadcasts to it; a (P,) array is one
                price per pool.
            source: Free text.

        Returns:
            The validated market.

        Raises:
            InputError: See the class.
        """
        capacity = np.array(spot_capacity)
        if capacity.ndim != 2:
            raise InputError(f"spot capacity has {capacity.ndim} dimensions; accepted: 2 (pools x ticks)")
        if not np.isfinite(capacity).all() or (capacity != np.floor(capacity)).any():
            raise InputError("spot capacity has values that are not whole numbers; accepted: 0, 1, 2, ...")
        return cls(
            tuple(pools),
            tick_seconds,
            start,
            _broadcast(spot_price, capacity.shape, "spot price"),
            np.clip(capacity, -1, UNLIMITED_CAPACITY).astype(np.int32),
            _broadcast(on_demand_price, capacity.shape, "on-demand price"),
            source,
        )

    def __post_init__(self) -> None:
        """Check every invariant and freeze the arrays."""
        if self.start.tzinfo is None:
            raise InputError("market start has no time zone; accepted: an aware UTC datetime")
        object.__setattr__(self, "start", self.start.astimezone(UTC))
        if self.tick_seconds != int(self.tick_seconds) or self.tick_seconds <= 0:
            raise InputError(f"tick of {self.tick_seconds} s; accepted: a positive whole number of seconds")
        if not self.pools:
            raise InputError("a market needs at least one pool")
        if len(set(self.pools)) != len(self.pools):
            twice = next(pool for pool in self.pools if self.pools.count(pool) > 1)
            raise InputError(f"pool {twice.name} appears twice; every pool of a market must be different")
        shape = self.spot_capacity.shape
        if self.spot_price.shape != shape or self.on_demand_price.shape != shape:
            raise InputError(
                f"shapes differ: spot price {self.spot_price.shape}, capacity {shape}, "
                f"on-demand price {self.on_demand_price.shape}; accepted: all (pools, ticks)"
            )
        if len(shape) != 2 or shape[0] != len(self.pools) or shape[1] == 0:
            raise InputError(
                f"arrays of shape {shape} for {len(self.pools)} pools; accepted: (pools, ticks >= 1)"
            )
        self._check_range("spot price", self.spot_price, lowest=0.0, exclusive=False)
        self._check_range("on-demand price", self.on_demand_price, lowest=0.0, exclusive=True)
        self._check_range("spot capacity", self.spot_capacity, lowest=0.0, exclusive=False)
        for array in (self.spot_price, self.spot_capacity, self.on_demand_price):
            array.flags.writeable = False
        try:
            _ = self.end
        except OverflowError:
            raise InputError(
                f"{self.ticks} ticks of {self.tick_seconds} s from {self.start} end after the year 9999; "
                "accepted: markets of this era"
            ) from None

    def _check_range(
        self,
        what: str,
        values: NDArray[np.float64] | NDArray[np.int32],
        *,
        lowest: float,
        exclusive: bool,
    ) -> None:
        bad = ~np.isfinite(values) | (values <= lowest if exclusive else values < lowest)
        if bad.any():
            pool, tick = (int(index[0]) for index in np.nonzero(bad))
            accepted = f"{'more than' if exclusive else 'at least'} {lowest:g}"
            raise InputError(
                f"{what} of pool {self.pools[pool].name} at tick {tick} is {values[pool, tick]}; "
                f"accepted: finite, {accepted}"
            )

    @property
    def ticks(self) -> int:
        """Number of ticks T."""
        return int(self.spot_capacity.shape[1])

    @property
    def end(self) -> datetime:
        """UTC time at which the last tick ends."""
        return self.start + timedelta(seconds=self.tick_seconds * self.ticks)

    def window(self, start: int, ticks: int) -> Market:
        """The market of `ticks` ticks from tick `start` on.

        Raises:
            InputError: The window does not lie inside the market.
        """
        if start < 0 or ticks < 1 or start + ticks > self.ticks:
            raise InputError(
                f"window of {ticks} ticks from tick {start} does not fit a market of {self.ticks} ticks"
            )
        span = slice(start, start + ticks)
        return Market(
            self.pools,
            self.tick_seconds,
            self.start + timedelta(seconds=self.tick_seconds * start),
            self.spot_price[:, span],
            self.spot_capacity[:, span],
            self.on_demand_price[:, span],
            self.source,
        )

    def repeated(self, ticks: int) -> Market:
        """The market played again from its begin until it has `ticks` ticks.

        Raises:
            InputError: `ticks` is below 1 or more than a market may hold.
        """
        if not 1 <= ticks * len(self.pools) <= HIGHEST_CELLS:
            raise InputError(
                f"{len(self.pools)} pools x {ticks} ticks; accepted: 1 to {HIGHEST_CELLS:,} of both"
            )
        place = np.arange(ticks) % self.ticks
        times = f"repeated {ticks / self.ticks:.2f} times" if ticks > self.ticks else ""
        return Market(
            self.pools,
            self.tick_seconds,
            self.start,
            self.spot_price[:, place],
            self.spot_capacity[:, place],
            self.on_demand_price[:, place],
            "; ".join(part for part in (self.source, times) if part),
        )

    def select(self, pools: Iterable[int | str]) -> Market:
        """The market of some of the pools, given by index or by name, in that order.

        Raises:
            InputError: A pool is not in the market.
        """
        names = [pool.name for pool in self.pools]
        index: list[int] = []
        for pool in pools:
            if isinstance(pool, str):
                if pool not in names:
                    raise InputError(f"pool {pool} is not in the market; it has {', '.join(names)}")
                index.append(names.index(pool))
            elif 0 <= pool < len(names):
                index.append(pool)
            else:
                raise InputError(f"pool {pool} is not in the market; accepted: 0 to {len(names) - 1}")
        return Market(
            tuple(self.pools[i] for i in index),
            self.tick_seconds,
            self.start,
            self.spot_price[index],
            self.spot_capacity[index],
            self.on_demand_price[index],
            self.source,
        )

    def save(self, path: Path) -> None:
        """Write the market to `path` (`.npz`, no pickle), whole or not at all."""
        from simulator.market.store import (
            save_market,
        )  # late: the store needs this module

        save_market(self, path)

    @classmethod
    def load(cls, path: Path) -> Market:
        """Read a market file that `save` wrote.

        Raises:
            InputError: The file is missing, damaged, of another version or out of range.
        """
        from simulator.market.store import (
            load_market,
        )  # late: the store needs this module

        return load_market(path)


def _broadcast(values: ArrayLike, shape: tuple[int, ...], what: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 1 and array.shape[0] == shape[0]:
        array = array[:, None]
    try:
        return np.array(np.broadcast_to(array, shape))
    except ValueError:
        raise InputError(f"{what} has shape {array.shape}; accepted: something that fills {shape}") from None


def ticks_for(seconds: float, tick_seconds: int) -> int:
    """Whole ticks that cover `seconds`."""
    return math.ceil(seconds / tick_seconds - 1e-9)
