"""What a policy is shown of deadline jobs: only what a controller could know at that moment."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

IDLE = 0
"""Placement and action: nothing runs."""
ON_DEMAND = 1
"""Placement and action: the job runs on on-demand capacity."""
FIRST_SPOT = 2
"""Placement and action of spot pool p is `FIRST_SPOT + p`."""

NEVER = -1
"""Knowledge age of a pool that was not seen yet."""

NOT_VARIED: NDArray[np.float64] = np.empty((0, 0))
"""Terms of jobs for which pools differ in price only."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(slots=True)
class DeadlineObservation:
    """N deadline jobs over P pools at the start of a tick, after interruptions took effect.

    Attributes:
        tick_seconds: Length of the tick that is being decided.
        work_left: (N,) seconds of productive time still needed, on on-demand capacity.
        time_left: (N,) seconds until the deadline.
        work_total: (N,) seconds of work of the whole job.
        time_total: (N,) seconds from the job's start to its deadline.
        placement: (N,) `IDLE`, `ON_DEMAND` or `FIRST_SPOT + p`; an interrupted job is `IDLE`.
        pending_overhead: (N,) seconds the present instance still needs before it is useful.
        unsaved_work: (N,) seconds of work an interruption would lose now.
        restart_overhead: (N,) seconds a launch costs.
        checkpoint_interval: (N,) seconds of work between checkpoints, 0 = nothing is lost.
        spot_available: (N, P) whether pool p can hold the whole job now.
        spot_price: (N, P) USD per hour for the whole job.
        on_demand_price: (N,) USD per hour for the whole job, without what commitments pay.
        due_left: (N,) seconds until the job is due, negative if it is late; the time left without a cost of
            lateness.
        lateness_price: (N,) USD per hour of being late.
        throughput: (N, P) work per productive second in each pool, relative to on-demand capacity. With the
            next five arrays empty unless `varied`; see `simulator.deadline.terms.PoolTerms`.
        location: (N, P) which of L locations each pool is in.
        home: (N,) location of the data, -1 before they are anywhere.
        move_seconds: (N, L, L) time on top of the restart overhead, from one location to another.
        move_usd: (N, L, L) USD of such a launch.
        local_on_demand_price: (N, L) USD per hour for the whole job in each location; infinite where there is
            no such location.
    """

    tick_seconds: float
    work_left: FloatArray
    time_left: FloatArray
    work_total: FloatArray
    time_total: FloatArray
    placement: IntArray
    pending_overhead: FloatArray
    unsaved_work: FloatArray
    restart_overhead: FloatArray
    checkpoint_interval: FloatArray
    spot_available: BoolArray
    spot_price: FloatArray
    on_demand_price: FloatArray
    due_left: FloatArray = field(default_factory=lambda: np.zeros(0), kw_only=True)
    lateness_price: FloatArray = field(default_factory=lambda: np.zeros(0), kw_only=True)
    throughput: FloatArray = field(default_factory=lambda: NOT_VARIED, kw_only=True)
    location: IntArray = field(default_factory=lambda: NOT_VARIED.astype(np.int64), kw_only=True)
    home: IntArray = field(default_factory=lambda: np.zeros(0, np.int64), kw_only=True)
    move_seconds: FloatArray = field(default_factory=lambda: NOT_VARIED, kw_only=True)
    move_usd: FloatArray = field(default_factory=lambda: NOT_VARIED, kw_only=True)
    local_on_demand_price: FloatArray = field(default_factory=lambda: NOT_VARIED, kw_only=True)

    def __post_init__(self) -> None:
        """Without a due time, being late costs nothing."""
        if self.due_left.shape != self.time_left.shape:
            self.due_left = self.time_left
            self.lateness_price = np.zeros(self.time_left.shape)

    @property
    def jobs(self) -> int:
        """Number of jobs N."""
        return int(self.work_left.shape[0])

    @property
    def pools(self) -> int:
        """Number of pools P."""
        return int(self.spot_available.shape[1])

    def only(self, rows: IntArray) -> Self:
        """The same of the jobs `rows` alone."""
        few: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, np.ndarray) and value.size:
                few[each.name] = value[rows]
        return replace(self, **few)

    @property
    def askable(self) -> BoolArray:
        """(N, P) whether a launch in pool p may succeed: it is known to be available now, or not known."""
        return self.spot_available

    @property
    def varied(self) -> bool:
        """Whether pools differ in throughput or in what a move takes."""
        return self.throughput.size > 0

    @property
    def price_of_work(self) -> FloatArray:
        """(N, P) USD in each pool for an hour's work on on-demand capacity."""
        return self.spot_price / self.throughput if self.varied else self.spot_price

    @property
    def launch_extra(self) -> FloatArray:
        """(N, P) seconds that a launch in each pool takes on top of the restart overhead."""
        return self._of_move(self.move_seconds)

    @property
    def launch_usd(self) -> FloatArray:
        """(N, P) USD that a launch in each pool costs at once."""
        return self._of_move(self.move_usd)

    def _of_move(self, moves: FloatArray) -> FloatArray:
        if not self.varied:
            return np.zeros(self.spot_price.shape)
        rows = np.arange(self.jobs)[:, None]
        extra: FloatArray = np.where(
            self.home[:, None] < 0, 0.0, moves[rows, np.maximum(self.home, 0)[:, None], self.location]
        )
        return extra

    @property
    def slack(self) -> FloatArray:
        """(N,) seconds: time left minus work left."""
        return self.time_left - self.work_left

    @property
    def ticks_elapsed(self) -> IntArray:
        """(N,) whole ticks since each job began; 0 means that the job has just begun."""
        return np.rint((self.time_total - self.time_left) / self.tick_seconds).astype(np.int64)


@dataclass(slots=True)
class PartialObservation(DeadlineObservation):
    """What is seen when the availability of a pool is known only while it is occupied, asked or probed.

    `spot_available` is what was known last, False for a pool never seen. A launch in a pool that has no spot
    fails: the job stays where it is, and knows.

    Attributes:
        knowledge_age: (N, P) ticks since `spot_available` was true to fact; 0 = it is now, `NEVER` = never.
        probes: Pools that are looked at each tick beside those that are occupied or asked.
    """

    knowledge_age: IntArray
    probes: int

    @property
    def askable(self) -> BoolArray:
        """(N, P) whether a launch in pool p may succeed: it is known to be available now, or not known."""
        askable: BoolArray = self.spot_available | (self.knowledge_age != 0)
        return askable
