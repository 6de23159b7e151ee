"""Groups and fleets that somebody else sizes: the controller sets the mix and sees that it is reached.

A changed mix applies to future launches only. To reach it, the group is asked for a few instances more than
its demand; it launches them in the new mix, and when they are in service the ones of the wrong kind are
removed and the desired capacity goes down with them. Demand is what the desired capacity was before; while
it is raised, only a value outside of [demand, demand + raise] is somebody else's word.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from optimizer.controller.decide import Decision
from optimizer.controller.inventory import Inventory
from optimizer.controller.journal import Journal, JournalFull
from optimizer.controller.maintained import next_targets
from optimizer.controller.moves import GroupStep, Move, Wish, rate_of
from optimizer.controller.observe import Sight, Tell
from optimizer.controller.providers import Group, Instance
from optimizer.controller.providers.protocol import Option
from optimizer.controller.services import ServiceFleet
from optimizer.plan import GroupDemand, ServiceWorkload

SHARE_AT_ONCE = 0.1
"""Of a group's demand that is converted at a time, at least one instance."""
PATIENCE_TICKS = 3
"""A raise that brings nothing for this long is taken back and not tried again for as long."""


@dataclass(frozen=True, slots=True)
class Raise:
    """A group that was asked for more than its demand.

    Attributes:
        demand: Desired capacity before.
        more: By how much it was raised; 0 = it was given up and rests.
        since: When, seconds since 1970.
    """

    demand: int
    more: int
    since: float


MoveMaker = Callable[..., Move]


