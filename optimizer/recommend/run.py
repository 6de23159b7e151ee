"""From ledger, workloads and markets to a report: read, match, replay, decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from optimizer.billing.workloads import WorkloadFile, load_workloads
from optimizer.plan import file_sha256
from optimizer.recommend.bill import Bill, read_bill
from optimizer.recommend.decide import best_candidate, decide
from optimizer.recommend.details import Detail, detail
from optimizer.recommend.judge import CHANGES, Champions, Trial, judge_all, sensitivities
from optimizer.recommend.match import Assumptions, NamedMarket, match
from optimizer.recommend.prepare import CURRENCY, Subject, Wanted, prepare
from optimizer.recommend.result import (
    Decision,
    Report,
    Role,
    Scenario,
    Sensitivity,
    Settings,
    SharedPools,
    Span,
    UnitCost,
    WorkloadReport,
    known,
)
from optimizer.recommend.scenarios import Judged, judged, sla_of, spans_of, totals
from optimizer.recommend.sharing import Settled, settle, shared_in_part
from optimizer.recommend.unit_costs import unit_costs_of
from optimizer.recommend.windows import WindowPlan
from policies.registry import SERVICE_CHAMPION, load_policy
from simulator.errors import InputError
from simulator.market import Market
from simulator.market.readers.advisor import read_interruption_bands

DEADLINE_CHAMPION = "deadline-champion"
SENSITIVITY_WINDOWS = 40
MOST_WINDOWS = 5000
LONGEST_OUTAGE_HOURS = 720
Watch = Callable[[str, float], None]
"""Told what is being done and which share of the whole is done."""


@dataclass(frozen=True)
class Options:
    """What a report is asked for.

    Attributes:
        seed: Of windows and assumed interruptions.
        windows: Most windows per workload.
        window_hours: Length of a window; None: by the market.
        advisor: File of interruption bands for pools without an availability trace.
        outage_hours: Mean outage assumed with the bands.
        service_policy: Policy that stands as the champion of services.
        deadline_policy: The same of deadline jobs.
        metric: File of what workloads did, for unit costs.
        unit: What the metric counts.
        workers: Batches that are replayed at a time; they do not change the result.
    """

    seed: int = 0
    windows: int = 200
    window_hours: int | None = None
    advisor: Path | None = None
    outage_hours: float = 2.0
    service_policy: str | None = None
    deadline_policy: str = DEADLINE_CHAMPION
    metric: Path | None = None
    unit: str = "unit"
    workers: int = 2


@dataclass(frozen=True, eq=False)
class Found:
    """A report and what the page and the plan need beside it.

    Attributes:
        report: The report.
        details: By workload.
        judged: One per workload of the report, in its order.
        file: The workloads.
    """

    report: Report
    details: dict[str, Detail]
    judged: tuple[Judged, ...]
    file: WorkloadFile


def recommend(
    ledger: Path,
    workloads: Path,
    markets: Sequence[Path],
    options: Options,
    watch: Watch = lambda text, share: None,
) -> Found:
    """Compute the report.

    Args:
        ledger: Ledger file.
        workloads: Workloads file.
        markets: Market files, one or more.
        options: How.
        watch: Progress.

    Returns:
        The report; the same inputs and seed give the same bytes.

    Raises:
        InputError: A file cannot be used or an option is out of range.
    """
    if not markets:
        raise InputError("no market; accepted: one or more --market FILE")
    if not 0 < options.outage_hours <= LONGEST_OUTAGE_HOURS:
        raise InputError(
            f"--outage-hours {options.outage_hours:g}; accepted: above 0, at most {LONGEST_OUTAGE_HOURS}"
        )
    if not 4 <= options.windows <= MOST_WINDOWS or (
        options.window_hours is not None and options.window_hours < 1
    ):
        raise InputError(
            f"--windows and --window-hours; accepted: 4 to {MOST_WINDOWS} windows of at least 1 h"
        )
    if len({path.resolve() for path in markets}) < len(markets):
        raise InputError("a market file is given twice; give each once")
    load_policy(options.deadline_policy, "deadline")
    champion = _service_champion(options)
    load_policy(champion, "service")
    watch("reading", 0.0)
    found = load_workloads(workloads)
    bill = read_bill(ledger, found)
    named = [
        NamedMarket(name, Market.load(path)) for name, path in zip(_names(markets), markets, strict=True)
    ]
    bands = None if options.advisor is None else read_interruption_bands(options.advisor)
    assumptions = Assumptions(bands, options.outage_hours, options.seed)
    subjects = _subjects(found, bill, named, assumptions, options)
    champions = Champions(champion, options.deadline_policy)
    progress = _Progress(watch, options.workers, sum(s.case is not None for s in subjects))
    trials = judge_all(subjects, champions, progress.run)
    alone = [judged(subject, own) for subject, own in zip(subjects, trials, strict=True)]
    settled = settle(alone, [decide(one) for one in alone], progress.run)
    each, decisions = settled.judged, settled.decisions
    interest: list[Role | None] = [
        decision.role if decision.action == "move" else best_candidate(one)
        for one, decision in zip(each, decisions, strict=True)
    ]
    changed = sensitivities(
        subjects,
        [own.get(role) if role else None for own, role in zip(trials, interest, strict=True)],
        min(SENSITIVITY_WINDOWS, options.windows),
        progress.run,
    )
    units = unit_costs_of(ledger, found, options.metric, options.unit)
    reports = [
        _workload(one, decision, other, bill, units.get(one.subject.workload.name))
        for one, decision, other in zip(each, decisions, changed, strict=True)
    ]
    watch("writing", 0.97)
    report = _report(found, bill, settled, reports, options, (ledger, workloads, markets))
    details = {one.subject.workload.name: detail(one, role) for one, role in zip(each, interest, strict=True)}
    return Found(report, details, tuple(each), found)


def _names(paths: Sequence[Path]) -> list[str]:
    """File names, with their folders where two are alike."""
    names = [path.name for path in paths]
    return [str(path) if names.count(path.name) > 1 else path.name for path in paths]


def _service_champion(options: Options) -> str:
    if options.service_policy is not None:
        return options.service_policy
    try:
        load_policy(SERVICE_CHAMPION, "service")
    except InputError:
        return "look-ahead"
    return SERVICE_CHAMPION


def _subjects(
    found: WorkloadFile,
    bill: Bill,
    markets: Sequence[NamedMarket],
    assumptions: Assumptions,
    options: Options,
) -> list[Subject]:
    wanted = Wanted(options.windows, options.window_hours, options.seed)
    plans: dict[tuple[object, ...], WindowPlan | None] = {}
    kept: dict[tuple[object, ...], tuple[NamedMarket, ...]] = {}
    subjects = []
    for one in found.workloads:
        matched = match(one, found, markets, assumptions)
        # Workloads with the same pools have the same markets in memory, once.
        key = (tuple(m.file for m in matched.markets), matched.pools, matched.assumed)
        matched = replace(matched, markets=kept.setdefault(key, matched.markets))
        subjects.append(prepare(one, found, bill.workloads[one.name], matched, wanted, plans))
    return sorted(subjects, key=lambda one: (-one.billed.monthly, one.workload.name))


class _Progress:
    """Runs tasks on a few threads and says how far they are."""

    def __init__(self, watch: Watch, workers: int, cases: int) -> None:
        self.watch, self.workers = watch, max(workers, 1)
        self.done, self.expected = 0, 14 if cases else 1

    def run(self, title: str, tasks: Sequence[Callable[[], None]]) -> None:
        """Run tasks to the end; the first error is raised."""
        begun = min(self.done / self.expected, 0.95)
        width = 1.0 / self.expected
        self.watch(title, begun)
        if self.workers == 1 or len(tasks) < 2:
            for k, task in enumerate(tasks, 1):
                task()
                self.watch(title, min(begun + width * k / len(tasks), 0.96))
        else:
            with ThreadPoolExecutor(self.workers) as pool:
                waiting = [pool.submit(task) for task in tasks]
                for k, each in enumerate(waiting, 1):
                    each.result()
                    self.watch(title, min(begun + width * k / len(tasks), 0.96))
        self.done += 1


def _workload(
    one: Judged,
    decision: Decision,
    changed: dict[str, tuple[Trial, Trial] | str],
    bill: Bill,
    unit: UnitCost | None,
) -> WorkloadReport:
    subject = one.subject
    workload = subject.workload
    return WorkloadReport(
        name=workload.name,
        kind=workload.kind,
        provider=workload.provider,
        region=workload.region,
        instance_type=workload.instance_type,
        key=workload.key,
        billed=subject.billed,
        commitment=subject.commitment,
        market=subject.market,
        differences=subject.differences,
        scenarios=tuple(one.scenarios.values()),
        decision=decision,
        sensitivity=tuple(
            _sensitivity(one, decision, change, changed[change]) for change in CHANGES if change in changed
        ),
        tag_gaps=bill.tag_gaps(workload.name),
        unit_cost=unit,
    )


def _sensitivity(
    one: Judged, decision: Decision, change: str, trials: tuple[Trial, Trial] | str
) -> Sensitivity:
    subject = one.subject
    if isinstance(trials, str):
        return Sensitivity(change=change, monthly_usd=None, saving_usd=None, sla=None, note=trials)
    base, other = trials
    # The same windows in both worlds: only the difference between them is taken, on all windows' ratio.
    role = (
        decision.role
        if decision.action == "move"
        else next(role for role, trial in one.trials.items() if trial.policy == base.policy)
    )
    ratio = one.trials[role].ratio + other.ratio - base.ratio
    cost = subject.committed_monthly + ratio * subject.residual_on_demand
    sla = (
        None
        if other.outcome is None
        else sla_of(subject, other.outcome, spans_of(known(subject.market, "the market")))
    )
    note = ""
    if change == CHANGES[2] and other.ratio == base.ratio:
        note = "no difference at this tick: both are within the tick that a loss costs anyway"
    if change == CHANGES[3] and len(subject.match.pools) == 1:
        note = "there is one pool only: nothing is left of spot"
    return Sensitivity(
        change=change, monthly_usd=cost, saving_usd=subject.billed.monthly - cost, sla=sla, note=note
    )


def _report(
    found: WorkloadFile,
    bill: Bill,
    settled: Settled,
    reports: Sequence[WorkloadReport],
    options: Options,
    files: tuple[Path, Path, Sequence[Path]],
) -> Report:
    ledger, workloads, markets = files
    comparable = [
        (one, report)
        for one, report in zip(settled.judged, reports, strict=True)
        if report.billed.currency == CURRENCY
    ]
    total = totals(
        [one for one, _ in comparable], [report.decision.role for _, report in comparable], options.windows
    )
    paths = [ledger, workloads, workloads.parent / Path(found.demand_file).name, *markets]
    paths += [path for path in (options.advisor, options.metric) if path is not None]
    return Report(
        version=1,
        spotwise=version("spotwise"),
        settings=Settings(
            seed=options.seed,
            windows=options.windows,
            window_hours=options.window_hours,
            advisor=None if options.advisor is None else options.advisor.name,
            outage_hours=options.outage_hours,
        ),
        inputs={name: file_sha256(path) for name, path in zip(_names(paths), paths, strict=True)},
        span=Span(start=found.span.start.isoformat(), hours=found.span.hours),
        reconciliation=bill.reconciliation,
        unused_commitments=bill.unused,
        shared_pools=settled.shared,
        total=total,
        headline=_headline(reports, total),
        notes=(
            *_notes(bill, reports),
            *map(_sharing_note, settled.shared),
            *shared_in_part(settled.judged, settled.decisions),
        ),
        workloads=tuple(reports),
    )


def _headline(reports: Sequence[WorkloadReport], total: Sequence[Scenario]) -> str:
    by_role = {one.role: one for one in total}
    moved = [report for report in reports if report.decision.action == "move"]
    billed, best = by_role["as-billed"], by_role["recommended"]
    if not moved:
        return (
            f"Change nothing: none of {len(reports)} workloads ({_monthly(reports)} a month) has a saving "
            "that can be shown."
        )
    low, high = known(best.saving_interval_usd, "the interval")
    share = f" ({best.saving_share:.0%})" if best.saving_share is not None else ""
    guess = "; it rests on assumed availability" if best.assumed else ""
    return (
        f"Move {len(moved)} of {len(reports)} workloads: {best.monthly_usd:,.2f} instead of "
        f"{billed.monthly_usd:,.2f} USD a month, saving {best.saving_usd:,.2f}{share}, "
        f"90 % between {low:,.2f} and {high:,.2f}{guess}."
    )


def _monthly(reports: Sequence[WorkloadReport]) -> str:
    """What workloads cost a month as billed, in each currency."""
    sums: dict[str, float] = {CURRENCY: 0.0} if not reports else {}
    for report in reports:
        billed = report.billed
        sums[billed.currency] = sums.get(billed.currency, 0.0) + billed.monthly
    return " and ".join(f"{amount:,.2f} {currency}" for currency, amount in sorted(sums.items()))


def _notes(bill: Bill, reports: Sequence[WorkloadReport]) -> tuple[str, ...]:
    notes = []
    foreign = [report for report in reports if report.billed.currency != CURRENCY]
    if foreign:
        notes.append(
            f"{len(foreign)} workloads ({_monthly(foreign)} a month) are billed in another currency than "
            f"{CURRENCY} and are in none of the totals"
        )
    for one in bill.reconciliation:
        if abs(float(one.credits)) >= 0.005:
            notes.append(
                f"credits, refunds and adjustments of {float(one.credits):,.2f} {one.currency} are not "
                "shared out: what workloads cost, and what they would save, is before them"
            )
    notes += [f"instance time without a workload in the file: {text}" for text in bill.strangers]
    lacking = sorted(report.name for report in reports if report.market is None)
    if lacking:
        notes.append(f"no market matched {', '.join(lacking)}")
    return tuple(notes)


def _sharing_note(shared: SharedPools) -> str:
    pools, moved = ", ".join(shared.pools), ", ".join(shared.workloads)
    if shared.replay == "not-needed":
        return f"{moved} share {pools}: there is always enough for all of them"
    parts = [
        f"{pools}: asked for up to {shared.most_asked} instances where the market has as few as "
        f"{shared.least_capacity}"
    ]
    if shared.not_moved:
        parts.append(f"not moved, as there is not enough for all: {', '.join(shared.not_moved)}")
    if len(shared.workloads) > 1:
        way = (
            "replayed together"
            if shared.replay == "together"
            else "replayed with what the others hold at most left out (jobs) and together (services)"
        )
        parts.append(f"{moved}: {way}, {shared.extra_usd:+,.2f} USD a month against each alone")
    parts.append("scenarios other than the recommended one are as if each workload had the pools alone")
    return "; ".join(parts)
