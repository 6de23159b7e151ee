"""What the journal and the log say of jobs: that one is done, or that a deadline was missed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from optimizer.controller.jobs import JobFleet
from optimizer.controller.observe import Tell
from simulator.deadline.observation import BoolArray


def tell_of_jobs(
    fleet: JobFleet, done_before: BoolArray, late_before: BoolArray, acts: Callable[[str], bool], tell: Tell
) -> None:
    """Tell what a look changed.

    Args:
        fleet: The jobs after it.
        done_before: (N,) `done` before it.
        late_before: (N,) `missed` before it.
        acts: Whether a workload is acted on; who does not act is not to blame for a deadline.
        tell: Takes events.
    """
    for row in np.flatnonzero(fleet.done & ~done_before):
        early = (fleet.deadline[row] - fleet.finished_at[row]) / 3600.0
        when = f"{abs(early):.2f} h {'before' if early >= 0 else 'after'} its deadline"
        tell(
            "info",
            "job-done",
            f"{fleet.names[row]} is done, {when}, for {fleet.cost[row]:.2f} USD "
            f"({fleet.on_demand_cost[row]:.2f} on on-demand capacity)",
        )
    for row in np.flatnonzero(fleet.missed & ~late_before):
        if acts(fleet.names[row]):
            tell("error", "deadline-missed", f"{fleet.names[row]} is not done in time")
