"""Continuing where the journal ends: at a start, and when another leader wrote to it since."""

from __future__ import annotations

from datetime import UTC, datetime

from optimizer.controller.act import Actor
from optimizer.controller.canary import Canary
from optimizer.controller.carry import Carrier
from optimizer.controller.config import ControllerSettings, Mode
from optimizer.controller.decide import Timed
from optimizer.controller.fleets import make_fleets
from optimizer.controller.groups import GroupKeeper
from optimizer.controller.handover import identity_of, take_over
from optimizer.controller.hook import CheckpointHook
from optimizer.controller.inventory import Inventory
from optimizer.controller.jobs import JobFleet
from optimizer.controller.journal import Journal
from optimizer.controller.moves import Move
from optimizer.controller.observe import Observer, Sight, Watch
from optimizer.controller.providers import Provider
from optimizer.controller.rebalance import Rebalance
from optimizer.controller.services import ServiceFleet
from optimizer.controller.shadow import PREFIX, Belief, Shadow
from optimizer.controller.situation import limits_of
from optimizer.controller.standing import Standing
from optimizer.controller.strangers import Strangers
from optimizer.plan import Plan
from simulator.errors import InputError


def refuse_expired(plan: Plan, journal: Journal, mode: Mode, now: float) -> None:
    """Refuse to begin with a plan out of its time; one that was under way here goes on.

    A controller that runs when its plan expires looks after what runs. A restart must not change that: what
    is lost would not be replaced, and what is done not be ended.

    Args:
        plan: What is to be placed.
        journal: Shows what was under way: the plan of the last tick in this mode.
        mode: The controller's.
        now: Seconds since 1970.

    Raises:
        InputError: It has expired or comes from the future, and was not under way.
        JournalLost: The journal's database does not answer.
    """
    if journal.last_plan(mode) == plan.checksum:
        return
    try:
        plan.refuse_expired(datetime.fromtimestamp(now, UTC))
    except InputError as error:
        raise InputError(
            f"{error}. Only a restart goes on with such a plan, and {journal.store.name} does not show it as "
            f"the last one in mode {mode}; what runs stays as it is"
        ) from error


