"""One tick: observe, account, decide, guard, act, confirm."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from optimizer.controller.conclude import conclude
from optimizer.controller.decide import Decision, decide_jobs, decide_services, stale_rows, tell_fallbacks
from optimizer.controller.fleets import present_rate
from optimizer.controller.guard import Situation, guard
from optimizer.controller.job_events import tell_of_jobs
from optimizer.controller.jobs import JobFleet
from optimizer.controller.journal import InstanceRow, JournalFull
from optimizer.controller.losses import take_in
from optimizer.controller.moves import Move, job_moves, rate_of, service_moves
from optimizer.controller.observe import Sight
from optimizer.controller.providers import CloudError
from optimizer.controller.report import MOVES_TOLD, Report
from optimizer.controller.resume import Resumed
from optimizer.controller.services import ServiceFleet
from optimizer.controller.situation import add_history, limits_of, trips_of
from optimizer.controller.standing import Standing
from optimizer.controller.unseen import Unseen, look_for
from optimizer.plan import Plan
from policies.protocol import Memory


def tick_number(plan: Plan, now: float) -> int:
    """Ticks since the plan was created."""
    return math.floor((now - plan.created.timestamp()) / plan.tick_seconds)


def run_tick(state: Resumed, standing: Standing) -> Report:
    """Run one tick; `state` is afterwards as the journal has it.

    Raises:
        JournalLost: A shared journal does not answer.
        Deposed: There is a later leader.
    """
    began = time.perf_counter()
    now, in_doubt = state.watch.now(standing.tell)
    report = Report(tick_number(state.plan, now), now)
    report.between = report.tick == state.decided
    sight = state.observer.look(now, in_doubt, state.groups.names(), listens=standing.listens)
    if sight.instances is not None:
        sight.instances = [*sight.instances, *state.groups.instances(sight, state.inventory)]
    if sight.instances is None:
        # Nobody knows what runs: memory, accounts and capacity stay as they are.
        report.held, report.again = "blind", True
        conclude(state, standing, report, sight, {}, {})
        return report
    tick = _Tick(state, standing, report, sight)
    tick.account()
    decisions, memories = tick.decide()
    moves = tick.guard(decisions)
    report.seconds = time.perf_counter() - began
    report.moves = [(move.workload, str(move), move.why) for move in moves[:MOVES_TOLD]]
    tick.act(decisions, moves)
    conclude(state, standing, report, sight, decisions, memories)
    tick.acknowledge()
    return report


class _Tick:
    """The steps of a tick whose look brought something, in this order."""

    def __init__(self, state: Resumed, standing: Standing, report: Report, sight: Sight) -> None:
        self._state, self._standing, self._report, self._sight = state, standing, report, sight
        self._unseen: Unseen = look_for(sight, state.fleets, state.groups.names_of, state.pools)
        self._interrupted: dict[str, AbstractSet[str]] = {}
        self._doubt = self._still = frozenset[str]()
        self._situation = Situation(sight.now)

    # ------------------------------------------------------------------------------------------- account

    def account(self) -> None:
        """What ended and began since the last look, and what it did and cost."""
        state, report, sight, unseen = self._state, self._report, self._sight, self._unseen
        inventory = state.inventory
        lost, adopted = take_in(inventory, sight, state.settings.grace_seconds, unseen.hides)
        mine = [row for row in adopted if row.workload not in state.groups.workloads]
        state.strangers.look(mine, inventory.all_live())
        gone = [row for rows in lost.values() for row in rows if row.option == "spot"]
        report.lost = sum(len(rows) for rows in lost.values())
        report.lost_in = {row.pool for row in gone}
        state.rebalance.note(sight.notices, gone, inventory, sight.now)
        self._doubt, self._still = self._resolve(), unseen.still(inventory)
        interrupted = self._look_at_workloads(lost, self._still | inventory.absent())
        freed = state.waiting - self._doubt - self._still
        self._interrupted = {key: names | freed for key, names in interrupted.items()}
        unseen.avoid(state.fleets)
        if state.sight is not None:
            hours = max(sight.now - state.sight.now, 0.0) / 3600.0
            state.present_cost += present_rate(state.fleets, sight.price) * hours
            if state.belief is not None:
                live = inventory.all_live()
                state.belief.note(live, state.sight.offers, state.pools, state.sight.price, hours)

    def _resolve(self) -> frozenset[str]:
        """Workloads with a call whose outcome cannot be found out yet."""
        state, standing, sight = self._state, self._standing, self._sight
        return frozenset(
            state.actor.resolve(
                sight.now,
                sight.instances or (),
                state.pools,
                known=state.known,
                hides_pool=self._unseen.hides_pool,
                shadow=standing.mode == "shadow",
                resend_seconds=state.plan.tick_seconds,
                grace_seconds=state.settings.grace_seconds,
                may_launch=standing.mode in ("apply", "canary") and not standing.held_back(),
            )
        )

    def _look_at_workloads(
        self, lost: Mapping[str, Sequence[InstanceRow]], unseen: AbstractSet[str]
    ) -> dict[str, set[str]]:
        """Account for each; returns the jobs that were interrupted, by fleet."""
        state, sight, inventory = self._state, self._sight, self._state.inventory
        earlier, state.ended = state.ended, {}
        interrupted: dict[str, set[str]] = {}
        before = state.cost
        unvouched = inventory.unvouched() | unseen
        for fleet, _ in state.jobs:
            late, done = fleet.missed.copy(), fleet.done.copy()
            held, anew = fleet.held(inventory), fleet.anew(inventory)
            ended = fleet.ends(lost, earlier)
            interrupted[fleet.key] = set(fleet.look(sight.now, held, ended, unvouched, anew))
            fleet.adopt(fleet.held(inventory), inventory, sight.now)
            tell_of_jobs(fleet, done, late, state.acts, self._standing.tell)
        for services, _ in state.services:
            services.look(sight.now, state.groups.demand(sight))
        state.spent += state.cost - before
        return interrupted

    # -------------------------------------------------------------------------------------------- decide

    def decide(self) -> tuple[dict[str, Decision], dict[str, Memory]]:
        """Where each workload is wanted, and the policies' new memories, by fleet."""
        canary = self._state.canary
        if canary is not None:
            canary.look(self._state.inventory)
        decisions: dict[str, Decision] = {}
        memories: dict[str, Memory] = {}
        self._decide_jobs(decisions, memories)
        self._decide_services(decisions, memories)
        tell_fallbacks(decisions, self._standing.tell_outside)
        if canary is not None:
            canary.judge(self._sight.now)
            canary.override(decisions)
        return decisions, memories

    def _decide_jobs(self, decisions: dict[str, Decision], memories: dict[str, Memory]) -> None:
        state, sight = self._state, self._sight
        for fleet, policy in state.jobs:
            interrupted = self._interrupted[fleet.key]
            decisions[fleet.key], memories[fleet.key] = decide_jobs(
                fleet,
                policy,
                state.timed,
                now=sight.now,
                tick_seconds=state.plan.tick_seconds,
                price=sight.price,
                offers=sight.offers,
                stale=stale_rows(fleet, sight.stale),
                interrupted=np.array([name in interrupted for name in fleet.names]),
                between=self._report.between,
                leave=state.rebalance.leaving(fleet, state.inventory),
                baseline=self._baseline(fleet),
            )

    def _decide_services(self, decisions: dict[str, Decision], memories: dict[str, Memory]) -> None:
        state, sight = self._state, self._sight
        share = state.settings.guards.max_pool_share
        for fleet, policy in state.services:
            held, ready = fleet.counts(state.inventory, sight.now)
            decisions[fleet.key], memories[fleet.key] = decide_services(
                fleet,
                policy,
                state.timed,
                held=held,
                price=sight.price,
                stale=stale_rows(fleet, sight.stale),
                max_pool_share=share,
                between=self._report.between,
                baseline=self._baseline(fleet),
            )
            state.rebalance.steer(
                fleet,
                decisions[fleet.key],
                ready,
                held,
                state.inventory,
                sight,
                max_pool_share=share,
                others=state.groups.workloads,
            )

    def _baseline(self, fleet: JobFleet | ServiceFleet) -> Mapping[int, str]:
        """Rows for which no policy is asked, and why.

        What a plan says of policies is good until it expires; its promises to workloads are kept anyway.
        """
        state = self._state
        if self._sight.now >= state.plan.expires.timestamp():
            if not state.expired:
                self._standing.tell(
                    "error", "plan-expired", "the plan has expired: the safe baseline decides from now on"
                )
            state.expired = True
            return dict.fromkeys(range(fleet.size), "the plan has expired")
        return state.canary.baseline(fleet) if state.canary is not None else {}

    # --------------------------------------------------------------------------------------------- guard

    def guard(self, decisions: Mapping[str, Decision]) -> list[Move]:
        """The moves that the decisions ask for and the guards allow."""
        state, report, sight = self._state, self._report, self._sight
        moves = self._moves(decisions)
        situation = self._situation = Situation(
            sight.now,
            held_back=self._standing.held_back(),
            hold_terminations="clock-jump" if sight.clock_in_doubt else "",
            rate=rate_of(list(state.inventory.all_live()), state.pools, sight.price),
            in_doubt=self._doubt,
            unseen=self._still,
        )
        guards = state.settings.guards
        add_history(situation, guards, state.fleets, state.inventory, state.journal)
        if guards.budget_usd_per_day is not None:
            situation.spent_today = state.spent - state.journal.cost_at(sight.now - 86_400.0, state.spend)
        allowed, trips = guard(moves, limits_of(state.plan.caps, guards), situation)
        report.trips = trips_of(state.fleets, decisions) + trips
        report.held, report.in_doubt = situation.held_back, self._doubt
        report.wanted = {key: decision.wanted for key, decision in decisions.items()}
        return allowed

    def _moves(self, decisions: Mapping[str, Decision]) -> list[Move]:
        state, sight = self._state, self._sight
        moves: list[Move] = []
        for fleet, policy in state.jobs:
            held = fleet.held(state.inventory)
            moves += job_moves(fleet, decisions[fleet.key], state.inventory, held, sight.price, policy.name)
        for services, service_policy in state.services:
            held, _ = services.counts(state.inventory, sight.now)
            decision = decisions[services.key]
            moves += service_moves(
                services,
                decision,
                state.inventory,
                held,
                sight.price,
                service_policy.name,
                state.groups.workloads,
                state.rebalance.away,
            )
            moves += state.groups.moves(services, decision, state.inventory, sight, service_policy.name)
        return moves

    # ----------------------------------------------------------------------------------------------- act

    def act(self, decisions: Mapping[str, Decision], moves: Sequence[Move]) -> None:
        """Carry the moves out; what could not be written down is not done."""
        state, standing, report = self._state, self._standing, self._report
        try:
            state.carrier.carry_out(report, self._sight, decisions, moves, self._situation, standing.mode)
        except JournalFull as error:
            standing.journal_full = True
            report.held, report.again = "journal-full", True
            standing.tell_outside("error", "journal-full", f"{error}; capacity stays as it is")
        state.waiting = self._doubt | self._still | report.outcome.unknown
        report.again = report.again or bool(state.waiting or state.inventory.absent())

    def acknowledge(self) -> None:
        """Remove messages from the queue once what they announced has been answered."""
        queue = self._state.provider.interruptions
        if queue is None or not self._sight.notices:
            return
        try:
            queue.acknowledge([notice.receipt for notice in self._sight.notices])
        except CloudError as error:
            self._standing.tell("warning", "unreachable", f"handled messages stay in the queue: {error}")
