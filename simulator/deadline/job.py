"""Deadline jobs: a fixed amount of work that is due by a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

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

    Raises:
        InputError: A value is out of range, or the job could not be kept even on on-demand
            capacity from its first second on.
    """

    work_seconds: float
    deadline_seconds: float
    restart_overhead_seconds: float = 0.0
    checkpoint_interval_seconds: float = 0.0
    nodes: int = 1

    def __post_init__(self) -> None:
        """Check the ranges and refuse a job that cannot be kept."""
        for name, value, lowest in (
            ("work", self.work_seconds, 0.0),
            ("deadline", self.deadline_seconds, 0.0),
            ("restart overhead", self.restart_overhead_seconds, -1.0),
            ("checkpoint interval", self.checkpoint_interval_seconds, -1.0),
        ):
            if not math.isfinite(value) or value <= lowest or (lowest < 0 and value < 0):
                accepted = "more than 0" if lowest == 0 else "0 or more"
                raise InputError(f"{name} of {value} s; accepted: finite, {accepted}")
        if self.nodes < 1 or self.nodes != int(self.nodes):
            raise InputError(f"{self.nodes} nodes; accepted: 1, 2, 3, ...")
        if self.slack_seconds < self.restart_overhead_seconds:
            raise InputError(
                f"infeasible job: {self.work_seconds / 3600:g} h of work due in "
                f"{self.deadline_seconds / 3600:g} h leave {self.slack_seconds / 60:g} min of slack, less "
                f"than the restart overhead of {self.restart_overhead_seconds / 60:g} min; "
                "accepted: deadline >= work + restart overhead"
            )

    @property
    def slack_seconds(self) -> float:
        """Time left minus work left at the start."""
        return self.deadline_seconds - self.work_seconds
