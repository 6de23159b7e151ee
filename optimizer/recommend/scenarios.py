"""From trials to scenarios: a month's cost, savings, the SLA, interruptions, hours by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.recommend.jobs import JobCase, JobOutcome
from optimizer.recommend.judge import Trial, Trials
from optimizer.recommend.prepare import Subject
from optimizer.recommend.result import HOURS_PER_MONTH, Hours, MarketUse, Role, Scenario, Sla, known
from optimizer.recommend.services import Case, Outcome
from optimizer.recommend.windows import Spans, interval, lower_bound_of_mean
from simulator.deadline.observation import FloatArray

REPLAYED: tuple[Role, ...] = ("static-mix", "heuristic", "champion", "bound")


@dataclass(frozen=True, eq=False)
class Judged:
    """The scenarios of one workload and, of those replayed, the cost of a month as each window has it.

    Attributes:
        subject: The workload.
        trials: What was replayed.
        scenarios: By role.
        monthly: By role, (N,) USD.
    """

    subject: Subject
    trials: Trials
    scenarios: dict[Role, Scenario]
    monthly: dict[Role, FloatArray]


def judged(subject: Subject, trials: Trials) -> Judged:
    """Make the scenarios of one workload."""
    bill = subject.billed.monthly
    scenarios: dict[Role, Scenario] = {
        "as-billed": Scenario(
            role="as-billed",
            monthly_usd=bill,
            saving_usd=0.0,
            saving_share=0.0 if bill else None,
            hours=tuple(
                Hours(option=line.option, pool=None, hours=line.hours * subject.monthly_factor)
                for line in subject.billed.options
            ),
        )
    }
    monthly: dict[Role, FloatArray] = {}
    if subject.billed.on_demand_rate is not None:
        late = _lateness(subject, trials.get("static-mix"), of_on_demand=True)
        cost = subject.committed_monthly + subject.residual_on_demand + late
        scenarios["on-demand"] = Scenario(
            role="on-demand",
            policy="on-demand",
            monthly_usd=cost,
            lateness_usd=late,
            saving_usd=bill - cost,
            saving_share=_share(bill - cost, bill),
            hours=(*_committed(subject), Hours(option="on-demand", pool=None, hours=subject.residual_hours)),
        )
    for role in REPLAYED:
        trial = trials.get(role)
        if trial is None or subject.market is None:
            continue
        monthly[role] = subject.committed_monthly + trial.ratios * subject.residual_on_demand
        scenarios[role] = _replayed(subject, role, trial, monthly[role])
    return Judged(subject, trials, scenarios, monthly)


def _replayed(subject: Subject, role: Role, trial: Trial, monthly: FloatArray) -> Scenario:
    market = known(subject.market, "the market")
    bill = subject.billed.monthly
    cost = subject.committed_monthly + trial.ratio * subject.residual_on_demand
    low, high = interval(monthly, spans_of(market), subject.committed_monthly + subject.residual_on_demand)
    low, high = _around(cost, (max(low, subject.committed_monthly), high))
    outcome = trial.outcome
    return Scenario(
        role=role,
        policy=trial.policy,
        monthly_usd=cost,
        lateness_usd=_lateness(subject, trial),
        egress_usd=_egress(subject, outcome),
        monthly_interval_usd=(low, high),
        saving_usd=bill - cost,
        saving_share=_share(bill - cost, bill),
        saving_interval_usd=(bill - high, bill - low),
        sla=None if outcome is None else sla_of(subject, outcome, spans_of(market)),
        interruptions_per_week=None if outcome is None else _interruptions(subject, outcome),
        hours=() if outcome is None else (*_committed(subject), *_hours(subject, outcome)),
        assumed=bool(market.assumed),
    )


def _lateness(subject: Subject, trial: Trial | None, *, of_on_demand: bool = False) -> float:
    """USD a month for being late, scaled like all other costs of a job."""
    if trial is None or not isinstance(trial.outcome, JobOutcome):
        return 0.0
    late = trial.outcome.on_demand_lateness if of_on_demand else trial.outcome.lateness
    return float(late.sum() / trial.outcome.on_demand.sum()) * subject.residual_on_demand


def _egress(subject: Subject, outcome: Outcome | JobOutcome | None) -> float:
    """USD a month for copies between regions, scaled likewise."""
    if not isinstance(outcome, JobOutcome):
        return 0.0
    return float(outcome.egress.sum() / outcome.on_demand.sum()) * subject.residual_on_demand


def spans_of(market: MarketUse) -> Spans:
    """What the intervals of a workload rest on; they are for a month."""
    return Spans(market.window_hours, market.independent_windows, HOURS_PER_MONTH)


def sla_of(subject: Subject, outcome: Outcome | JobOutcome, spans: Spans) -> Sla:
    """How an outcome stands to the terms of its workload."""
    if isinstance(outcome, JobOutcome):
        late, runs = float(outcome.missed.sum()), float(outcome.runs.sum())
        distinct = max(spans.independent * outcome.runs[0], 1.0) if len(outcome.runs) else 1.0
        value = late / max(runs, 1.0)
        # Without a miss in n runs the chance of one is below 3/n with 95 % confidence.
        bound = min(3.0 / distinct if late == 0 else value + 1.645 * np.sqrt(value / distinct), 1.0)
        return Sla(measure="miss-probability", target=0.0, value=value, bound=float(bound), holds=late == 0)
    target = known(subject.workload.service, "the terms").availability_target
    adjusted = outcome.adjusted
    case, market = subject.case, known(subject.market, "the market")
    lasts, needed = 1, 1.0
    if isinstance(case, Case):
        lasts += case.cold_start_ticks
        needed -= 0.0 if case.idle is None else float(case.idle.mean())
    # What was never seen may still come: below 3/n with 95 % confidence, and a loss lasts a cold start. Known
    # are only the hours in which something was needed.
    hours = max(spans.known_hours * needed, market.tick_seconds / 3600.0)
    unseen = 1.0 - 3.0 * lasts * market.tick_seconds / 3600.0 / hours
    bound = max(min(lower_bound_of_mean(adjusted, spans), unseen), 0.0)
    return Sla(
        measure="availability",
        target=target,
        value=float(adjusted.mean()),
        bound=bound,
        holds=bound >= target,
        raw=float(outcome.availability.mean()),
    )


def _interruptions(subject: Subject, outcome: Outcome | JobOutcome) -> float:
    case, market = subject.case, known(subject.market, "the market")
    if isinstance(case, JobCase):
        hours = float(outcome_runs(outcome).sum()) * case.job.deadline_seconds / 3600.0
    else:
        hours = len(outcome.cost) * market.window_hours
    return float(outcome.interruptions.sum()) / hours * 168.0


def outcome_runs(outcome: Outcome | JobOutcome) -> FloatArray:
    """(N,) runs of a job in each window; ones for a service."""
    return outcome.runs if isinstance(outcome, JobOutcome) else np.ones(len(outcome.cost))


def _hours(subject: Subject, outcome: Outcome | JobOutcome) -> tuple[Hours, ...]:
    """Hours a month: those of the windows, scaled like the on-demand hours of the same demand."""
    rate = subject.billed.on_demand_rate or 0.0
    needed = float(outcome.on_demand.sum()) / rate if rate > 0 else 0.0
    scale = subject.residual_hours / needed if needed > 0 else 0.0
    sums = outcome.hours.sum(axis=0) * scale
    spot = [
        Hours(option="spot", pool=pool.name, hours=float(hours))
        for pool, hours in zip(subject.match.pools, sums[:-1], strict=True)
        if hours > 0
    ]
    return (*spot, Hours(option="on-demand", pool=None, hours=float(sums[-1])))


def _committed(subject: Subject) -> tuple[Hours, ...]:
    hours = subject.commitment.covered_hours
    return (Hours(option="committed", pool=None, hours=hours),) if hours > 0 else ()


def _share(saving: float, bill: float) -> float | None:
    return saving / bill if bill > 0 else None


def totals(found: Sequence[Judged], recommended: Sequence[Role], windows: int) -> tuple[Scenario, ...]:
    """All workloads together, role by role; what a workload lacks is as it was billed."""
    billed = sum(one.subject.billed.monthly for one in found)
    scenarios = []
    roles: tuple[Role, ...] = ("as-billed", "on-demand", *REPLAYED)
    for role in (*roles, "recommended"):
        picked: list[Role] = list(recommended) if role == "recommended" else [role] * len(found)
        sums = np.zeros(windows)
        cost, late, egress, certain, dear, assumed = 0.0, 0.0, 0.0, 0.0, 0.0, False
        rests: list[Spans] = []
        for one, mine in zip(found, picked, strict=True):
            scenario = one.scenarios.get(mine, one.scenarios["as-billed"])
            cost += scenario.monthly_usd
            late += scenario.lateness_usd
            egress += scenario.egress_usd
            values = one.monthly.get(scenario.role)
            if values is None or one.subject.market is None:
                sums += scenario.monthly_usd
                certain += scenario.monthly_usd
                dear += scenario.monthly_usd
                continue
            certain += one.subject.committed_monthly
            dear += one.subject.committed_monthly + one.subject.residual_on_demand
            assumed |= scenario.assumed
            rests.append(spans_of(one.subject.market))
            sums += np.resize(values, windows)
        # The one that knows least says how far the sum can be known.
        bounds = None
        if rests:
            low, high = interval(sums, min(rests, key=lambda s: s.known_hours), dear)
            bounds = _around(cost, (max(low, certain), high))
        scenarios.append(
            Scenario(
                role=role,
                monthly_usd=cost,
                lateness_usd=late,
                egress_usd=egress,
                monthly_interval_usd=bounds,
                saving_usd=billed - cost,
                saving_share=_share(billed - cost, billed),
                saving_interval_usd=None if bounds is None else (billed - bounds[1], billed - bounds[0]),
                assumed=assumed,
            )
        )
    return tuple(scenarios)


def _around(cost: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """Bounds that hold the cost, which weighs windows by their demand."""
    return min(bounds[0], cost), max(bounds[1], cost)
