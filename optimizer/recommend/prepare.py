"""From a workload, its bill and its market to what is replayed, or to why it cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from optimizer.recommend.bill import WorkloadBill
from optimizer.recommend.jobs import JobCase
from optimizer.recommend.match import Match
from optimizer.recommend.result import (
    HOURS_PER_MONTH,
    Billed,
    Commitment,
    MarketUse,
    OptionCost,
    PoolDifferences,
)
from optimizer.recommend.services import Case
from optimizer.recommend.wide import differences_of, notes_of, own_rows
from optimizer.recommend.windows import (
    FEWEST_INDEPENDENT,
    WEEK,
    WindowPlan,
    choose_length,
    demand_offsets,
    plan_windows,
)
from simulator.errors import InputError
from simulator.service.service import LONGEST_COLD_START_TICKS

if TYPE_CHECKING:
    from optimizer.billing.workloads import Workload, WorkloadFile
    from simulator.deadline.observation import FloatArray, IntArray

OPTIONS = ("on-demand", "spot", "committed")
CURRENCY = "USD"
"""Of all markets; bills in others are shown and not simulated."""
FEWEST_KNOWN = 0.5
"""A demand is judged if the ledger spans a week or more, as days differ, and has this share of its hours."""
SAME_HOURS = 0.01
"""Share by which the instance-hours of ledger and workloads file may differ."""
STRANDED = 0.05
"""Share of a job's hours that may be covered without its replays knowing."""
ROUNDING = 0.02
"""Share that whole instances may add without a word."""
MOST_INSTANCES = 100_000
"""Of a workload at once, as in a plan."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One workload, ready to be replayed or known not to be.

    Attributes:
        workload: From the file.
        billed: Its bill.
        commitment: What of it is committed.
        match: Pools.
        market: The same as the report shows it; None if there is none.
        monthly_factor: From the span to a month.
        residual_hours: Instance-hours a month that no commitment covers.
        residual_on_demand: Their cost on demand, USD a month.
        whole: How many times those hours are needed where instances are held for whole hours; 1 or more.
        case: What is replayed; None if it cannot be.
        differences: How the pools of a job differ beside their prices; None if they do not.
        assumptions: In words.
        obstacles: Why it cannot be, in words.
        missing: Which data would help.
    """

    workload: Workload
    billed: Billed
    commitment: Commitment
    match: Match
    market: MarketUse | None
    monthly_factor: float
    residual_hours: float
    residual_on_demand: float
    whole: float
    case: Case | JobCase | None
    assumptions: tuple[str, ...]
    obstacles: tuple[str, ...]
    missing: tuple[str, ...]
    differences: PoolDifferences | None = None

    @property
    def committed_monthly(self) -> float:
        """USD a month for what is covered, the same in every scenario."""
        return self.commitment.covered_cost


@dataclass(frozen=True)
class Wanted:
    """How windows are chosen: their number, their length (None: by the market) and the seed."""

    windows: int
    window_hours: int | None
    seed: int


def prepare(
    workload: Workload,
    found: WorkloadFile,
    bill: WorkloadBill,
    matched: Match,
    wanted: Wanted,
    plans: dict[tuple[object, ...], WindowPlan | None],
) -> Subject:
    """Make the subject of one workload; `plans` keeps windows, so that workloads of one market share them."""
    _check_same_state(workload, bill)
    known = int((~workload.missing).sum())
    factor = HOURS_PER_MONTH / max(known, 1)
    rate, source = _rate(workload, bill, matched)
    billed = _billed(workload, bill, factor, rate, source)
    covered = bill.options.get("committed")
    commitment = Commitment(
        covered_hours=float(covered.hours) * factor if covered else 0.0,
        covered_cost=float(covered.cost) * factor if covered else 0.0,
        stranded_if_moved=float(covered.cost) * factor if covered else 0.0,
    )
    residual = uncovered(workload)
    hours = float(residual[~workload.missing].sum()) * factor
    obstacles, missing = _obstacles(workload, bill, known, found.span.hours, hours, rate)
    missing += matched.missing if not obstacles or matched.missing else ()
    if matched.missing:
        obstacles += ("no market speaks for it", *(f"not used: {text}" for text in matched.not_matched[:3]))
    case: Case | JobCase | None = None
    market: MarketUse | None = None
    differences: PoolDifferences | None = None
    assumptions: list[str] = _assumptions(workload, matched, source)
    if matched.markets:
        try:
            plan, terms = _windows(workload, found, matched, wanted, plans)
            market = _market_use(matched, plan, terms)
            if plan is None:
                obstacles += (
                    f"the market is too short: fewer than {FEWEST_INDEPENDENT} windows of {terms} h fit "
                    "side by side",
                )
                missing += ("a longer market, or a smaller --window-hours",)
            elif not obstacles and rate is not None:
                case, more = _case(workload, found, matched, plan, rate)
                assumptions += more
                if isinstance(case, JobCase) and case.job.terms is not None:
                    differences = differences_of(workload, case.job.terms, matched.pools)
                    assumptions += notes_of(differences)
        except InputError as error:
            obstacles += (str(error),)
            missing += ("terms in workloads.yaml that can be kept",)
    return Subject(
        workload,
        billed,
        commitment,
        matched,
        market,
        factor,
        hours,
        hours * (rate or 0.0),
        _whole(workload),
        case,
        tuple(assumptions),
        tuple(obstacles),
        tuple(dict.fromkeys(missing)),
        differences,
    )


