"""What the page shows beyond the report's figures: distributions and one window tick by tick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from optimizer.recommend.jobs import JobCase, follow_job
from optimizer.recommend.judge import Trial
from optimizer.recommend.result import TITLES, Role, known
from optimizer.recommend.scenarios import Judged
from optimizer.recommend.services import Case, follow
from simulator.market import Pool

LONGEST_HOURS = 168
"""Longest timeline."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """What a policy held in one window.

    Attributes:
        title: Which policy and window.
        tick_hours: Length of a tick.
        demand: (T,) instances needed; for a job 1 while it is not done.
        held: (P + 1, T) instances per pool and on-demand.
        places: Names of the P pools, and `on-demand`.
        interrupted: (T,) instances taken back at each tick.
    """

    title: str
    tick_hours: float
    demand: NDArray[np.int64]
    held: NDArray[np.int64]
    places: tuple[str, ...]
    interrupted: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Detail:
    """One workload.

    Attributes:
        monthly: By role, (N,) USD a month as each window has it.
        timeline: Of the policy of interest; None without one.
    """

    monthly: dict[Role, NDArray[np.float64]]
    timeline: Timeline | None


def detail(found: Judged, role: Role | None) -> Detail:
    """The detail of one workload; the timeline is the window of median cost of the policy of `role`."""
    trial = found.trials.get(role) if role else None
    timeline = None
    case = found.subject.case
    if role is not None and trial is not None and case is not None:
        timeline = _timeline(found, case, role, trial)
    return Detail(found.monthly, timeline)


def _places(pools: Sequence[Pool]) -> list[str]:
    """Names of pools as short as they are told apart."""
    several = len({pool.instance_type for pool in pools}) > 1
    return [f"{pool.zone} {pool.instance_type}" if several else pool.zone for pool in pools]


def _timeline(found: Judged, case: Case | JobCase, role: Role, trial: Trial) -> Timeline:
    policy = known(trial.policy, "the policy")
    ratios = trial.ratios
    chosen = int(np.argsort(ratios, kind="stable")[len(ratios) // 2])
    market = case.markets[int(case.market[chosen])].market
    hours = market.tick_seconds / 3600.0
    most = int(LONGEST_HOURS / hours)
    part = case.part(np.array([chosen]))
    if isinstance(part, JobCase):
        part = replace(part, runs=min(part.runs, max(most // part.period_ticks, 1)))
        demand, held, interrupted = follow_job(part, policy)
    else:
        demand, held, interrupted = follow(replace(part, demand=part.demand[:, :most]), policy)
    return Timeline(
        f"{TITLES[role]} ({policy}) in the window of median cost, from tick {int(case.start[chosen])} of "
        f"{case.markets[int(case.market[chosen])].file}",
        hours,
        demand,
        held,
        (*_places(found.subject.match.pools), "on-demand"),
        interrupted,
    )
