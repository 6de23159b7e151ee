"""Markets stacked for compiled kernels, and the windows of a market that a job fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simulator.deadline.job import DeadlineJob
from simulator.deadline.observation import FloatArray, IntArray
from simulator.deadline.terms import PoolTerms, StackTerms
from simulator.errors import InputError
from simulator.market import Market, ticks_for


@dataclass(frozen=True, eq=False)
class MarketStack:
    """M markets with the same number of pools P and the same tick, padded to one length T.

    On-demand capacity is bought where it is cheapest: `on_demand_price` is the minimum over
    the pools of a market.

    Attributes:
        tick_seconds: Seconds per tick.
        capacity: (M, P, T) int32 instances.
        spot_price: (M, P, T) USD per instance-hour.
        on_demand_price: (M, T) USD per instance-hour.
        ticks: (M,) length of each market before padding.
        region: (M, P) number of each pool's region within its market; all pools are in one by default.
        terms: What else pools differ in for a job; None = in nothing.
    """

    tick_seconds: int
    capacity: NDArray[np.int32]
    spot_price: FloatArray
    on_demand_price: FloatArray
    ticks: IntArray
    region: IntArray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    terms: StackTerms | None = None

    def __post_init__(self) -> None:
        """Without regions, all pools are in one: the careful assumption."""
        if self.region.size == 0:
            object.__setattr__(self, "region", np.zeros(self.capacity.shape[:2], np.int64))

    @classmethod
    def of(cls, markets: Sequence[Market], terms: PoolTerms | None = None) -> MarketStack:
        """Stack markets, for jobs with these terms.

        Raises:
            InputError: They differ in tick or in number of pools, or there is none; or the terms name what
                none of them has.
        """
        if terms is not None:
            terms.check(markets)
        return cls.join([cls._single(market, terms) for market in markets])

    @classmethod
    def join(cls, stacks: Sequence[MarketStack]) -> MarketStack:
        """One stack of several.

        Raises:
            InputError: They differ in tick or in number of pools, or there is none.
        """
        if not stacks:
            raise InputError("no market given; at least one is needed")
        if len({stack.tick_seconds for stack in stacks}) > 1:
            ticks = sorted({stack.tick_seconds for stack in stacks})
            raise InputError(f"markets have different ticks ({ticks} s); build them with one --tick-seconds")
        if len({stack.pools for stack in stacks}) > 1:
            raise InputError(
                "markets have different numbers of pools; give those with equally many together, "
                "the others in a run of their own"
            )
        if len({stack.source for stack in stacks}) > 1:
            raise InputError("markets were stacked for jobs with different terms; give those of one job")
        longest = max(stack.capacity.shape[-1] for stack in stacks)

        def padded(array: NDArray[np.float64] | NDArray[np.int32]) -> NDArray[np.float64]:
            return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, longest - array.shape[-1])])

        return cls(
            stacks[0].tick_seconds,
            np.concatenate([padded(stack.capacity) for stack in stacks]).astype(np.int32),
            np.concatenate([padded(stack.spot_price) for stack in stacks]),
            np.concatenate([padded(stack.on_demand_price) for stack in stacks]),
            np.concatenate([stack.ticks for stack in stacks]),
            np.concatenate([stack.region for stack in stacks]),
            StackTerms.join(terms, longest)
            if (terms := [stack.terms for stack in stacks if stack.terms is not None])
            else None,
        )

    @classmethod
    def _single(cls, market: Market, terms: PoolTerms | None) -> MarketStack:
        regions = [f"{pool.provider}/{pool.region}" for pool in market.pools]
        return cls(
            market.tick_seconds,
            market.spot_capacity[None],
            market.spot_price[None],
            market.on_demand_price.min(axis=0)[None],
            np.array([market.ticks], dtype=np.int64),
            np.array([[regions.index(region) for region in regions]], dtype=np.int64),
            None if terms is None else StackTerms.of(market, terms),
        )

    @property
    def source(self) -> PoolTerms | None:
        """Terms that the stack was made for."""
        return None if self.terms is None else self.terms.source

    def refuse_other_terms(self, job: DeadlineJob) -> None:
        """Check that the stack was made for jobs with these terms.

        Raises:
            InputError: It was not: they would be ignored.
        """
        if self.source != job.terms:
            raise InputError(
                "the markets were stacked for other terms (throughputs, moves) than the job has; "
                "accepted: MarketStack.of(markets, job.terms)"
            )

    @property
    def pools(self) -> int:
        """Number of pools P."""
        return int(self.capacity.shape[1])

    @cached_property
    def by_tick(self) -> tuple[NDArray[np.int32], FloatArray]:
        """Capacity and spot price as (M, T, P): pools of a tick lie together, for kernels that use all."""
        return (
            np.ascontiguousarray(self.capacity.transpose(0, 2, 1)),
            np.ascontiguousarray(self.spot_price.transpose(0, 2, 1)),
        )


def window_starts(market: Market, job: DeadlineJob, stride: int, first: int = 0) -> IntArray:
    """Starts of the windows first, first + stride, ... in which the job fits the market.

    Raises:
        InputError: Not even one window fits, or the stride is not positive.
    """
    if stride < 1:
        raise InputError(f"window stride of {stride} ticks; accepted: 1 or more")
    needed = ticks_for(job.deadline_seconds, market.tick_seconds)
    starts = np.arange(first, market.ticks - needed + 1, stride, dtype=np.int64)
    if not len(starts):
        raise InputError(
            f"a window of {needed} ticks ({job.deadline_seconds / 3600:g} h) is longer than the market "
            f"({market.ticks} ticks, {market.ticks * market.tick_seconds / 3600:g} h)"
        )
    return starts