class GroupKeeper:
    """Looks after the groups of a plan."""

    def __init__(self, fleets: list[ServiceFleet], journal: Journal, tick_seconds: int, tell: Tell) -> None:
        """Continue with the raises that the journal knows."""
        self._journal, self._tell, self._tick_seconds = journal, tell, tick_seconds
        self.of: dict[str, GroupDemand] = {
            one.name: one.demand
            for fleet in fleets
            for one in fleet.workloads
            if isinstance(one.demand, GroupDemand)
        }
        self._raises: dict[str, Raise] = {}
        for name in self.of:
            saved = journal.recall(f"raise:{name}")
            if saved:
                self._raises[name] = Raise(**json.loads(saved))

    @property
    def workloads(self) -> frozenset[str]:
        """Services that a group holds."""
        return frozenset(self.of)

    @property
    def names_of(self) -> dict[str, str]:
        """Group of each service that one holds."""
        return {name: demand.group for name, demand in self.of.items()}

    def names(self) -> dict[str, list[str]]:
        """Groups by region."""
        found: dict[str, list[str]] = {}
        for demand in self.of.values():
            found.setdefault(demand.region, []).append(demand.group)
        return found

    def instances(self, sight: Sight, inventory: Inventory) -> list[Instance]:
        """Members of the groups as instances of their workloads; members that left are gone."""
        found: list[Instance] = []
        for name, demand in self.of.items():
            if demand.group not in sight.groups:
                continue
            group = sight.groups[demand.group]
            members = {one.id: one for one in group.members}
            found += [replace(one, workload=name) for one in members.values()]
            for row in inventory.live(name):
                if row.id not in members:
                    option: Option = "spot" if row.option == "spot" else "on-demand"
                    found.append(
                        Instance(row.id, name, row.pool, option, "gone", row.launched_at, ended_at=sight.now)
                    )
        return found

    def demand(self, sight: Sight) -> dict[str, int]:
        """Instances needed, by group: the desired capacity without what the controller itself added."""
        found = {}
        for name, demand in self.of.items():
            if demand.group not in sight.groups:
                continue
            desired = sight.groups[demand.group].desired
            raised = self._raises.get(name)
            if raised is None or not raised.more:
                found[demand.group] = desired
                continue
            if desired > raised.demand + raised.more:
                # its owner added to what the controller had raised
                raised = replace(raised, demand=desired - raised.more)
                self._keep(name, raised)
            elif desired < raised.demand:
                self.forget(name)
            found[demand.group] = min(desired, raised.demand)
        return found

    def moves(
        self, fleet: ServiceFleet, decision: Decision, inventory: Inventory, sight: Sight, policy: str
    ) -> list[Move]:
        """The next step of every group of a fleet."""
        moves = []
        for row, workload in enumerate(fleet.workloads):
            if workload.name in self.of and self.of[workload.name].group in sight.groups:
                group = sight.groups[self.of[workload.name].group]
                if group.fleet:
                    moves += self._fleet_step(fleet, row, group, decision, inventory, sight, policy)
                    continue
                if not group.mixed:
                    self._tell("error", "group", f"group {group.name} has no mixed instances policy")
                    continue
                on_demand = min(int(decision.wanted[row, -1]), int(fleet.demand[row]))
                move = self._step(fleet, row, workload, group, on_demand, inventory, sight, policy)
                if move is not None:
                    moves.append(move)
        return moves

    def _step(
        self,
        fleet: ServiceFleet,
        row: int,
        workload: ServiceWorkload,
        group: Group,
        base: int,
        inventory: Inventory,
        sight: Sight,
        policy: str,
    ) -> Move | None:
        name, demand = workload.name, int(fleet.demand[row])
        live = inventory.live(name)
        wrong_option: Option = "on-demand"
        wrong = sum(one.option == "on-demand" for one in live) - base
        if wrong < 0:
            wrong_option, wrong = "spot", sum(one.option == "spot" for one in live) - (demand - base)
        where = self.of[name]
        reshape = group.base != base or group.percentage != 0
        raised = self._raises.get(name)
        why = f"{policy}: {base} of {demand} on-demand"

        def move(desired: int, launches: list[Wish], terminate: int = 0) -> Move:
            leaving = [one for one in live if one.option == wrong_option][:terminate]
            return Move(
                name,
                fleet.key,
                launches,
                leaving,
                gang=False,
                urgent=False,
                voluntary=bool(launches),
                why=why,
                saves=rate_of(leaving, fleet.pools, sight.price),
                step=GroupStep(where.region, group.name, desired, base, group.desired),
            )

        if raised is not None and raised.more:
            return self._go_on(name, raised, group, demand, wrong, move, sight, reshape=reshape)
        resting = raised is not None and sight.now - raised.since < PATIENCE_TICKS * self._tick_seconds
        settled = len(live) == group.desired == len(group.in_service)
        more = min(max(wrong, 0), max(math.ceil(SHARE_AT_ONCE * demand), 1), group.largest - group.desired)
        if settled and not resting and more > 0:
            pool = workload.pools[int(fleet.cheapest[row])]
            option: Option = "spot" if wrong_option == "on-demand" else "on-demand"
            prices = [sight.price.get(p.name, p.on_demand_price) for p in workload.pools]
            each = pool.on_demand_price if option == "on-demand" else float(np.min(prices))
            return move(group.desired, [Wish(pool, option, more, each)])
        if settled and wrong > 0 and group.largest <= group.desired:
            self._tell("warning", "group", f"group {group.name} has no room to convert: raise its MaxSize")
        return move(group.desired, []) if reshape else None

    def _fleet_step(
        self,
        fleet: ServiceFleet,
        row: int,
        group: Group,
        decision: Decision,
        inventory: Inventory,
        sight: Sight,
        policy: str,
    ) -> list[Move]:
        """The next targets of a fleet that maintains its capacity; it launches and terminates by itself."""
        workload, demand = fleet.workloads[row], int(fleet.demand[row])
        name, base = workload.name, min(int(decision.wanted[row, -1]), demand)
        counts = {"on-demand": [0, 0], "spot": [0, 0]}
        for one in inventory.live(name):
            counts[one.option][0] += 1
            cold = float(fleet.cold_ticks[row] * fleet.tick_seconds)
            up = one.id in group.in_service and sight.now - one.launched_at >= cold
            counts[one.option][1] += up
        held = (counts["on-demand"][0], counts["on-demand"][1]), (counts["spot"][0], counts["spot"][1])
        on_demand, spot = next_targets(demand, base, *held)
        total = on_demand + spot
        if total == group.desired == demand and name in self._raises:
            self.forget(name)
        surplus = held[0][0] + held[1][0] - group.desired
        if surplus > 0 and not group.shrinks:
            self._tell(
                "warning",
                "group",
                f"fleet {group.name} holds {surplus} more than its target and does not terminate them: set "
                "its ExcessCapacityTerminationPolicy to termination",
            )
        if (total, on_demand) == (group.desired, group.base):
            return []
        more = max(total - group.desired, 0)
        pool = workload.pools[int(fleet.cheapest[row])]
        option: Option = "spot" if spot > group.desired - group.base else "on-demand"
        prices = [sight.price.get(p.name, p.on_demand_price) for p in workload.pools]
        each = pool.on_demand_price if option == "on-demand" else float(np.min(prices))
        return [
            Move(
                name,
                fleet.key,
                [Wish(pool, option, more, each)] if more else [],
                [],
                gang=False,
                urgent=bool(decision.urgent[row]),
                voluntary=bool(more),
                why=f"{policy}: {base} of {demand} on-demand",
                step=GroupStep(
                    self.of[name].region, group.name, total - more, on_demand, group.desired, demand
                ),
            )
        ]

    def _go_on(
        self,
        name: str,
        raised: Raise,
        group: Group,
        demand: int,
        wrong: int,
        move: MoveMaker,
        sight: Sight,
        *,
        reshape: bool,
    ) -> Move | None:
        """What follows a raise: remove the wrong ones once the new ones are in service, or give up."""
        over = group.desired - demand
        if over <= 0:
            self.forget(name)
            return move(group.desired, []) if reshape else None
        arrived = len(group.in_service) - demand
        if arrived > 0 and wrong > 0:
            return move(group.desired, [], min(arrived, wrong, over))
        if sight.now - raised.since >= PATIENCE_TICKS * self._tick_seconds:
            self._tell("warning", "group", f"group {group.name} did not get what it was raised for")
            self._keep(name, Raise(demand, 0, sight.now))
            return move(demand, [])
        return move(group.desired, []) if reshape else None

    def raised(self, move: Move, now: float) -> None:
        """Write down that a group is about to be raised, before it is.

        Raises:
            JournalFull: It could not be written; the call must not leave.
        """
        assert move.step is not None  # noqa: S101 -- only moves of groups come here
        if move.step.demand is not None:
            known = self._raises.get(move.workload)
            more = move.step.desired + move.launched - move.step.demand
            # lowered step by step, the highest raise is kept until the total is the demand again
            if more > (known.more if known is not None else 0):
                self._save(move.workload, Raise(move.step.demand, more, now))
        elif move.launched:
            self._save(move.workload, Raise(move.step.desired, move.launched, now))

    def forget(self, name: str) -> None:
        """A raise is over."""
        self._keep(name, None)

    def _keep(self, name: str, raised: Raise | None) -> None:
        """Change a raise that is there already; what a full journal misses is seen again in the group."""
        if raised is None:
            self._raises.pop(name, None)
        else:
            self._raises[name] = raised
        try:
            self._journal.remember(**{f"raise:{name}": json.dumps(asdict(raised)) if raised else ""})
        except JournalFull as error:
            self._tell("error", "journal-full", str(error))

    def _save(self, name: str, raised: Raise) -> None:
        self._journal.remember(**{f"raise:{name}": json.dumps(asdict(raised))})
        self._raises[name] = raised