def _check_same_state(workload: Workload, bill: WorkloadBill) -> None:
    """Refuse a ledger with other hours than the workloads were derived from: the month would be wrong."""
    if not bill.options:
        return
    billed = float(sum(line.hours for line in bill.options.values()))
    derived = float(workload.placed.sum())
    if abs(billed - derived) > max(SAME_HOURS * max(abs(billed), abs(derived)), 0.1):
        raise InputError(
            f"workload {workload.name}: the ledger has {billed:,.1f} instance-hours, the workloads file "
            f"{derived:,.1f}: the ledger has changed since; run `spotwise workloads derive` again"
        )


def _stranded_share(workload: Workload, bill: WorkloadBill) -> float:
    """Share of a job's hours that commitments cover beyond its committed nodes, which replays reckon with."""
    covered = bill.options.get("committed")
    whole = float(sum(line.hours for line in bill.options.values()))
    if workload.job is None or workload.kind != "deadline-job" or covered is None or whole <= 0:
        return 0.0
    return float(covered.hours) / whole - workload.job.committed / workload.job.nodes


def _whole(workload: Workload) -> float:
    """Instance-hours that no commitment covers in whole instances, relative to those billed; at least 1."""
    if workload.kind != "service":
        return 1.0
    known = ~workload.missing
    billed = float(uncovered(workload)[known].sum())
    return max(float(whole_instances(workload)[known].sum()) / billed, 1.0) if billed > 0 else 1.0


def _rate(workload: Workload, bill: WorkloadBill, matched: Match) -> tuple[float | None, str]:
    line = bill.options.get("on-demand")
    if line is not None and line.hours >= 1 and line.cost > 0:
        return float(line.cost / line.hours), "what on-demand hours cost in the ledger"
    if workload.on_demand_price is not None and 0 < workload.on_demand_price < math.inf:
        return workload.on_demand_price, "list price in the ledger"
    if matched.markets:
        own = own_rows(matched.pools, workload)
        price = np.mean([m.market.on_demand_price[own].min(axis=0).mean() for m in matched.markets])
        return float(price), "the market's on-demand price, as the ledger has none"
    return None, "not known"


def _billed(workload: Workload, bill: WorkloadBill, factor: float, rate: float | None, source: str) -> Billed:
    options = [
        OptionCost(option=name, hours=float(line.hours), cost=float(line.cost))  # type: ignore[arg-type] # of OPTIONS
        for name in OPTIONS
        if (line := bill.options.get(name)) is not None
    ]
    return Billed(
        cost=float(bill.cost),
        monthly=float(bill.cost) * factor,
        currency=workload.currency,
        options=tuple(options),
        on_demand_rate=rate,
        rate_source=source,
    )


