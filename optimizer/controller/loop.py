"""One tick: observe, decide, guard, journal, act, confirm."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from optimizer.controller.act import Actor
from optimizer.controller.canary import Canary
from optimizer.controller.carry import Carrier
from optimizer.controller.config import ControllerSettings, Mode
from optimizer.controller.decide import (
    Decision,
    Timed,
    decide_jobs,
    decide_services,
    stale_rows,
    tell_fallbacks,
)
from optimizer.controller.fleets import make_fleets, present_rate
from optimizer.controller.groups import GroupKeeper
from optimizer.controller.guard import Situation, Trip, guard
from optimizer.controller.handover import identity_of, state_of, take_over
from optimizer.controller.hook import CheckpointHook
from optimizer.controller.inventory import Inventory
from optimizer.controller.job_events import tell_of_jobs
from optimizer.controller.jobs import JobFleet
from optimizer.controller.journal import Deposed, InstanceRow, Journal, JournalFull, JournalLost
from optimizer.controller.lease import FencedCapacity, FencedGroups, FencedInterruptions, Lease
from optimizer.controller.losses import take_in
from optimizer.controller.moves import Move, job_moves, rate_of, service_moves
from optimizer.controller.observe import Observer, Sight, Tell, Watch
from optimizer.controller.providers import CloudError, Provider
from optimizer.controller.rebalance import Rebalance
from optimizer.controller.report import MOVES_TOLD, Report
from optimizer.controller.services import ServiceFleet
from optimizer.controller.shadow import PREFIX, Belief, Shadow
from optimizer.controller.situation import add_history, limits_of, trips_of
from optimizer.controller.strangers import Strangers
from optimizer.controller.unseen import Unseen, look_for
from optimizer.plan import Plan
from policies.protocol import Memory
from simulator.errors import InputError

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 10.0, 300.0
"""Until the look after one that left something open; doubles with each in a row."""


class Controller:
    """The loop's state. One thread calls `run_tick`; others may set `paused` and `killed`, and read."""

    def __init__(
        self,
        plan: Plan,
        settings: ControllerSettings,
        provider: Provider,
        journal: Journal,
        tell: Tell,
        mode: Mode | None = None,
        lease: Lease | None = None,
    ) -> None:
        """Continue where the journal ends, or begin.

        Args:
            plan: What is to be placed.
            settings: Limits and the rest.
            provider: The cloud; `Shadow` around it in shadow mode is made here.
            journal: An open journal.
            tell: Takes events; they are journalled by the caller.
            mode: Instead of the settings' mode.
            lease: Who may act, where there are several controllers.

        Raises:
            InputError: A policy cannot be loaded, or the journal is of another plan's workloads.
        """
        self.plan, self.settings, self.journal = plan, settings, journal
        self.mode: Mode = mode or settings.mode
        self._lease = lease
        self._leads = lease is None
        self._fence = 0
        if lease is not None:
            provider = replace(
                provider,
                capacity=FencedCapacity(provider.capacity, lease),
                groups=FencedGroups(provider.groups, lease) if provider.groups is not None else None,
                interruptions=FencedInterruptions(provider.interruptions, lease)
                if provider.interruptions is not None
                else None,
            )
        self._cloud = self.provider = provider
        self.killed = False
        self._tell_outside = tell
        self._timed = Timed(settings.policy_seconds)
        self._take_up()

    def _take_up(self) -> None:
        """Continue where the journal ends: at the beginning, and when another leader wrote to it since."""
        plan, settings, journal, provider = self.plan, self.settings, self.journal, self._cloud
        self.paused = journal.recall("paused") == "yes"
        self.jobs, self.services = make_fleets(plan)
        self._known = frozenset(name for fleet in self.fleets for name in fleet.row)
        self.pools = {name: pool for fleet in self.fleets for name, pool in fleet.pools.items()}
        self._identity = {fleet.key: identity_of(fleet) for fleet in self.fleets}
        take_over(journal, self.jobs, self.services, self._scope)
        shadow_only = self.mode == "shadow"
        rows = [row for row in journal.live_instances() if row.id.startswith(PREFIX) == shadow_only]
        self.inventory = Inventory(rows)
        if self.mode == "shadow":
            shadow = Shadow(provider.capacity, provider.clock, rows, self.pools)
            self.provider = Provider(provider.name, provider.clock, provider.prices, shadow)
        last = journal.last_tick()
        self.watch = Watch(
            self.provider.clock, settings.freshness.clock_jump_seconds, last[1] if last else None
        )
        # a tick that was not finished may have journalled losses that no account has yet
        self._ended = journal.ended_since(last[1]) if last else {}
        self._groups = GroupKeeper(
            [fleet for fleet, _ in self.services], journal, plan.tick_seconds, self.tell
        )
        if self._groups.of and self.provider.groups is None:
            raise InputError(f"provider {self.provider.name} has no Auto Scaling groups; use another demand")
        self._observer = Observer(self.provider, self.pools, settings.freshness, self.tell)
        self._actor = Actor(
            self.provider.capacity,
            journal,
            self.inventory,
            self.tell,
            groups=self.provider.groups,
            raised=self._groups.raised,
            before_planned_move=CheckpointHook(
                settings.checkpoint_hook, settings.checkpoint_hook_seconds, self.tell
            )
            if settings.checkpoint_hook
            else None,
            halted=self._halted,
        )
        self.canary = (
            Canary(settings.canary, self.fleets, plan, journal, self.tell) if self.mode == "canary" else None
        )
        self._carrier = Carrier(
            self._actor,
            self.jobs,
            self.inventory,
            self.pools,
            self.services,
            self._timed,
            limits_of(plan.caps, settings.guards),
            plan.tick_seconds,
            self._acts,
            self._note_move,
            self._tell_outside,
        )
        self.rebalance = Rebalance(journal, {name for fleet, _ in self.services for name in fleet.names})
        self._present_cost = float(journal.recall("present_cost") or 0.0)
        self.belief = Belief(journal) if self.mode == "shadow" else None
        self._journal_full = False
        self._sight: Sight | None = None
        self._expired = False
        self._tripped: frozenset[tuple[str, str, str, str]] = frozenset()
        self._strangers = Strangers(self._known, journal, self.tell)
        self._spent = journal.last_figure(self._spend)
        self._waiting: frozenset[str] = frozenset()
        self._retry_seconds = 0.0
        self._decided = journal.last_decided(self.mode, plan.checksum)

    @property
    def fleets(self) -> list[JobFleet | ServiceFleet]:
        """All fleets."""
        return [fleet for fleet, _ in self.jobs] + [fleet for fleet, _ in self.services]

    @property
    def cost(self) -> float:
        """USD so far of everything that the plan places, as the cloud bills it."""
        return float(sum(fleet.cost.sum() for fleet in self.fleets))

    @property
    def lateness(self) -> float:
        """USD so far for jobs that are late."""
        return float(sum(fleet.lateness.sum() for fleet, _ in self.jobs))

    @property
    def on_demand_cost(self) -> float:
        """USD that the same would have cost so far on on-demand capacity."""
        return float(sum(fleet.on_demand_cost.sum() for fleet in self.fleets))

    @property
    def present_cost(self) -> float:
        """USD so far of the placements that the plan found when it was made, at the prices since."""
        return self._present_cost

    @property
    def price(self) -> dict[str, float]:
        """Spot price by pool as of the last tick."""
        return self._sight.price if self._sight is not None else {}

    @property
    def unplanned(self) -> set[str]:
        """Ids of held instances whose workload the plan does not have."""
        return self._strangers.unplanned

    @property
    def price_age_seconds(self) -> float:
        """Age of the oldest price in use."""
        return self._sight.oldest_price_seconds if self._sight is not None else 0.0

    @property
    def policy_latency_seconds(self) -> float:
        """Time that the last policy call took."""
        return self._timed.latency_seconds

    @property
    def leads(self) -> bool:
        """Whether this controller acted in the last tick, or there is no other."""
        return self._leads

    @property
    def writes(self) -> bool:
        """Whether it writes the journal; one that is shared is the leader's."""
        return self._leads or not self.journal.shared

    def tell(self, level: str, kind: str, message: str) -> None:
        """Journal an event and pass it on; a full journal does not stop the event from being passed on."""
        try:
            if self.writes:
                self.journal.event(self.provider.clock.now(), level, kind, message)
        except JournalFull:
            self._journal_full = True
        self._tell_outside(level, kind, message)

    def tick_number(self, now: float) -> int:
        """Ticks since the plan was created."""
        return math.floor((now - self.plan.created.timestamp()) / self.plan.tick_seconds)

    def next_tick(self, now: float) -> float:
        """When the tick after `now` begins."""
        return self.plan.created.timestamp() + (self.tick_number(now) + 1) * self.plan.tick_seconds

    def next_look(self, report: Report) -> float:
        """When to look again: at the next tick, and before that if this look left something open."""
        tick = self.next_tick(report.now)
        if not report.again:
            self._retry_seconds = 0.0
            return tick
        wait = min(max(2.0 * self._retry_seconds, FIRST_RETRY_SECONDS), LONGEST_RETRY_SECONDS)
        self._retry_seconds = wait
        return min(tick, report.now + wait)

    @property
    def _spend(self) -> str:
        """Name of the figure that adds up what everything cost, whatever plan it was under."""
        return "shadow_spent_usd" if self.mode == "shadow" else "spent_usd"

    @property
    def _scope(self) -> str:
        """Of saved state: what a shadow imagines is nothing that another mode may believe."""
        return "shadow:" if self.mode == "shadow" else ""

    @property
    def listens(self) -> bool:
        """Whether it reads the queue of warnings.

        Reading hides messages and handling removes them: from the leader, if this one is not it, and from the
        controller in charge, if this one only says what it would do.
        """
        return self._leads and self.mode in ("apply", "canary")

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: jobs only, all done and their instances gone."""
        return (
            not self.services
            and all(fleet.done.all() for fleet, _ in self.jobs)
            and all(row.id in self.unplanned for row in self.inventory.all_live())
        )

    # --------------------------------------------------------------------------------------------- tick

    def run_tick(self) -> Report:
        """Run one tick; never raises for what a cloud, a policy, a disk or a database does."""
        try:
            if self._lease is not None:
                self._look_at_lease(self._lease)
            if self.writes:
                return self._tick()
            self._take_up()
        except (JournalLost, Deposed) as error:
            # what was half done is taken up from the journal, as after a restart
            self._leads, self._fence = False, 0
            self._tell_outside("error", "journal-lost", f"{error}; capacity stays as it is")
        now = self.provider.clock.now()
        return Report(self.tick_number(now), now, held="not-leader")

    def _look_at_lease(self, lease: Lease) -> None:
        """Renew or take the lease; a new leader continues from the end of what the one before journalled."""
        held = lease.hold()
        if lease.problem:
            self._tell_outside("error", "lease", f"the lease cannot be asked for: {lease.problem}")
        if held and lease.fence != self._fence:
            self._leads = False
            if self.journal.shared:
                self.journal.lead(lease.fence)
                self._take_up()
            else:
                self.inventory.doubt()
            self._leads, self._fence = True, lease.fence
            self.tell("info", "leader", f"leads from now on, number {lease.fence}")
        elif not held:
            if self._leads:
                self._tell_outside("warning", "leader", "does not lead any more")
            self._leads, self._fence = False, 0

    def _tick(self) -> Report:
        began = time.perf_counter()
        now, in_doubt = self.watch.now(self.tell)
        report = Report(self.tick_number(now), now)
        report.between = report.tick == self._decided
        sight = self._observer.look(now, in_doubt, self._groups.names(), listens=self.listens)
        if sight.instances is not None:
            sight.instances = [*sight.instances, *self._groups.instances(sight, self.inventory)]
        if sight.instances is None:
            # Nobody knows what runs: memory, accounts and capacity stay as they are.
            report.held, report.again = "blind", True
            self._end_tick(report, sight, {}, {})
            return report
        unseen = look_for(sight, self.fleets, self._groups.names_of, self.pools)
        grace = self.settings.grace_seconds
        lost, adopted = take_in(self.inventory, sight, grace, unseen.hides)
        mine = [row for row in adopted if row.workload not in self._groups.workloads]
        self._strangers.look(mine, self.inventory.all_live())
        report.lost = sum(len(rows) for rows in lost.values())
        report.lost_in = {row.pool for rows in lost.values() for row in rows if row.option == "spot"}
        gone = [row for rows in lost.values() for row in rows if row.option == "spot"]
        self.rebalance.note(sight.notices, gone, self.inventory, sight.now)
        doubt, still = self._resolve(sight, unseen), unseen.still(self.inventory)
        interrupted = self._account(sight, lost, still | self.inventory.absent())
        freed = self._waiting - doubt - still
        interrupted = {key: names | freed for key, names in interrupted.items()}
        unseen.avoid(self.fleets)
        if self._sight is not None:
            hours = max(sight.now - self._sight.now, 0.0) / 3600.0
            self._present_cost += present_rate(self.fleets, sight.price) * hours
            if self.belief is not None:
                live = self.inventory.all_live()
                self.belief.note(live, self._sight.offers, self.pools, self._sight.price, hours)
        if self.canary is not None:
            self.canary.look(self.inventory)
        decisions, memories = self._decide(sight, interrupted, report.between)
        if self.canary is not None:
            self.canary.judge(sight.now)
            self.canary.override(decisions)
        moves = self._moves(decisions, sight)
        situation = Situation(
            sight.now,
            held_back=self._held_back(sight),
            hold_terminations="clock-jump" if sight.clock_in_doubt else "",
            rate=rate_of(list(self.inventory.all_live()), self.pools, sight.price),
            in_doubt=doubt,
            unseen=still,
        )
        guards = self.settings.guards
        add_history(situation, guards, self.fleets, self.inventory, self.journal)
        if guards.budget_usd_per_day is not None:
            situation.spent_today = self._spent - self.journal.cost_at(now - 86_400.0, self._spend)
        allowed, trips = guard(moves, limits_of(self.plan.caps, guards), situation)
        report.trips = trips_of(self.fleets, decisions) + trips
        report.held, report.in_doubt = situation.held_back, doubt
        report.wanted = {key: decision.wanted for key, decision in decisions.items()}
        report.seconds = time.perf_counter() - began
        report.moves = [(move.workload, str(move), move.why) for move in allowed[:MOVES_TOLD]]
        try:
            self._carrier.carry_out(report, sight, decisions, allowed, situation, self.mode)
        except JournalFull as error:
            self._journal_full = True
            report.held, report.again = "journal-full", True
            self._tell_outside("error", "journal-full", f"{error}; capacity stays as it is")
        self._waiting = doubt | still | report.outcome.unknown
        report.again = report.again or bool(self._waiting or self.inventory.absent())
        self._end_tick(report, sight, decisions, memories)
        self._acknowledge(sight)
        return report

    def _acknowledge(self, sight: Sight) -> None:
        """Remove messages from the queue once what they announced has been answered."""
        queue = self.provider.interruptions
        if queue is None or not sight.notices:
            return
        try:
            queue.acknowledge([notice.receipt for notice in sight.notices])
        except CloudError as error:
            self.tell("warning", "unreachable", f"handled messages stay in the queue: {error}")

    def _resolve(self, sight: Sight, unseen: Unseen) -> frozenset[str]:
        return frozenset(
            self._actor.resolve(
                sight.now,
                sight.instances or (),
                self.pools,
                known=self._known,
                hides_pool=unseen.hides_pool,
                shadow=self.mode == "shadow",
                resend_seconds=self.plan.tick_seconds,
                grace_seconds=self.settings.grace_seconds,
                may_launch=self.mode in ("apply", "canary") and not self._held_back(sight),
            )
        )

    def _account(
        self, sight: Sight, lost: Mapping[str, Sequence[InstanceRow]], unseen: AbstractSet[str]
    ) -> dict[str, set[str]]:
        earlier, self._ended = self._ended, {}
        interrupted: dict[str, set[str]] = {}
        before = self.cost
        unvouched = self.inventory.unvouched() | unseen
        for fleet, _ in self.jobs:
            late, done = fleet.missed.copy(), fleet.done.copy()
            held, anew = fleet.held(self.inventory), fleet.anew(self.inventory)
            ended = fleet.ends(lost, earlier)
            interrupted[fleet.key] = set(fleet.look(sight.now, held, ended, unvouched, anew))
            fleet.adopt(fleet.held(self.inventory), self.inventory, sight.now)
            tell_of_jobs(fleet, done, late, self._acts, self.tell)
        for services, _ in self.services:
            services.look(sight.now, self._groups.demand(sight))
        self._spent += self.cost - before
        return interrupted

    def _baseline(self, fleet: JobFleet | ServiceFleet, now: float) -> Mapping[int, str]:
        """Rows for which no policy is asked, and why.

        What a plan says of policies is good until it expires; its promises to workloads are kept anyway.
        """
        if now >= self.plan.expires.timestamp():
            if not self._expired:
                self.tell(
                    "error", "plan-expired", "the plan has expired: the safe baseline decides from now on"
                )
            self._expired = True
            return dict.fromkeys(range(fleet.size), "the plan has expired")
        return self.canary.baseline(fleet) if self.canary is not None else {}

    def _decide(
        self, sight: Sight, interrupted: Mapping[str, set[str]], between: bool
    ) -> tuple[dict[str, Decision], dict[str, Memory]]:
        decisions: dict[str, Decision] = {}
        memories: dict[str, Memory] = {}
        for fleet, policy in self.jobs:
            decisions[fleet.key], memories[fleet.key] = decide_jobs(
                fleet,
                policy,
                self._timed,
                now=sight.now,
                tick_seconds=self.plan.tick_seconds,
                price=sight.price,
                offers=sight.offers,
                stale=stale_rows(fleet, sight.stale),
                interrupted=np.array([name in interrupted[fleet.key] for name in fleet.names]),
                between=between,
                leave=self.rebalance.leaving(fleet, self.inventory),
                baseline=self._baseline(fleet, sight.now),
            )
        for services, service_policy in self.services:
            held, ready = services.counts(self.inventory, sight.now)
            share = self.settings.guards.max_pool_share
            decisions[services.key], memories[services.key] = decide_services(
                services,
                service_policy,
                self._timed,
                held=held,
                price=sight.price,
                stale=stale_rows(services, sight.stale),
                max_pool_share=share,
                between=between,
                baseline=self._baseline(services, sight.now),
            )
            self.rebalance.steer(
                services,
                decisions[services.key],
                ready,
                held,
                self.inventory,
                sight,
                max_pool_share=share,
                others=self._groups.workloads,
            )
        tell_fallbacks(decisions, self._tell_outside)
        return decisions, memories

    def _moves(self, decisions: Mapping[str, Decision], sight: Sight) -> list[Move]:
        moves: list[Move] = []
        for fleet, policy in self.jobs:
            held = fleet.held(self.inventory)
            moves += job_moves(fleet, decisions[fleet.key], self.inventory, held, sight.price, policy.name)
        for services, service_policy in self.services:
            held, _ = services.counts(self.inventory, sight.now)
            decision = decisions[services.key]
            moves += service_moves(
                services,
                decision,
                self.inventory,
                held,
                sight.price,
                service_policy.name,
                self._groups.workloads,
                self.rebalance.away,
            )
            moves += self._groups.moves(services, decision, self.inventory, sight, service_policy.name)
        return moves

    # ------------------------------------------------------------------------------------------- guards

    def _halted(self) -> str:
        """Why somebody wants nothing to be done; may change at any moment."""
        if self.killed or (self.settings.state_dir / "KILL").exists():
            return "kill-switch"
        return "paused" if self.paused else ""

    def _held_back(self, sight: Sight) -> str:
        halted = self._halted()
        if halted:
            return halted
        if not self._leads:
            return "not-leader"
        if self._journal_full:
            return "journal-full"
        return ""

    def _note_move(self, move: Move, now: float) -> None:
        for fleet in self.fleets:
            if fleet.key == move.key:
                fleet.moved_at[fleet.row[move.workload]] = now

    def _acts(self, workload: str) -> bool:
        if self.mode == "dry-run":
            return False
        return self.canary is None or self.canary.acts(workload)

    # ---------------------------------------------------------------------------------------- end of tick

    def _end_tick(
        self,
        report: Report,
        sight: Sight,
        decisions: Mapping[str, Decision],
        memories: Mapping[str, Memory],
    ) -> None:
        if decisions:
            for fleet, _ in self.jobs:
                fleet.confirm(decisions[fleet.key].wanted, fleet.held(self.inventory), sight.price)
                fleet.memory = memories[fleet.key]
            for services, _ in self.services:
                services.confirm(
                    decisions[services.key].wanted,
                    self.inventory,
                    sight.now,
                    sight.price,
                    between=report.between,
                )
                services.memory = memories[services.key]
        try:
            self.journal.save_tick(
                report.tick,
                report.now,
                self.mode,
                {
                    "cost_usd": self.cost,
                    self._spend: self._spent,
                    "present_usd": self._present_cost,
                    "held": report.held,
                    "plan": self.plan.checksum,
                    "decided": bool(decisions) and not report.held,
                    "launched": report.outcome.launched,
                    "terminated": report.outcome.terminated,
                    "lost": report.lost,
                },
                {
                    self._scope + fleet.key: state_of(fleet, self._identity[fleet.key])
                    for fleet in self.fleets
                },
                self.inventory.take_changed(),
                self._new_trips(report.trips),
                () if sight.instances is None else self._seen(report, sight),
            )
            if self._journal_full:
                self._journal_full = False
                self.tell("info", "journal", "the journal can be written again")
        except JournalFull as error:
            if not self._journal_full:
                self._tell_outside("error", "journal-full", f"{error}; capacity stays as it is")
            self._journal_full = True
        self._sight = sight
        if decisions and not report.held:
            self._decided = report.tick

    # ------------------------------------------------------------------------------------------ beginning

    def _new_trips(self, trips: Sequence[Trip]) -> list[tuple[str, str, str, str]]:
        """Trips that the tick before did not have: a pause of a week is not journalled at every tick."""
        found = dict.fromkeys((trip.guard, trip.workload, trip.wanted, trip.got) for trip in trips)
        fresh = [trip for trip in found if trip not in self._tripped]
        self._tripped = frozenset(found)
        return fresh

    def _seen(self, report: Report, sight: Sight) -> list[tuple[str, float | None, int, bool]]:
        # what a shadow believes it holds is no word on what a pool has
        real = self.inventory.all_live() if self.mode != "shadow" else ()
        held = Counter(row.pool for row in real if row.option == "spot")
        short = {pool for _, pool, option in report.outcome.without_capacity if option == "spot"}
        refused = short | report.lost_in
        refused = refused if self.mode != "shadow" else set()
        return [(name, sight.price.get(name), held[name], name in refused) for name in self.pools]
