"""Every policy replayed for every workload: costs per window, availability, interruptions, places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimizer.recommend import services
from optimizer.recommend.jobs import JobCase, JobOutcome, job_bound, replay_job
from optimizer.recommend.prepare import Subject, cold_ticks
from optimizer.recommend.result import Role, known
from optimizer.recommend.services import Case, Outcome, RowMix, World
from policies.registry import load_policy
from policies.service import ServicePolicy
from simulator.deadline.observation import FloatArray, IntArray
from simulator.errors import InputError

SCREENED = 24
"""Windows on which the best static mix and the best heuristic are chosen."""
HEDGES = ("spothedge-0", "spothedge-1", "spothedge-2")
JOB_MIX = "spot-when-available"
"""What stands for a static mix of a job: spot when there is some, on-demand otherwise."""
JOB_HEURISTICS = ("uniform-progress", "greedy")
PERCENTAGES = (0, 25, 50, 75)

Run = Callable[[str, Sequence[Callable[[], None]]], None]
"""Runs tasks, maybe several at a time, and says what they are."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One policy over all windows of one workload.

    Attributes:
        policy: Its name; None for the bound.
        outcome: What it did; None for the bound.
        cost: (N,) USD.
        on_demand: (N,) USD of the same demand on on-demand capacity.
    """

    policy: str | None
    outcome: Outcome | JobOutcome | None
    cost: FloatArray
    on_demand: FloatArray

    @classmethod
    def of(cls, policy: str, outcome: Outcome | JobOutcome) -> Trial:
        """The trial of an outcome."""
        return cls(policy, outcome, outcome.cost, outcome.on_demand)

    @property
    def ratio(self) -> float:
        """Cost over on-demand cost, of all windows together; 1 where there was no demand."""
        whole = float(self.on_demand.sum())
        return float(self.cost.sum()) / whole if whole > 0 else 1.0

    @property
    def ratios(self) -> FloatArray:
        """(N,) the same of each window; windows without demand have the overall ratio."""
        own: FloatArray = np.divide(
            self.cost, self.on_demand, out=np.full(len(self.cost), self.ratio), where=self.on_demand > 0
        )
        return own


Trials = dict[Role, Trial]


@dataclass(frozen=True)
class Champions:
    """Policies, by name or path, that stand as the champion of each kind."""

    service: str
    deadline: str


def judge_all(subjects: Sequence[Subject], champions: Champions, run: Run) -> list[Trials]:
    """Replay everything; a subject that cannot be replayed has no trials."""
    found: list[Trials] = [{} for _ in subjects]
    _judge_services(subjects, champions.service, run, found)
    tasks: list[Callable[[], None]] = []
    for place, subject in enumerate(subjects):
        if isinstance(subject.case, JobCase):
            tasks.append(_JobTask(subject.case, champions.deadline, found[place]))
    run("deadline jobs", tasks)
    return found


@dataclass(frozen=True, eq=False)
class _JobTask:
    case: JobCase
    champion: str
    found: Trials

    def __call__(self) -> None:
        case = self.case
        heuristics = {name: replay_job(case, name) for name in JOB_HEURISTICS}
        best = min(heuristics, key=lambda name: float(heuristics[name].cost.sum()))
        mix = replay_job(case, JOB_MIX)
        self.found["static-mix"] = Trial.of(JOB_MIX, mix)
        self.found["heuristic"] = Trial.of(best, heuristics[best])
        self.found["champion"] = Trial.of(self.champion, replay_job(case, self.champion))
        self.found["bound"] = Trial(None, None, job_bound(case), mix.on_demand)


def _judge_services(subjects: Sequence[Subject], champion: str, run: Run, found: list[Trials]) -> None:
    places = [place for place, subject in enumerate(subjects) if isinstance(subject.case, Case)]
    cases = [case for subject in subjects if isinstance(case := subject.case, Case)]
    if not cases:
        return
    mixes, hedges = _screened(cases, run)
    base = np.array([mix[0] for mix in mixes], np.int64)
    share = np.array([mix[1] for mix in mixes], np.int64)
    outcomes: dict[Role, list[Outcome]] = {}
    outcomes["static-mix"] = services.replay_cases(
        cases, lambda n: RowMix(base[n], share[n]), run=lambda tasks: run("static mixes", tasks)
    )
    outcomes["heuristic"] = _by_policy(cases, hedges, run)
    policy = load_policy(champion, "service")
    outcomes["champion"] = services.replay_cases(
        cases, lambda n: policy, run=lambda tasks: run(f"services: {policy.name}", tasks)
    )
    names: dict[Role, Sequence[str]] = {
        "static-mix": [mix_name(*mix) for mix in mixes],
        "heuristic": hedges,
        "champion": [champion] * len(cases),
    }
    for role, listed in outcomes.items():
        for place, name, outcome in zip(places, names[role], listed, strict=True):
            found[place][role] = Trial.of(name, outcome)
    run("clairvoyant bounds", [_BoundTask(found[p], c) for p, c in zip(places, cases, strict=True)])


@dataclass(frozen=True, eq=False)
class _BoundTask:
    found: Trials
    case: Case

    def __call__(self) -> None:
        known = self.found["champion"].on_demand
        self.found["bound"] = Trial(None, None, services.bound(self.case), known)


def mix_name(base: int, percentage: int) -> str:
    """What the registry calls a static mix."""
    if base == 0 and percentage == 0:
        return "spot-only"
    return f"static-mix-{base}+{percentage}" if base else f"static-mix-{percentage}"


def _screened(cases: Sequence[Case], run: Run) -> tuple[list[tuple[int, int]], list[str]]:
    """The best static mix and the best heuristic of each case on a few of its windows."""
    small = [case.part(_spread(case.windows)) for case in cases]
    tried: list[tuple[int, tuple[int, int]]] = []
    for number, case in enumerate(small):
        least = int(case.demand.min())
        tried += [(number, (0, share)) for share in PERCENTAGES]
        tried += [(number, (least, share)) for share in (0, 50) if least > 0]
    base = np.array([mix[0] for _, mix in tried], np.int64)
    share = np.array([mix[1] for _, mix in tried], np.int64)
    outcomes = services.replay_cases(
        [small[number] for number, _ in tried],
        lambda n: RowMix(base[n], share[n]),
        run=lambda tasks: run("choosing static mixes", tasks),
    )
    mixes: list[tuple[int, int]] = []
    for number, case in enumerate(small):
        own = [k for k, (whose, _) in enumerate(tried) if whose == number]
        mixes.append(tried[_best([outcomes[k] for k in own], case.availability_target, own)][1])
    by_hedge = []
    for name in HEDGES:
        policy = load_policy(name, "service")
        by_hedge.append(
            services.replay_cases(small, _always(policy), run=lambda tasks: run("choosing heuristics", tasks))
        )
    hedges = [
        HEDGES[_best([o[number] for o in by_hedge], case.availability_target, range(len(HEDGES)))]
        for number, case in enumerate(small)
    ]
    return mixes, hedges


def _always(policy: ServicePolicy) -> services.PolicyOf:
    return lambda numbers: policy


def _spread(windows: int) -> IntArray:
    count = min(SCREENED, windows)
    return np.unique(np.linspace(0, windows - 1, count).round().astype(np.int64))


def _best(outcomes: Sequence[Outcome], target: float, names: Sequence[int]) -> int:
    """Of those that keep the target on average the cheapest, otherwise the most available."""
    kept = [k for k, outcome in enumerate(outcomes) if outcome.adjusted.mean() >= target]
    if kept:
        return names[min(kept, key=lambda k: float(outcomes[k].cost.sum()))]
    return names[max(range(len(outcomes)), key=lambda k: float(outcomes[k].adjusted.mean()))]


def _by_policy(cases: Sequence[Case], names: Sequence[str], run: Run) -> list[Outcome]:
    found: dict[int, Outcome] = {}
    for name in sorted(set(names)):
        own = [k for k, each in enumerate(names) if each == name]
        policy = load_policy(name, "service")
        outcomes = services.replay_cases(
            [cases[k] for k in own], _always(policy), run=_titled(run, f"services: {name}")
        )
        found |= dict(zip(own, outcomes, strict=True))
    return [found[k] for k in range(len(cases))]


def _titled(run: Run, title: str) -> Callable[[Sequence[Callable[[], None]]], None]:
    return lambda tasks: run(title, tasks)


CHANGES = ("interruptions × 2", "spot price + 25 %", "cold start × 2", "a pool vanishes")


def sensitivities(
    subjects: Sequence[Subject], chosen: Sequence[Trial | None], windows: int, run: Run
) -> list[dict[str, tuple[Trial, Trial] | str]]:
    """Replay the chosen policy of each subject in other worlds, over some of its windows.

    Returns:
        For each subject and change the trial in the world as recorded and in the other one, over the same
        windows; or why there is none.
    """
    found: list[dict[str, tuple[Trial, Trial] | str]] = [{} for _ in subjects]
    for change in CHANGES:
        jobs: list[Callable[[], None]] = []
        places: dict[str, list[int]] = {}
        for place, (subject, trial) in enumerate(zip(subjects, chosen, strict=True)):
            if trial is None or trial.policy is None or trial.outcome is None:
                continue
            if isinstance(subject.case, JobCase):
                jobs.append(_JobChange(subject.case, trial, change, windows, found[place]))
            else:
                places.setdefault(trial.policy, []).append(place)
        for policy, members in places.items():
            _service_changes(subjects, chosen, members, policy, change, windows, run, found)
        run(f"sensitivity: {change}", jobs)
    return found


def _service_changes(
    subjects: Sequence[Subject],
    chosen: Sequence[Trial | None],
    members: Sequence[int],
    policy: str,
    change: str,
    windows: int,
    run: Run,
    found: list[dict[str, tuple[Trial, Trial] | str]],
) -> None:
    cases: list[Case] = []
    worlds: list[World] = []
    bases: list[Trial] = []
    kept: list[int] = []
    for place in members:
        case, trial = subjects[place].case, chosen[place]
        if not isinstance(case, Case) or trial is None or not isinstance(trial.outcome, Outcome):
            continue
        world = _world(case, trial.outcome, change, subjects[place])
        if isinstance(world, str):
            found[place][change] = world
            continue
        rows = _some(case.windows, windows)
        cases.append(case.part(rows))
        worlds.append(world)
        bases.append(_rows_of(trial, rows))
        kept.append(place)
    if not cases:
        return
    loaded = load_policy(policy, "service")
    outcomes = services.replay_cases(
        cases, _always(loaded), worlds, run=_titled(run, f"sensitivity: {change}")
    )
    for place, base, outcome in zip(kept, bases, outcomes, strict=True):
        found[place][change] = (base, Trial.of(policy, outcome))


def _some(count: int, wanted: int) -> IntArray:
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.int64))


def _rows_of(trial: Trial, rows: IntArray) -> Trial:
    outcome = trial.outcome
    part = (
        type(outcome)(*(getattr(outcome, name)[rows] for name in outcome.__dataclass_fields__))
        if outcome is not None
        else None
    )
    return Trial(trial.policy, part, trial.cost[rows], trial.on_demand[rows])


def _world(case: Case, outcome: Outcome, change: str, subject: Subject) -> World | str:
    if change == CHANGES[0]:
        return World(more_interruptions=True)
    if change == CHANGES[1]:
        return World(spot_price=1.25)
    if change == CHANGES[2]:
        terms = known(subject.workload.service, "the terms")
        tick = case.markets[0].market.tick_seconds
        return World(cold_start_ticks=cold_ticks(2 * terms.cold_start_minutes, tick))
    return World(without_pool=_most_used(outcome.hours))


def _most_used(hours: FloatArray) -> int:
    return int(hours[:, :-1].sum(axis=0).argmax())


@dataclass(frozen=True, eq=False)
class _JobChange:
    case: JobCase
    trial: Trial
    change: str
    windows: int
    found: dict[str, tuple[Trial, Trial] | str]

    def __call__(self) -> None:
        rows = _some(len(self.case.start), self.windows)
        case, base = self.case.part(rows), _rows_of(self.trial, rows)
        world = World()
        policy = known(self.trial.policy, "the policy")
        try:
            if self.change == CHANGES[0]:
                world = World(more_interruptions=True)
            elif self.change == CHANGES[1]:
                world = World(spot_price=1.25)
            elif self.change == CHANGES[2]:
                doubled = 2 * case.job.restart_overhead_seconds
                case = replace(case, job=replace(case.job, restart_overhead_seconds=doubled))
            else:
                world = World(without_pool=_most_used(self.trial.outcome.hours))  # type: ignore[union-attr] # it has one
            self.found[self.change] = (
                base,
                Trial.of(policy, replay_job(case, policy, world)),
            )
        except InputError as error:
            self.found[self.change] = str(error)