def _obstacles(
    workload: Workload, bill: WorkloadBill, known: int, span: int, hours: float, rate: float | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found: list[str] = []
    missing: list[str] = []
    if not bill.options:
        found.append("the ledger has no instance time of this workload")
        missing.append(
            "the ledger that workloads.yaml was derived from, or workloads derived again from this one"
        )
    if workload.currency != CURRENCY:
        found.append(f"billed in {workload.currency}, and markets are in {CURRENCY}")
        missing.append(f"a bill in {CURRENCY}; currencies are never converted here")
    if span < WEEK:
        found.append(f"the ledger spans {span} hours, and demand differs from day to day")
        missing.append("exports of a week or more")
    elif known < FEWEST_KNOWN * span:
        found.append(f"the export has {known} of {span} hours")
        missing.append("exports without gaps")
    if workload.service is not None and whole_instances(workload).max(initial=0) > MOST_INSTANCES:
        found.append(f"it needs more than {MOST_INSTANCES:,} instances at once")
        missing.append("a bill whose usage is in instance-hours")
    stranded = _stranded_share(workload, bill)
    if stranded > STRANDED:
        found.append(
            f"commitments cover {stranded:.0%} more of its hours than the committed nodes in the workloads "
            "file; a job moves whole, and that would be paid for nothing"
        )
        missing.append("job.committed in workloads.yaml, as many nodes as commitments cover")
    if rate is None:
        found.append("no on-demand price is known")
        missing.append("an on-demand price, in the ledger or in a market")
    if bill.options and hours <= 0:
        covered = bill.options.get("committed")
        found.append(
            "all of its usage is covered by commitments; moving it would save nothing"
            if covered is not None and covered.hours > 0
            else "the ledger has rows of it, but no instance-hours"
        )
    return tuple(found), tuple(missing)


def _assumptions(workload: Workload, matched: Match, source: str) -> list[str]:
    found = [f"ASSUMED: {reason}" for reason in matched.assumed]
    if workload.confirm:
        found.append(f"not confirmed in workloads.yaml: {', '.join(workload.confirm)}")
    if workload.imputed.mean() > 0.5:
        found.append("demand is known from rows of several hours; within them it is taken as level")
    if (whole := _whole(workload)) > 1.0 + ROUNDING:
        found.append(
            f"billed for parts of hours: a plan that holds whole instances for whole hours needs {whole:.2f} "
            "times the instance-hours"
        )
    if workload.missing.any():
        found.append(f"{int(workload.missing.sum())} hours that the export lacks were like the hour before")
    if source.startswith("the market"):
        found.append("the on-demand price is the market's")
    return found


def _windows(
    workload: Workload,
    found: WorkloadFile,
    matched: Match,
    wanted: Wanted,
    plans: dict[tuple[object, ...], WindowPlan | None],
) -> tuple[WindowPlan | None, int]:
    least = math.ceil(workload.job.deadline_hours) if workload.job is not None else 1
    hours = wanted.window_hours or choose_length(matched.markets, found.span.hours)
    hours = max(hours, least)
    key = (*((m.file, len(m.market.pools)) for m in matched.markets), hours)
    if key not in plans:
        plans[key] = plan_windows(matched.markets, hours, wanted.windows, wanted.seed)
    return plans[key], hours


def _market_use(matched: Match, plan: WindowPlan | None, hours: int) -> MarketUse:
    return MarketUse(
        files=tuple(m.file for m in matched.markets),
        pools=tuple(pool.name for pool in matched.pools),
        tick_seconds=matched.markets[0].market.tick_seconds,
        windows=len(plan.start) if plan else 0,
        window_hours=float(hours),
        independent_windows=plan.independent if plan else 0,
        assumed=matched.assumed,
        matched=matched.matched,
        not_matched=matched.not_matched,
    )


def _case(
    workload: Workload,
    found: WorkloadFile,
    matched: Match,
    plan: WindowPlan,
    rate: float,
) -> tuple[Case | JobCase, list[str]]:
    tick = matched.markets[0].market.tick_seconds
    if workload.kind == "service":
        return _service(workload, found, matched, plan, rate, tick)
    terms = workload.pool_terms(matched.pools, matched.throughput)
    job = workload.deadline_job(terms)
    period = math.ceil(job.deadline_seconds / tick - 1e-9)
    length = plan.hours * 3600 // tick
    runs = max(int(length // period), 1)
    start = _on_the_hour(plan, matched, workload, found, runs * period)
    own = own_rows(matched.pools, workload)
    rows = () if len(own) == len(matched.pools) else tuple(own.tolist())
    case = JobCase(matched.markets, plan.market, start, runs, period, job, rate, rows)
    notes = [
        f"one run of {job.nodes} × {job.work_seconds / 3600:g} h every {job.deadline_seconds / 3600:g} h, "
        "due when the next begins; the ratio to on-demand found so is applied to the hours that were billed"
    ]
    if job.lateness_usd_per_hour > 0:
        notes.append(
            f"being done more than {job.due_or_deadline_seconds / 3600:g} h after its begin costs "
            f"{job.lateness_usd_per_hour:g} USD/h, to which all scenarios are held; whether runs were late "
            "as billed is not known, and taken as no"
        )
    if job.committed:
        notes.append(
            f"{job.committed} of its {job.nodes} instances are committed: on demand only the others are paid"
        )
    return case, notes


def _on_the_hour(
    plan: WindowPlan, matched: Match, workload: Workload, found: WorkloadFile, ticks: int
) -> IntArray:
    """(N,) starts, moved back to the hour of the day at which the job begins, where that fits the market."""
    busy = np.flatnonzero(workload.demand > 0)
    hour = (int(busy[0]) + found.span.start.hour) % 24 if busy.size else 0
    start = plan.start.copy()
    for k, place in enumerate(plan.market):
        market = matched.markets[place].market
        per_hour = 3600 / market.tick_seconds
        begin = market.start.hour + market.start.minute / 60 + plan.start[k] / per_hour
        back = round(((begin - hour) % 24) * per_hour)
        start[k] = max(min(start[k] - back, market.ticks - ticks), 0)
        if start[k] < plan.start[k] - back:
            start[k] = plan.start[k]
    return np.maximum(start, 0)


def _service(
    workload: Workload,
    found: WorkloadFile,
    matched: Match,
    plan: WindowPlan,
    rate: float,
    tick: int,
) -> tuple[Case, list[str]]:
    if workload.service is None:
        raise InputError(f"workload {workload.name}: kind service without its terms")
    if not workload.service.availability_target < 1.0:
        raise InputError(
            f"workload {workload.name}: availability target of 1; accepted: below 1"
            ", as no capacity is promised always"
        )
    if tick % 3600 and 3600 % tick:
        raise InputError(f"tick of {tick} s; accepted: a divisor or a multiple of an hour")
    hourly = whole_instances(workload)
    offsets = demand_offsets(plan, matched.markets, found.span.start, found.span.hours)
    place = (offsets[:, None] + np.arange(plan.hours)) % found.span.hours
    demand = hourly[place]
    idle = np.asarray((_filled(workload.demand, ~workload.missing)[place] <= 0).mean(axis=1))
    if tick <= 3600:
        demand = np.repeat(demand, 3600 // tick, axis=1)
    else:
        step = tick // 3600
        demand = demand[:, : plan.hours // step * step].reshape(len(demand), -1, step).max(axis=2)
    cold = cold_ticks(workload.service.cold_start_minutes, tick)
    case = Case(
        matched.markets,
        plan.market,
        plan.start,
        demand,
        cold,
        workload.service.availability_target,
        rate,
        idle,
    )
    notes = [
        f"a loss that no reserve covers is short for {cold + 1} ticks of {tick} s (cold start "
        f"{workload.service.cold_start_minutes:g} min)"
    ]
    return case, notes


def uncovered(workload: Workload) -> FloatArray:
    """(H,) instances per hour that no commitment covers; zero in hours that the export lacks."""
    return np.asarray(np.maximum(workload.placed[:, :2].sum(axis=1), 0.0))


def whole_instances(workload: Workload) -> IntArray:
    """(H,) the same in whole instances; hours that the export lacks are like the last known one."""
    hourly = _filled(uncovered(workload), ~workload.missing)
    return np.asarray(np.ceil(hourly - 1e-9).astype(np.int64))


def cold_ticks(minutes: float, tick_seconds: int) -> int:
    """Ticks D of a cold start: a loss costs D + 1 ticks, which is the cold start rounded up to ticks."""
    longest = (LONGEST_COLD_START_TICKS + 1) * tick_seconds / 60.0
    if not minutes <= longest:
        raise InputError(
            f"cold start of {minutes:g} min at ticks of {tick_seconds} s; accepted: at most {longest:g} min"
        )
    return max(math.ceil(minutes * 60.0 / tick_seconds - 1e-9) - 1, 0)


def _filled(values: FloatArray, known: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> FloatArray:
    """(H,) values in which unknown hours are like the last known one, or the first behind."""
    at = np.flatnonzero(known)
    place = np.maximum(np.searchsorted(at, np.arange(len(values)), side="right") - 1, 0)
    return np.asarray(values[at[place]])


def tag_value(workload: Workload, by: Sequence[str], key: str) -> str | None:
    """Value of a dimension of a workload, None if workloads are not told apart by it."""
    values: Mapping[str, str] = workload.key
    return values.get(key) if key in by else None
