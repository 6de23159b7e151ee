"""The controller: tick after tick, across changes of leader and journals that are lost for a while."""

from __future__ import annotations

from dataclasses import replace

from optimizer.controller.canary import Canary
from optimizer.controller.config import ControllerSettings, Mode
from optimizer.controller.decide import Timed
from optimizer.controller.fleets import Jobs, Services
from optimizer.controller.inventory import Inventory
from optimizer.controller.jobs import JobFleet
from optimizer.controller.journal import Deposed, Journal, JournalLost
from optimizer.controller.lease import FencedCapacity, FencedGroups, FencedInterruptions, Lease
from optimizer.controller.observe import Tell
from optimizer.controller.providers import Provider
from optimizer.controller.rebalance import Rebalance
from optimizer.controller.report import Report
from optimizer.controller.resume import Resumed
from optimizer.controller.services import ServiceFleet
from optimizer.controller.shadow import Belief
from optimizer.controller.standing import Standing
from optimizer.controller.tick import run_tick, tick_number
from optimizer.plan import Plan, PlanPool

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 10.0, 300.0
"""Until the look after one that left something open; doubles with each in a row."""


class Controller:
    """One thread calls `run_tick`; others may set `paused` and `killed`, and read."""

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
        self._cloud = provider if lease is None else _fenced(provider, lease)
        self._standing = Standing(
            mode or settings.mode, settings.state_dir, journal, provider.clock, tell, lease
        )
        self._timed = Timed(settings.policy_seconds)
        self._retry_seconds = 0.0
        self._take_up()

    def _take_up(self) -> None:
        self._state = Resumed(
            self.plan, self.settings, self._cloud, self.journal, self._standing, self._timed
        )
        self._retry_seconds = 0.0

    # ---------------------------------------------------------------------------------------------- ticks

    def run_tick(self) -> Report:
        """Run one tick; never raises for what a cloud, a policy, a disk or a database does."""
        standing = self._standing
        try:
            standing.look_at_lease(self._take_up, self.inventory.doubt)
            if standing.writes:
                return run_tick(self._state, standing)
            self._take_up()
        except (JournalLost, Deposed) as error:
            # what was half done is taken up from the journal, as after a restart
            standing.step_down()
            standing.tell_outside("error", "journal-lost", f"{error}; capacity stays as it is")
        now = self.provider.clock.now()
        return Report(tick_number(self.plan, now), now, held="not-leader")

    def believed_now(self) -> float:
        """Seconds since 1970; not those of a wall clock that jumped and is not believed yet."""
        return self._state.watch.believed()

    def next_tick(self, now: float) -> float:
        """When the tick after `now` begins."""
        return self.plan.created.timestamp() + (tick_number(self.plan, now) + 1) * self.plan.tick_seconds

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
    def finished(self) -> bool:
        """Whether nothing is left to do: jobs only, all done and their instances gone."""
        return (
            not self.services
            and all(fleet.done.all() for fleet, _ in self.jobs)
            and all(row.id in self.unplanned for row in self.inventory.all_live())
        )

    # ------------------------------------------------------------------------------------------- standing

    def tell(self, level: str, kind: str, message: str) -> None:
        """Journal an event and pass it on; a full journal does not stop the event from being passed on."""
        self._standing.tell(level, kind, message)

    @property
    def mode(self) -> Mode:
        """What is done with decisions."""
        return self._standing.mode

    @property
    def leads(self) -> bool:
        """Whether this controller acted in the last tick, or there is no other."""
        return self._standing.leads

    @property
    def writes(self) -> bool:
        """Whether it writes the journal; one that is shared is the leader's."""
        return self._standing.writes

    @property
    def listens(self) -> bool:
        """Whether it reads the queue of warnings."""
        return self._standing.listens

    @property
    def paused(self) -> bool:
        """Whether somebody asked for nothing to be done."""
        return self._standing.paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._standing.paused = paused

    @property
    def killed(self) -> bool:
        """The kill switch, of this process."""
        return self._standing.killed

    @killed.setter
    def killed(self, killed: bool) -> None:
        self._standing.killed = killed

    # ---------------------------------------------------------------------------------- what it works with

    @property
    def provider(self) -> Provider:
        """The cloud; in shadow mode one that imagines instances."""
        return self._state.provider

    @property
    def jobs(self) -> Jobs:
        """Deadline jobs and their policies."""
        return self._state.jobs

    @property
    def services(self) -> Services:
        """Services and their policies."""
        return self._state.services

    @property
    def fleets(self) -> list[JobFleet | ServiceFleet]:
        """All fleets."""
        return self._state.fleets

    @property
    def saved_keys(self) -> frozenset[str]:
        """Keys under which the journal has the state of the fleets."""
        return self._state.keys

    @property
    def pools(self) -> dict[str, PlanPool]:
        """Of the plan, by name."""
        return self._state.pools

    @property
    def inventory(self) -> Inventory:
        """What is held."""
        return self._state.inventory

    @property
    def canary(self) -> Canary | None:
        """In canary mode: the chosen workloads and the verdict."""
        return self._state.canary

    @property
    def rebalance(self) -> Rebalance:
        """What became of rebalance recommendations."""
        return self._state.rebalance

    @property
    def belief(self) -> Belief | None:
        """In shadow mode: what savings rest on capacity that is only believed."""
        return self._state.belief

    # -------------------------------------------------------------------------------------------- figures

    @property
    def cost(self) -> float:
        """USD so far of everything that the plan places, as the cloud bills it."""
        return self._state.cost

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
        return self._state.present_cost

    @property
    def price(self) -> dict[str, float]:
        """Spot price by pool as of the last tick."""
        sight = self._state.sight
        return sight.price if sight is not None else {}

    @property
    def price_age_seconds(self) -> float:
        """Age of the oldest price in use."""
        sight = self._state.sight
        return sight.oldest_price_seconds if sight is not None else 0.0

    @property
    def policy_latency_seconds(self) -> float:
        """Time that the last policy call took."""
        return self._timed.latency_seconds

    @property
    def unplanned(self) -> set[str]:
        """Ids of held instances whose workload the plan does not have."""
        return self._state.strangers.unplanned


def _fenced(provider: Provider, lease: Lease) -> Provider:
    """The same cloud, for the leader only."""
    groups, interruptions = provider.groups, provider.interruptions
    return replace(
        provider,
        capacity=FencedCapacity(provider.capacity, lease),
        groups=FencedGroups(groups, lease) if groups is not None else None,
        interruptions=FencedInterruptions(interruptions, lease) if interruptions is not None else None,
    )