class Resumed:
    """What a controller knows and does it with; each tick changes it, the journal has it after each tick.

    Attributes:
        plan: What is to be placed.
        settings: Limits and the rest.
        journal: Where all this is from.
        provider: The cloud; in shadow mode one that imagines instances.
        jobs: Deadline jobs and their policies.
        services: Services and their policies.
        known: Names of all workloads.
        pools: Of the plan, by name.
        identity: Which workloads a fleet's rows are, by key of the fleet.
        inventory: What is held.
        watch: The clock.
        ended: When the first instance of a workload ended, for those of which no account has it yet.
        groups: Keeps Auto Scaling groups and fleets to their mix.
        observer: Looks at the cloud.
        actor: Makes the calls.
        carrier: Carries moves out.
        canary: In canary mode.
        rebalance: Weighs recommendations.
        belief: In shadow mode: what savings rest on belief.
        strangers: Instances of workloads that the plan does not have.
        timed: Runs policies.
        present_cost: USD so far of the placements that the plan found when it was made.
        spent: USD so far, whatever plan it was under.
        sight: What the last look brought, None before the first.
        decided: Number of the last tick in which decisions were carried out.
        expired: The plan's end was told.
        tripped: Guards that tripped in the last tick.
        waiting: Workloads that the last look left open.
    """

    def __init__(
        self,
        plan: Plan,
        settings: ControllerSettings,
        provider: Provider,
        journal: Journal,
        standing: Standing,
        timed: Timed,
    ) -> None:
        """Take up what the journal has; nothing is asked of the cloud.

        Raises:
            InputError: A policy cannot be loaded, or the journal is of another plan's workloads.
            JournalLost: Its database does not answer.
        """
        self.plan, self.settings, self.journal, self.timed = plan, settings, journal, timed
        self._standing = standing
        self._tell = standing.tell
        shadows = standing.mode == "shadow"
        self.scope = "shadow:" if shadows else ""
        """Of saved state: what a shadow imagines is nothing that another mode may believe."""
        self.spend = "shadow_spent_usd" if shadows else "spent_usd"
        """Name of the figure that adds up what everything cost, whatever plan it was under."""
        standing.journal_full = False
        standing.paused = journal.recall("paused") == "yes"
        self.jobs, self.services = make_fleets(plan)
        self.known = frozenset(name for fleet in self.fleets for name in fleet.row)
        self.pools = {name: pool for fleet in self.fleets for name, pool in fleet.pools.items()}
        self.identity = {fleet.key: identity_of(fleet) for fleet in self.fleets}
        take_over(journal, self.jobs, self.services, self.scope, self._tell)
        rows = [row for row in journal.live_instances() if row.id.startswith(PREFIX) == shadows]
        self.inventory = Inventory(rows)
        self.provider = provider
        if shadows:
            shadow = Shadow(provider.capacity, provider.clock, rows, self.pools)
            self.provider = Provider(provider.name, provider.clock, provider.prices, shadow)
        last = journal.last_tick()
        self.watch = Watch(provider.clock, settings.freshness.clock_jump_seconds, last[1] if last else None)
        # a tick that was not finished may have journalled losses that no account has yet
        self.ended = journal.ended_since(last[1]) if last else {}
        self._make_hands()
        self.canary = (
            Canary(settings.canary, self.fleets, plan, journal, self._tell)
            if standing.mode == "canary"
            else None
        )
        self.rebalance = Rebalance(journal, {name for fleet, _ in self.services for name in fleet.names})
        self.present_cost = float(journal.recall("present_cost") or 0.0)
        self.belief = Belief(journal) if shadows else None
        self.strangers = Strangers(self.known, journal, self._tell)
        self.spent = journal.last_figure(self.spend)
        self.decided = journal.last_decided(standing.mode, plan.checksum)
        self.sight: Sight | None = None
        self.expired = False
        self.tripped: frozenset[tuple[str, str, str, str]] = frozenset()
        self.waiting: frozenset[str] = frozenset()

    def _make_hands(self) -> None:
        """What looks at the cloud and acts on it."""
        plan, settings, journal, standing = self.plan, self.settings, self.journal, self._standing
        services = [fleet for fleet, _ in self.services]
        self.groups = GroupKeeper(services, journal, plan.tick_seconds, self._tell)
        if self.groups.of and self.provider.groups is None:
            raise InputError(f"provider {self.provider.name} has no Auto Scaling groups; use another demand")
        self.observer = Observer(self.provider, self.pools, settings.freshness, self._tell)
        self.actor = Actor(
            self.provider.capacity,
            journal,
            self.inventory,
            self._tell,
            groups=self.provider.groups,
            raised=self.groups.raised,
            before_planned_move=CheckpointHook(
                settings.checkpoint_hook, settings.checkpoint_hook_seconds, self._tell
            )
            if settings.checkpoint_hook
            else None,
            halted=standing.halted,
            believed=self.watch.believed,
        )
        self.carrier = Carrier(
            self.actor,
            self.jobs,
            self.inventory,
            self.pools,
            self.services,
            self.timed,
            limits_of(plan.caps, settings.guards),
            plan.tick_seconds,
            self.acts,
            self._note_move,
            standing.tell_outside,
        )

    @property
    def fleets(self) -> list[JobFleet | ServiceFleet]:
        """All fleets."""
        return [fleet for fleet, _ in self.jobs] + [fleet for fleet, _ in self.services]

    @property
    def keys(self) -> frozenset[str]:
        """Keys under which the state of the fleets is saved."""
        return frozenset(self.scope + fleet.key for fleet in self.fleets)

    @property
    def cost(self) -> float:
        """USD so far of everything that the plan places, as the cloud bills it."""
        return float(sum(fleet.cost.sum() for fleet in self.fleets))

    def acts(self, workload: str) -> bool:
        """Whether a workload is acted on, or only decided."""
        if self._standing.mode == "dry-run":
            return False
        return self.canary is None or self.canary.acts(workload)

    def _note_move(self, move: Move, now: float) -> None:
        for fleet in self.fleets:
            if fleet.key == move.key:
                fleet.moved_at[fleet.row[move.workload]] = now
