"""Deadline jobs: a fixed amount of work that is due by a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simulator.deadline.terms import PoolTerms
from simulator.errors import InputError


@dataclass(frozen=True, slots=True)
class DeadlineJob:
    """A fixed amount of work due by a time.

    Attributes:
        work_seconds: Productive time the job needs.
        deadline_seconds: Time from its start by which it must be done.
        restart_overhead_seconds: Time a new instance is paid for before it is useful.
        checkpoint_interval_seconds: Work between two checkpoints; an interruption loses the
            work since the last one. 0 means that no work is ever lost.
        nodes: Instances the job holds together (a gang); all or none.
        due_seconds: Time from its start after which being late costs `lateness_usd_per_hour`; the deadline
            stays the time by which it must be done. None = there is no cost of lateness.
        lateness_usd_per_hour: Cost of being done after `due_seconds`, to the second.
        committed: Instances of the gang that are paid by a commitment when they are on-demand capacity.
        terms: Throughput of pools and what moves of the data take; None = pools differ in price only.

    Raises:
        InputError: A value is out of range, or the job could not be kept even on on-demand
            capacity from its first second on.
    """

    work_seconds: float
    deadline_seconds: float
    restart_overhead_seconds: float = 0.0
    checkpoint_interval_seconds: float = 0.0
    nodes: int = 1
    due_seconds: float | None = None
    lateness_usd_per_hour: float = 0.0
    committed: int = 0
    terms: PoolTerms | None = None

    def __post_init__(self) -> None:
        """Check the ranges and refuse a job that cannot be kept."""
        for name, value, unit, lowest in (
            ("work", self.work_seconds, "s", 0.0),
            ("deadline", self.deadline_seconds, "s", 0.0),
            ("restart overhead", self.restart_overhead_seconds, "s", -1.0),
            ("checkpoint interval", self.checkpoint_interval_seconds, "s", -1.0),
            ("due time", self.due_or_deadline_seconds, "s", 0.0),
            ("cost of lateness", self.lateness_usd_per_hour, "USD/hour", -1.0),
        ):
            if not math.isfinite(value) or value <= lowest or (lowest < 0 and value < 0):
                accepted = "more than 0" if lowest == 0 else "0 or more"
                raise InputError(f"{name} of {value} {unit}; accepted: finite, {accepted}")
        if self.nodes < 1 or self.nodes != int(self.nodes):
            raise InputError(f"{self.nodes} nodes; accepted: 1, 2, 3, ...")
        if not 0 <= self.committed < self.nodes or self.committed != int(self.committed):
            raise InputError(
                f"{self.committed} committed instances of {self.nodes}; accepted: 0 to {self.nodes - 1} "
                "(a job that is committed whole has nothing to decide)"
            )
        if self.due_or_deadline_seconds > self.deadline_seconds:
            raise InputError(
                f"due after {self.due_or_deadline_seconds / 3600:g} h, which is after the deadline of "
                f"{self.deadline_seconds / 3600:g} h; accepted: up to the deadline"
            )
        if self.lateness_usd_per_hour > 0 and self.due_seconds is None:
            raise InputError("a cost of lateness without a due time; give both, or none")
        if self.slack_seconds < self.restart_overhead_seconds:
            raise InputError(
                f"infeasible job: {self.on_demand_seconds / 3600:g} h of work due in "
                f"{self.deadline_seconds / 3600:g} h leave {self.slack_seconds / 60:g} min of slack, less "
                f"than the restart overhead of {self.restart_overhead_seconds / 60:g} min; "
                "accepted: deadline >= work + restart overhead"
            )

    @classmethod
    def with_checkpoint_cost(
        cls,
        work_seconds: float,
        deadline_seconds: float,
        restart_overhead_seconds: float,
        checkpoint_interval_seconds: float,
        checkpoint_cost_seconds: float,
        nodes: int = 1,
        terms: PoolTerms | None = None,
    ) -> DeadlineJob:
        """A job whose checkpoints take time to write.

        Each interval of work is followed by the writing, and both are lost if an interruption comes before
        it ends. So writing is work: the job's work grows by one cost per whole interval that is followed by
        more work, and its interval by one cost.

        Raises:
            InputError: A value is out of range, or the cost is not 0 and there is no interval.
        """
        interval, cost = checkpoint_interval_seconds, checkpoint_cost_seconds
        if not math.isfinite(cost) or cost < 0.0 or (cost > 0.0 and interval <= 0.0):
            raise InputError(
                f"checkpoint cost of {cost} s at an interval of {interval} s; accepted: 0 or more, and more "
                "than 0 only with an interval"
            )
        writings = math.ceil(work_seconds / interval - 1e-9) - 1 if cost > 0.0 else 0
        return cls(
            work_seconds + cost * writings,
            deadline_seconds,
            restart_overhead_seconds,
            interval + cost,
            nodes,
            terms=terms,
        )

    @property
    def due_or_deadline_seconds(self) -> float:
        """When the job is due: at its deadline unless it says otherwise."""
        return self.deadline_seconds if self.due_seconds is None else self.due_seconds

    def lateness_usd(self, lost_seconds: float) -> float:
        """Cost of lateness of a job that lost `lost_seconds` of slack on its way."""
        late = max(self.on_demand_seconds + lost_seconds - self.due_or_deadline_seconds, 0.0)
        return late / 3600.0 * self.lateness_usd_per_hour

    @property
    def slack_seconds(self) -> float:
        """Time left minus work left at the start, with all work on on-demand capacity."""
        return self.deadline_seconds - self.on_demand_seconds

    @property
    def on_demand_seconds(self) -> float:
        """Productive time it needs on on-demand capacity."""
        return self.work_seconds / self._on_demand_throughput

    @property
    def on_demand_checkpoint_seconds(self) -> float:
        """The checkpoint interval, in seconds of work on on-demand capacity."""
        return self.checkpoint_interval_seconds / self._on_demand_throughput

    @property
    def _on_demand_throughput(self) -> float:
        return 1.0 if self.terms is None else self.terms.on_demand_throughput
