"""State that earlier releases saved, in the shape of this one; or the reason why it cannot be continued.

Releases that read plans of version 1 saved of a fleet's rows neither which workloads they are nor on what
terms jobs run. The key tells the workloads: it is a hash of their names, their policy and the number of
pools. Jobs that were looked at since their run in the plan began are in that run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.controller.jobs import STATE as JOB_STATE
from optimizer.controller.jobs import TERMS, JobFleet
from optimizer.controller.services import STATE as SERVICE_STATE
from optimizer.controller.services import ServiceFleet
from simulator.errors import InputError

State = Mapping[str, NDArray[Any]]
LATER = ("lateness", "on_demand_before")
"""What the first releases did not save of jobs, since they had no such thing: 0 USD."""
RECENT_SECONDS = 3600.0
"""State that was saved so long before the latest is of a plan that another one followed."""


def has_identity(state: State) -> bool:
    """Whether it says which workloads its rows are, and on what terms jobs run."""
    return "layout" in state


def completed(
    state: State,
    fleet: JobFleet | ServiceFleet | None,
    identity: State,
    latest: float,
    where: str,
) -> State | None:
    """What an earlier release saved, with what this one saves beside it.

    Args:
        state: Without identity.
        fleet: The fleet of the plan whose key it has, if there is one.
        identity: Of that fleet.
        latest: When the last look was of which anything is saved, seconds since 1970.
        where: Name of the journal.

    Returns:
        The state; None if nobody can tell whose it is, and nobody needs to.

    Raises:
        InputError: Jobs run, and nobody can tell which or until when.
    """
    jobs = "work_left" in state
    if fleet is None or state["at"].shape != (fleet.size,):
        if jobs and _running(state, latest - RECENT_SECONDS).any():
            raise _refusal(where, "jobs of a plan with other workloads")
        return None
    full: dict[str, NDArray[Any]] = {**identity, **state}
    if isinstance(fleet, JobFleet):
        full = {name: np.zeros(fleet.size) for name in LATER} | full
        same = np.isfinite(full["at"]) & (full["at"] >= fleet.begins)
        others = _running(full, -np.inf) & ~same
        if others.any():
            names = ", ".join(fleet.names[row] for row in np.flatnonzero(others)[:10].tolist())
            raise _refusal(where, names)
        full |= {name: getattr(fleet, name).copy() for name in TERMS}
        # whatever else was saved is of an earlier run, which is done
        full["begins"] = np.where(same, fleet.begins, -np.inf)
    return full


def refuse_incomplete(state: State, key: str, where: str) -> None:
    """Refuse what neither this release nor one before it saved.

    Raises:
        InputError: Something is missing.
    """
    needed = (*JOB_STATE, *TERMS) if "work_left" in state else SERVICE_STATE
    missing = [name for name in needed if name not in state]
    if missing:
        raise InputError(
            f"{where}: the saved state {key} has no {', '.join(missing)}: another release wrote it. The "
            "controller does not start on it and what runs stays as it is; start the release that wrote it"
        )


def _running(state: State, since: float) -> NDArray[np.bool_]:
    """(N,) jobs that had begun and were not done, of those looked at since a time."""
    at = np.nan_to_num(state["at"], nan=-np.inf)
    return np.asarray(np.isfinite(state["at"]) & ~state["done"] & (at >= since))


def _refusal(where: str, names: str) -> InputError:
    return InputError(
        f"{where}: an earlier release wrote this journal and did not save until when jobs are to be done. "
        f"Under way were {names}, whose run in this plan is another one. The controller does not start, and "
        "what runs stays as it is. Let that release finish them with its own plan. If what they have done "
        "may be lost, move the journal away and start again: instances are found by their tags, and those "
        "of jobs whose run has not begun are ended"
    )
