"""What a job makes of pools that differ in more than price: throughputs, and moves between regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError
from simulator.market import Market, Pool

HIGHEST_THROUGHPUT = 100.0
LOWEST_THROUGHPUT = 0.01
NOWHERE = -1
"""Location of data that were not laid anywhere yet."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Move:
    """What it takes to begin in `destination` when the data are in `origin`; both are regions.

    Attributes:
        origin: Region that holds the data.
        destination: Region of the pool that is launched.
        seconds: Time on top of the restart overhead, paid for like it.
        usd: Cost, once for each launch.
    """

    origin: str
    destination: str
    seconds: float
    usd: float


@dataclass(frozen=True, slots=True)
class PoolTerms:
    """Throughput of each pool, and what a move of the data between regions takes.

    Work is counted in seconds at throughput 1. The data lie in the region in which the job was first launched
    (or in `data_region` before that), and then in the one in which it last began to work: a launch elsewhere
    takes `move_seconds` on top of the restart overhead and costs `move_usd` at once; once both are over, the
    data are there. If the instance is lost or left before, they are still where they were, and the money is
    gone. On-demand capacity is always taken where the data are, so going there moves nothing; its price is
    the lowest of that region's pools (see `StackTerms.of`).

    Attributes:
        throughput: Work per productive second of pools, by pool name (`provider/zone/instance_type`) or by
            instance type; the pool's name wins. 1 for all others.
        on_demand_throughput: The same of on-demand capacity, everywhere.
        move_seconds: Of a move between any two regions that `moves` does not name.
        move_usd: The same.
        moves: Of some pairs of regions, in one direction each.
        data_region: Where the data are before the first launch; None = it begins anywhere for nothing.

    Raises:
        InputError: A value is out of range, or something is given twice.
    """

    throughput: tuple[tuple[str, float], ...] = ()
    on_demand_throughput: float = 1.0
    move_seconds: float = 0.0
    move_usd: float = 0.0
    moves: tuple[Move, ...] = ()
    data_region: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, factor in (*self.throughput, ("on-demand", self.on_demand_throughput)):
            if not LOWEST_THROUGHPUT <= factor <= HIGHEST_THROUGHPUT:
                raise InputError(
                    f"throughput of {name} is {factor}; accepted: {LOWEST_THROUGHPUT} to "
                    f"{HIGHEST_THROUGHPUT:g} (1 = as the work is counted)"
                )
        every = (Move("any region", "another", self.move_seconds, self.move_usd), *self.moves)
        for move in every:
            for value, unit in ((move.seconds, "s"), (move.usd, "USD")):
                if not math.isfinite(value) or value < 0.0:
                    raise InputError(
                        f"move from {move.origin} to {move.destination}: {value} {unit}; accepted: 0 or more"
                    )
            if move.origin == move.destination:
                raise InputError(f"move from {move.origin} to itself; moves within a region take nothing")
        for what, names in (
            ("throughput of", [name for name, _ in self.throughput]),
            ("move", [f"{move.origin} to {move.destination}" for move in self.moves]),
        ):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise InputError(f"{what} {twice[0]} is given twice; give it once")

    @classmethod
    def for_data(
        cls,
        gigabytes: float,
        *,
        usd_per_gigabyte: float,
        megabytes_per_second: float,
        throughput: tuple[tuple[str, float], ...] = (),
        data_region: str | None = None,
    ) -> PoolTerms:
        """Terms under which each move copies `gigabytes` at one price and one speed.

        Raises:
            InputError: The speed is not positive, or see the class.
        """
        if not megabytes_per_second > 0.0:
            raise InputError(f"copies at {megabytes_per_second} MB/s; accepted: more than 0")
        return cls(
            throughput=throughput,
            move_seconds=gigabytes * 1000.0 / megabytes_per_second,
            move_usd=gigabytes * usd_per_gigabyte,
            data_region=data_region,
        )

    @property
    def moves_cost(self) -> bool:
        """Whether it matters where the data are."""
        return any(move.seconds > 0 or move.usd > 0 for move in self.moves) or (
            self.move_seconds > 0 or self.move_usd > 0
        )

    def of_pool(self, pool: Pool) -> float:
        """Throughput of a pool."""
        known = dict(self.throughput)
        return known.get(pool.name, known.get(pool.instance_type, 1.0))

    def between(self, origin: str, destination: str) -> tuple[float, float]:
        """Seconds and USD of a move between two regions, which may be the same."""
        if origin == destination:
            return 0.0, 0.0
        for move in self.moves:
            if (move.origin, move.destination) == (origin, destination):
                return move.seconds, move.usd
        return self.move_seconds, self.move_usd

    def check(self, markets: Sequence[Market]) -> None:
        """Refuse names that none of the markets has.

        Raises:
            InputError: A pool, an instance type or a region is unknown.
        """
        pools = [pool for market in markets for pool in market.pools]
        names = {pool.name for pool in pools} | {pool.instance_type for pool in pools}
        regions = {pool.region for pool in pools}
        for name, _ in self.throughput:
            if name not in names:
                raise InputError(
                    f"throughput of {name}: no such pool or instance type; accepted: "
                    f"{', '.join(sorted(names))}"
                )
        for region in [region for move in self.moves for region in (move.origin, move.destination)]:
            if region not in regions:
                raise InputError(f"region {region}: no pool is there; accepted: {', '.join(sorted(regions))}")


