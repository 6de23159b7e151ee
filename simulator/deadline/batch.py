"""N deadline jobs in lock-step over recorded markets: the world that replay and environments share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.deadline.job import DeadlineJob
from simulator.deadline.kernel import advance, look, reveal
from simulator.deadline.observation import (
    FIRST_SPOT,
    IDLE,
    NEVER,
    BoolArray,
    DeadlineObservation,
    FloatArray,
    IntArray,
    PartialObservation,
)
from simulator.deadline.terms import PoolTerms, StackTerms
from simulator.errors import InputError
from simulator.market import Market, ticks_for

LAUNCHES, INTERRUPTIONS, FAILED_LAUNCHES, IDLE_TICKS, ON_DEMAND_TICKS, SPOT_TICKS = range(6)
"""Columns of `DeadlineBatch.counts`."""

Observability = Literal["full", "occupied", "probed"]
"""What jobs know of the availability of pools: all of it; that of the pool they occupy or ask; or that and at
each tick one pool more, the one of which they have known nothing for longest.

Of one pool, `probed` is `full`, and with `occupied` asking is the only way to look while it is not occupied.

Who sees all pools asks none in vain: a launch that fails leaves the job idle for the tick. Who does not asks
before it lets go of what it has: a launch that fails leaves the job where it is."""

STATE = (
    "market",
    "start",
    "nodes",
    "committed",
    "work_total",
    "deadline",
    "due",
    "lateness_price",
    "restart_overhead",
    "checkpoint_interval",
    "spot_scale",
    "on_demand_scale",
    "tick",
    "work_left",
    "unsaved",
    "placement",
    "pending",
    "cost",
    "lateness",
    "counts",
    "done",
    "missed",
)
"""Arrays that `DeadlineBatch.state` saves."""


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


class DeadlineBatch:
    """State of N jobs. Jobs may be replaced one by one (`assign`), which is how environments reset.

    Every state array is (N,) and public: `work_left`, `unsaved`, `pending` in seconds, `placement`,
    `tick` (ticks elapsed), `cost` in USD and in it `lateness`, the cost of being late, `done`, `missed`;
    `counts` is (N, 6), see the constants.
    `home` (N,) is where the data are, if the stack has terms.
    `known_available` and `knowledge_age`, (N, P), are what jobs know of pools unless they see them all.
    """

    def __init__(self, stack: MarketStack, size: int, observability: Observability = "full") -> None:
        """Make room for `size` jobs; each must be given with `assign` before the first step.

        Raises:
            InputError: The observability is unknown.
        """
        self.observability = check_observability(observability)
        self.stack = stack
        self.size = size
        self.market = np.zeros(size, np.int64)
        self.start = np.zeros(size, np.int64)
        self.nodes = np.ones(size, np.int64)
        self.committed = np.zeros(size, np.int64)
        self.work_total = np.zeros(size)
        self.deadline = np.zeros(size)
        self.due = np.zeros(size)
        self.lateness_price = np.zeros(size)
        self.restart_overhead = np.zeros(size)
        self.checkpoint_interval = np.zeros(size)
        self.spot_scale = np.ones(size)
        self.on_demand_scale = np.ones(size)
        self.tick = np.zeros(size, np.int64)
        self.work_left = np.zeros(size)
        self.unsaved = np.zeros(size)
        self.placement = np.zeros(size, np.int64)
        self.pending = np.zeros(size)
        self.cost = np.zeros(size)
        self.lateness = np.zeros(size)
        self.counts = np.zeros((size, 6), np.int32)
        self.done: BoolArray = np.ones(size, np.bool_)
        self.missed: BoolArray = np.zeros(size, np.bool_)
        self._terms = None if stack.terms is None else stack.terms.arrays
        self.home = np.zeros(0 if stack.terms is None else size, np.int64)
        self._tick_cost = np.zeros(size)
        self._available: BoolArray = np.zeros((size, stack.pools), np.bool_)
        self._spot_price = np.zeros((size, stack.pools))
        self._on_demand_price = np.zeros(size)
        self.known_available: BoolArray = np.zeros((size, stack.pools), np.bool_)
        self.knowledge_age = np.full((size, stack.pools), NEVER, np.int64)

    @classmethod
    def of(
        cls,
        stack: MarketStack,
        job: DeadlineJob,
        market: ArrayLike,
        start: ArrayLike,
        observability: Observability = "full",
    ) -> DeadlineBatch:
        """The same job begun in several markets and at several ticks.

        Args:
            stack: The markets.
            job: The job.
            market: (N,) index into the stack.
            start: (N,) tick at which the job begins.
            observability: What the jobs know of pools.

        Raises:
            InputError: A window reaches beyond its market, the stack was made for other terms, or see
                `DeadlineBatch`.
        """
        stack.refuse_other_terms(job)
        starts = np.atleast_1d(np.asarray(start, np.int64))
        batch = cls(stack, len(starts), observability)
        batch.assign(
            np.arange(len(starts)),
            market=market,
            start=starts,
            work=job.on_demand_seconds,
            deadline=job.deadline_seconds,
            restart_overhead=job.restart_overhead_seconds,
            checkpoint_interval=job.on_demand_checkpoint_seconds,
            nodes=job.nodes,
            committed=job.committed,
            due=job.due_or_deadline_seconds,
            lateness_price=job.lateness_usd_per_hour,
        )
        return batch

    def assign(
        self,
        which: IntArray,
        *,
        market: ArrayLike,
        start: ArrayLike,
        work: ArrayLike,
        deadline: ArrayLike,
        restart_overhead: ArrayLike,
        checkpoint_interval: ArrayLike = 0.0,
        nodes: ArrayLike = 1,
        spot_scale: ArrayLike = 1.0,
        on_demand_scale: ArrayLike = 1.0,
        committed: ArrayLike = 0,
        due: ArrayLike | None = None,
        lateness_price: ArrayLike = 0.0,
    ) -> None:
        """Begin new jobs in rows `which`; arguments are scalars or one value per row.

        Seconds for `work`, `deadline`, `restart_overhead`, `checkpoint_interval`. The scales
        multiply the market's prices (1.0 = as recorded). `due`, seconds, is the deadline by default;
        `lateness_price` is USD per hour after it. See `DeadlineJob` for `committed`. On a stack with terms
        `work` and `checkpoint_interval` are seconds on on-demand capacity.

        Raises:
            InputError: A window reaches beyond its market, or a job is infeasible.
        """
        self.market[which] = market
        self.start[which] = start
        self.work_total[which] = work
        self.deadline[which] = deadline
        self.restart_overhead[which] = restart_overhead
        self.checkpoint_interval[which] = checkpoint_interval
        self.nodes[which] = nodes
        self.committed[which] = committed
        self.due[which] = deadline if due is None else due
        self.lateness_price[which] = lateness_price
        self.spot_scale[which] = spot_scale
        self.on_demand_scale[which] = on_demand_scale
        needed = np.ceil(self.deadline[which] / self.stack.tick_seconds - 1e-9).astype(np.int64)
        beyond = self.start[which] + needed > self.stack.ticks[self.market[which]]
        if beyond.any() or (self.start[which] < 0).any():
            row = int(np.argmax(beyond))
            raise InputError(
                f"a window of {needed[row]} ticks from tick {self.start[which][row]} does not fit "
                f"a market of {self.stack.ticks[self.market[which]][row]} ticks"
            )
        slack = self.deadline[which] - self.work_total[which]
        if (slack < self.restart_overhead[which]).any():
            raise InputError("infeasible job: the slack is less than one restart overhead")
        self.work_left[which] = self.work_total[which]
        for array in (
            self.tick,
            self.unsaved,
            self.placement,
            self.pending,
            self.cost,
            self.lateness,
            self.counts,
        ):
            array[which] = 0
        if self.stack.terms is not None:
            self.home[which] = self.stack.terms.data[self.market[which]]
        self.done[which] = False
        self.missed[which] = False
        self._look()
        if self.observability != "full":
            self.known_available[which] = False
            self.knowledge_age[which] = NEVER
            if self.observability == "probed":
                self.known_available[which, 0] = self._available[which, 0]
                self.knowledge_age[which, 0] = 0

    def observe(self, *, copy: bool = True) -> DeadlineObservation:
        """What a policy may see now; rows of finished jobs are stale.

        Args:
            copy: False gives views of the state that the next `step` or `assign` changes.
        """
        seen = self._observe()
        if copy:
            for field in fields(seen):
                if field.name not in ("tick_seconds", "time_left", "due_left", "probes"):
                    setattr(seen, field.name, getattr(seen, field.name).copy())
        return seen

    def _observe(self) -> DeadlineObservation:
        elapsed = self.tick * float(self.stack.tick_seconds)
        common = DeadlineObservation(
            tick_seconds=float(self.stack.tick_seconds),
            work_left=self.work_left,
            time_left=self.deadline - elapsed,
            work_total=self.work_total,
            time_total=self.deadline,
            placement=self.placement,
            pending_overhead=self.pending,
            unsaved_work=self.unsaved,
            restart_overhead=self.restart_overhead,
            checkpoint_interval=self.checkpoint_interval,
            spot_available=self._available,
            spot_price=self._spot_price,
            on_demand_price=self._on_demand_price,
            due_left=self.due - elapsed,
            lateness_price=self.lateness_price,
        )
        if self.stack.terms is not None:
            self._show_terms(common, self.stack.terms)
        if self.observability == "full":
            return common
        values = {field.name: getattr(common, field.name) for field in fields(common)}
        values["spot_available"] = self.known_available
        return PartialObservation(
            **values, knowledge_age=self.knowledge_age, probes=int(self.observability == "probed")
        )

    def _show_terms(self, seen: DeadlineObservation, terms: StackTerms) -> None:
        m = self.market
        row = np.minimum(self.start + self.tick, self.stack.ticks[m] - 1)
        seen.throughput, seen.location = terms.throughput[m], terms.location[m]
        seen.move_seconds, seen.move_usd = terms.move_seconds[m], terms.move_usd[m]
        seen.home = self.home
        scale = self.on_demand_scale * (self.nodes - self.committed)
        seen.local_on_demand_price = terms.on_demand_price[m, :, row] * scale[:, None]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Copies of the state arrays by name; `restore` on the same stack continues exactly here."""
        return {name: getattr(self, name).copy() for name in self._state_names()}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over what `state` returned.

        Raises:
            InputError: An array is missing or has another shape.
        """
        for name in self._state_names():
            if name not in state or state[name].shape != getattr(self, name).shape:
                raise InputError(f"state of {self.size} deadline jobs: {name} is missing or of another shape")
        for name in self._state_names():
            getattr(self, name)[...] = state[name]
        self._look()

    def _state_names(self) -> tuple[str, ...]:
        names = STATE if self.stack.terms is None else (*STATE, "home")
        return names if self.observability == "full" else (*names, "known_available", "knowledge_age")

    def step(self, action: IntArray) -> FloatArray:
        """Run one tick.

        Args:
            action: (N,) `IDLE`, `ON_DEMAND` or `FIRST_SPOT + p`. Asking for a pool that has no
                capacity is a failed launch and leaves the job idle, or where it is if it could not have
                known (see `Observability`). Ignored for finished jobs.

        Returns:
            (N,) USD billed in this tick; overwritten by the next call.

        Raises:
            InputError: An action is not one of the P + 2, or there is not one int64 per job.
        """
        if action.shape != (self.size,) or action.dtype != np.int64:
            raise InputError(
                f"actions of shape {action.shape} and type {action.dtype}; accepted: ({self.size},) int64"
            )
        if ((action < 0) | (action >= self.stack.pools + 2))[~self.done].any():
            raise InputError(f"an action is out of range; accepted: 0 to {self.stack.pools + 1}")
        advance(
            float(self.stack.tick_seconds),
            self.observability != "full",
            self.stack.capacity,
            self.stack.spot_price,
            self.stack.on_demand_price,
            self.market,
            self.start,
            self.nodes,
            self.committed,
            self.deadline,
            self.due,
            self.lateness_price,
            self.restart_overhead,
            self.checkpoint_interval,
            self.spot_scale,
            self.on_demand_scale,
            self._terms,
            action,
            self.tick,
            self.work_left,
            self.unsaved,
            self.placement,
            self.pending,
            self.home,
            self.cost,
            self.lateness,
            self.counts,
            self.done,
            self.missed,
            self._tick_cost,
        )
        self._look()
        if self.observability != "full":
            reveal(
                self.stack.capacity,
                self.market,
                self.start,
                self.nodes,
                self.tick,
                self.done,
                action,
                self.observability == "probed",
                self.known_available,
                self.knowledge_age,
            )
        return self._tick_cost

    def granted(self, action: IntArray) -> IntArray:
        """(N,) what each action comes to in this tick, given that a launch in a pool without spot fails."""
        wants = np.flatnonzero(action >= FIRST_SPOT)
        failed = wants[~self._available[wants, action[wants] - FIRST_SPOT]]
        granted = action.copy()
        granted[failed] = IDLE if self.observability == "full" else self.placement[failed]
        return granted

    def _look(self) -> None:
        look(
            self.stack.capacity,
            self.stack.spot_price,
            self.stack.on_demand_price,
            self.market,
            self.start,
            self.nodes,
            self.committed,
            self.spot_scale,
            self.on_demand_scale,
            self._terms,
            self.home,
            self.tick,
            self.done,
            self._available,
            self._spot_price,
            self._on_demand_price,
        )


def check_observability(observability: str) -> Observability:
    """The observability, if it is one.

    Raises:
        InputError: It is unknown.
    """
    if observability not in get_args(Observability):
        raise InputError(f"observability {observability!r}; accepted: {', '.join(get_args(Observability))}")
    return cast("Observability", observability)


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
