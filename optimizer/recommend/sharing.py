"""Workloads that are to be moved to the same pools: what one holds there is not there for another.

Every workload is judged alone first. Those that would move to the same pools are then replayed together, and
the report says what came out: who moves, what it costs, whether each target is still kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from optimizer.recommend.decide import CANDIDATES, decide
from optimizer.recommend.jobs import JobCase, replay_job
from optimizer.recommend.judge import Run, Trial
from optimizer.recommend.prepare import Subject
from optimizer.recommend.result import Decision, Scenario, SharedPools, known
from optimizer.recommend.scenarios import Judged, judged
from optimizer.recommend.services import Case, Outcome, World
from optimizer.recommend.together import replay_together
from simulator.deadline.observation import IntArray
from simulator.market.market import UNLIMITED_CAPACITY

TITLE = "workloads that share pools"


@dataclass(frozen=True, eq=False)
class Settled:
    """What became of the workloads.

    Attributes:
        judged: One per workload, in order; of those that share pools, as they are together.
        decisions: The same.
        shared: Pools that several wanted.
    """

    judged: list[Judged]
    decisions: list[Decision]
    shared: tuple[SharedPools, ...]


def settle(each: Sequence[Judged], decisions: Sequence[Decision], run: Run) -> Settled:
    """Hold the decisions of workloads that share pools to what the pools have for all of them.

    Where the target of one is not kept any more, or its saving is not sure any more, half of such workloads,
    those that save least, do not move, and the others are replayed again.

    Args:
        each: Workloads as they are alone.
        decisions: Likewise.
        run: Runs replays.
    """
    found = Settled(list(each), list(decisions), ())
    shared = []
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, (one, decision) in enumerate(zip(each, decisions, strict=True)):
        if decision.action == "move" and one.subject.market is not None:
            use = one.subject.market
            groups.setdefault((use.files, use.pools, use.tick_seconds), []).append(place)
    for places in groups.values():
        if len(places) > 1:
            shared.append(_Group(each, decisions, places, run).settle(found))
    return replace(found, shared=tuple(shared))


@dataclass(frozen=True, eq=False)
class _Group:
    """Workloads of one group of pools.

    Attributes:
        each: All workloads, alone.
        decisions: Their decisions, alone.
        places: Those of the group.
        run: Runs replays.
    """

    each: Sequence[Judged]
    decisions: Sequence[Decision]
    places: Sequence[int]
    run: Run

    def settle(self, found: Settled) -> SharedPools:
        """Write what becomes of them into `found`."""
        members, gone = list(self.places), []
        asked, room = self.asked(members), self.room()
        while len(members) > 1 and not (self.asked(members) <= room).all():
            now = self.together(members)
            failing = [place for place in members if not _stands(now[place], self.decisions[place])]
            for place in members:
                found.judged[place] = now[place]
            if not failing:
                break
            ranked = sorted(failing, key=lambda p: (self.decisions[p].saving_usd, self.name(p)))
            dropped = ranked[: math.ceil(len(ranked) / 2)]
            for place in dropped:
                found.decisions[place] = self.not_moved(place, members, now[place])
            gone += dropped
            members = [place for place in members if place not in dropped]
        replayed = len(members) > 1 and not (self.asked(members) <= room).all()
        for place in self.places:
            if place in gone or not replayed:
                found.judged[place] = self.each[place]
        extra = 0.0
        for place in members if replayed else ():
            found.decisions[place], more = self.moved(place, members, found.judged[place])
            extra += more
        where = int((asked - room).argmax())
        return SharedPools(
            pools=known(self.each[self.places[0]].subject.market, "the market").pools,
            workloads=tuple(self.name(place) for place in members),
            most_asked=int(asked[where]),
            least_capacity=int(room[where]),
            replay=self.way() if replayed or gone else "not-needed",
            extra_usd=extra,
            not_moved=tuple(sorted(self.name(place) for place in gone)),
        )

    def name(self, place: int) -> str:
        """Name of a workload."""
        return self.each[place].subject.workload.name

    def way(self) -> Literal["together", "apart"]:
        """How workloads are replayed."""
        jobs = any(isinstance(self.each[place].subject.case, JobCase) for place in self.places)
        return "apart" if jobs else "together"

    def trial(self, place: int) -> Trial:
        """The recommended policy alone."""
        return self.each[place].trials[self.decisions[place].role]

    def asked(self, members: Sequence[int]) -> IntArray:
        """(P,) most that is asked of each pool if everybody does so at once."""
        most = [_most(self.each[p].subject, self.trial(p), "asked") for p in members]
        return np.asarray(np.sum(most, axis=0))

    def room(self) -> IntArray:
        """(P,) least that each pool has when it has any."""
        return _room(self.each[self.places[0]].subject)

    def together(self, members: Sequence[int]) -> dict[int, Judged]:
        """The workloads as they are with the others there: services exactly, jobs on the safe side."""
        jobs = [place for place in members if isinstance(self.each[place].subject.case, JobCase)]
        services = [place for place in members if place not in jobs]
        trials: dict[int, Trial] = {}
        pools = len(self.room())
        by_jobs = {place: _most(self.each[place].subject, self.trial(place), "held") for place in jobs}
        if services:
            taken = tuple(int(n) for n in np.sum([np.zeros(pools, np.int64), *by_jobs.values()], axis=0))
            cases = [case for p in services if isinstance(case := self.each[p].subject.case, Case)]
            policies = [known(self.trial(place).policy, "the policy") for place in services]
            outcomes = replay_together(
                cases,
                policies,
                taken if any(taken) else (),
                run=lambda tasks: self.run(TITLE, tasks),
            )
            trials |= {
                place: Trial.of(policy, outcome)
                for place, policy, outcome in zip(services, policies, outcomes, strict=True)
            }
        held = dict(by_jobs)
        for place in services:
            held[place] = _most(self.each[place].subject, trials[place], "held")
        tasks = [_JobTask(self, place, held, trials) for place in jobs]
        if tasks:
            self.run(TITLE, tasks)
        return {
            place: judged(
                self.each[place].subject,
                {**self.each[place].trials, self.decisions[place].role: trials[place]},
            )
            for place in members
        }

    def moved(self, place: int, members: Sequence[int], now: Judged) -> tuple[Decision, float]:
        """The decision for a workload that moves with others, and what it costs more than alone."""
        role = self.decisions[place].role
        decision = decide(_only(now, self.decisions[place]))
        extra = now.scenarios[role].monthly_usd - self.each[place].scenarios[role].monthly_usd
        others = _listed([self.name(other) for other in members if other != place])
        text = (
            f"Its pools are also wanted by {others}; the figures are those of all of them at once "
            f"({extra:+,.2f} USD a month against having the pools alone)."
        )
        kept = tuple(r for r in self.decisions[place].reasons if "USD a month more" in r)
        return decision.model_copy(update={"reasons": (*decision.reasons, *kept, text)}), extra

    def not_moved(self, place: int, members: Sequence[int], now: Judged) -> Decision:
        """The decision for a workload for which there is not enough."""
        alone = self.decisions[place]
        scenario = now.scenarios[alone.role]
        sla = known(scenario.sla, "the SLA")
        others = _listed([self.name(other) for other in members if other != place])
        if sla.holds:
            low = known(scenario.saving_interval_usd, "the interval")[0]
            why = f"the saving is not above zero with its whole interval any more (from {low:,.2f} USD)"
        elif sla.measure == "availability":
            why = (
                f"the availability is {sla.value:.4f}, at least {sla.bound:.4f}; the target is "
                f"{sla.target:.4g}"
            )
        else:
            why = f"{sla.value:.2%} of runs are late"
        return Decision(
            action="change-nothing",
            role="as-billed",
            reasons=(
                f"Alone it would move ({alone.policy}, saving {alone.saving_usd:,.2f} USD a month), but its "
                f"pools are also wanted by {others}, and with all of them there {why}. Those that save more "
                "move.",
            ),
            assumptions=alone.assumptions,
            missing_data=("pools of other zones or instance types, so that there is enough for all",),
        )


@dataclass(frozen=True, eq=False)
class _JobTask:
    group: _Group
    place: int
    held: dict[int, IntArray]
    trials: dict[int, Trial]

    def __call__(self) -> None:
        others = np.sum([most for place, most in self.held.items() if place != self.place], axis=0)
        case = self.group.each[self.place].subject.case
        policy = known(self.group.trial(self.place).policy, "the policy")
        if isinstance(case, JobCase):
            outcome = replay_job(case, policy, World(taken=tuple(int(n) for n in others)))
            self.trials[self.place] = Trial.of(policy, outcome)


def shared_in_part(each: Sequence[Judged], decisions: Sequence[Decision]) -> tuple[str, ...]:
    """What has to be known of moved workloads that have some pools in common and not all.

    They are not replayed together. Where a pool has less than all of them may ask for, it is told.
    """
    users: dict[str, list[tuple[Subject, int, int]]] = {}
    for one, decision in zip(each, decisions, strict=True):
        if decision.action != "move" or one.subject.market is None:
            continue
        asked, room = _most(one.subject, one.trials[decision.role], "asked"), _room(one.subject)
        for k, pool in enumerate(one.subject.match.pools):
            users.setdefault(pool.name, []).append((one.subject, int(asked[k]), int(room[k])))
    short: dict[tuple[str, ...], list[str]] = {}
    for pool_name, mine in users.items():
        in_part = len({subject.match.pools for subject, _, _ in mine}) > 1
        if in_part and sum(asked for _, asked, _ in mine) > min(room for _, _, room in mine):
            short.setdefault(tuple(subject.workload.name for subject, _, _ in mine), []).append(pool_name)
    return tuple(
        f"{', '.join(names)} may ask for more of {_listed(pools)} at once than there is; their pools are the "
        "same in part only, so they were not replayed together: the figures are as if each had them alone"
        for names, pools in short.items()
    )


def _room(subject: Subject) -> IntArray:
    """(P,) least that each pool has when it has any."""
    least = [
        np.where(m.market.spot_capacity > 0, m.market.spot_capacity, UNLIMITED_CAPACITY).min(axis=1)
        for m in subject.match.markets
    ]
    return np.asarray(np.min(least, axis=0), np.int64)


def _most(subject: Subject, trial: Trial, what: str) -> IntArray:
    """(P,) most instances of each pool in any window; of a job its nodes, in every pool."""
    if isinstance(subject.case, JobCase):
        return np.full(len(subject.match.pools), subject.case.job.nodes, np.int64)
    outcome = trial.outcome
    if not isinstance(outcome, Outcome):
        return np.zeros(len(subject.match.pools), np.int64)
    return np.asarray(getattr(outcome, what).max(axis=0), np.int64)


def _only(now: Judged, decision: Decision) -> Judged:
    """The workload as if the recommended policy were the only one."""
    others = [role for role in CANDIDATES if role != decision.role]
    return replace(now, scenarios={r: s for r, s in now.scenarios.items() if r not in others})


def _stands(now: Judged, decision: Decision) -> bool:
    """Whether a move is still one that would be recommended."""
    scenario: Scenario = now.scenarios[decision.role]
    low = known(scenario.saving_interval_usd, "the interval")[0]
    return scenario.sla is not None and scenario.sla.holds and low > 0


def _listed(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