@dataclass(frozen=True, eq=False)
class StackTerms:
    """Terms of M markets of P pools as arrays, with work counted in seconds on on-demand capacity.

    Attributes:
        source: What they were made of; the job of a batch must have the same.
        throughput: (M, P) work per productive second, relative to on-demand capacity.
        location: (M, P) which of L locations each pool is in.
        move_seconds: (M, L, L) from, to; 0 on the diagonal.
        move_usd: (M, L, L).
        on_demand_price: (M, L, T) USD per instance-hour.
        data: (M,) location of the data before the first launch, or `NOWHERE`.
    """

    source: PoolTerms
    throughput: FloatArray
    location: IntArray
    move_seconds: FloatArray
    move_usd: FloatArray
    on_demand_price: FloatArray
    data: IntArray

    @classmethod
    def of(cls, market: Market, terms: PoolTerms) -> StackTerms:
        """Terms of one market.

        Locations are the regions of its pools, or one if no move takes anything. On-demand capacity has the
        lowest on-demand price of the location's pools with at least its throughput; without any, of the
        fastest.

        Raises:
            InputError: The data begin in a region in which the market has no pool.
        """
        regions = [pool.region for pool in market.pools]
        places = list(dict.fromkeys(regions)) if terms.moves_cost else [""]
        location = np.array([places.index(region) if terms.moves_cost else 0 for region in regions])
        factor = np.array([terms.of_pool(pool) for pool in market.pools])
        price = np.empty((len(places), market.ticks))
        for k in range(len(places)):
            there = np.flatnonzero(location == k)
            enough = min(terms.on_demand_throughput, float(factor[there].max()))
            price[k] = market.on_demand_price[there[factor[there] >= enough]].min(axis=0)
        moves = np.array([[terms.between(a, b) for b in places] for a in places])
        if terms.moves_cost and terms.data_region is not None and terms.data_region not in places:
            raise InputError(
                f"data in region {terms.data_region}: no pool is there; accepted: {', '.join(places)}"
            )
        data = NOWHERE
        if len(places) == 1:
            data = 0
        elif terms.data_region is not None:
            data = places.index(terms.data_region)
        return cls(
            terms,
            (factor / terms.on_demand_throughput)[None],
            location[None].astype(np.int64),
            np.ascontiguousarray(moves[None, :, :, 0]),
            np.ascontiguousarray(moves[None, :, :, 1]),
            price[None],
            np.array([data], np.int64),
        )

    @classmethod
    def join(cls, parts: Sequence[StackTerms], ticks: int) -> StackTerms:
        """Terms of several stacks as one of `ticks` ticks; locations that a market has not are never used."""
        most = max(part.move_seconds.shape[-1] for part in parts)

        def padded(array: FloatArray, *sizes: int) -> FloatArray:
            room = [(0, size - have) for size, have in zip(sizes, array.shape[1:], strict=True)]
            return np.pad(array, [(0, 0), *room])

        def prices(array: FloatArray) -> FloatArray:
            longer = np.pad(array, [(0, 0), (0, 0), (0, ticks - array.shape[-1])])
            return np.pad(longer, [(0, 0), (0, most - array.shape[1]), (0, 0)], constant_values=np.inf)

        return cls(
            parts[0].source,
            np.concatenate([part.throughput for part in parts]),
            np.concatenate([part.location for part in parts]),
            np.concatenate([padded(part.move_seconds, most, most) for part in parts]),
            np.concatenate([padded(part.move_usd, most, most) for part in parts]),
            np.concatenate([prices(part.on_demand_price) for part in parts]),
            np.concatenate([part.data for part in parts]),
        )

    @property
    def arrays(self) -> tuple[FloatArray, IntArray, FloatArray, FloatArray, FloatArray]:
        """What `kernel.advance` is given."""
        return self.throughput, self.location, self.move_seconds, self.move_usd, self.on_demand_price
