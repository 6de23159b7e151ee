"""N deadline jobs in lock-step over recorded markets: the world that replay and environments share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.deadline.job import DeadlineJob
from simulator.deadline.kernel import advance, look, reveal
from simulator.deadline.observability import Observability, check_observability
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
from simulator.deadline.stack import MarketStack
from simulator.deadline.terms import StackTerms
from simulator.errors import InputError

LAUNCHES, INTERRUPTIONS, FAILED_LAUNCHES, IDLE_TICKS, ON_DEMAND_TICKS, SPOT_TICKS = range(6)
"""Columns of `DeadlineBatch.counts`."""

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
        self._committed: IntArray | None = None
        self._late: tuple[FloatArray, FloatArray, FloatArray] | None = None
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
        self._leave_out()
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
        self._leave_out()
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
        odd = action.view(np.uint64) >= self.stack.pools + 2  # those below 0 too
        if np.count_nonzero(odd) and odd[~self.done].any():
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
            self._committed,
            self.deadline,
            self.restart_overhead,
            self.checkpoint_interval,
            self.spot_scale,
            self.on_demand_scale,
            self._terms,
            self._late,
            action,
            self.tick,
            self.work_left,
            self.unsaved,
            self.placement,
            self.pending,
            self.home,
            self.cost,
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

    def _leave_out(self) -> None:
        """The kernel is not given what no job has: commitments, a cost of being late."""
        self._committed = self.committed if np.count_nonzero(self.committed) else None
        late = np.count_nonzero(self.lateness_price) > 0
        self._late = (self.due, self.lateness_price, self.lateness) if late else None

    def _look(self) -> None:
        look(
            self.stack.capacity,
            self.stack.spot_price,
            self.stack.on_demand_price,
            self.market,
            self.start,
            self.nodes,
            self._committed,
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
