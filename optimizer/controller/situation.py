"""What the guards look at and what they allow, gathered from plan, settings, journal and fleets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optimizer.controller.config import GuardSettings
from optimizer.controller.decide import Decision
from optimizer.controller.guard import Limits, Situation, Trip
from optimizer.controller.inventory import Inventory
from optimizer.controller.jobs import JobFleet
from optimizer.controller.journal import Journal
from optimizer.controller.services import ServiceFleet
from optimizer.plan import Caps

Fleets = Sequence[JobFleet | ServiceFleet]


def limits_of(caps: Caps, guards: GuardSettings) -> Limits:
    """The lower of the plan's caps and the configuration's."""

    def lower(plan: float, own: float | None) -> float:
        return plan if own is None else min(plan, own)

    return Limits(
        launches_per_tick=int(lower(caps.launches_per_tick, guards.launches_per_tick)),
        terminations_per_tick=int(lower(caps.terminations_per_tick, guards.terminations_per_tick)),
        usd_per_hour=lower(caps.usd_per_hour, guards.usd_per_hour),
        budget_usd_per_day=guards.budget_usd_per_day,
        cooldown_seconds=guards.cooldown_seconds,
        launches_per_hour=guards.launches_per_hour,
        keep_ready=guards.keep_ready,
    )


def add_history(
    situation: Situation, guards: GuardSettings, fleets: Fleets, inventory: Inventory, journal: Journal
) -> None:
    """Add what only some guards need, where they are on."""
    if guards.cooldown_seconds:
        situation.last_move = {
            name: float(fleet.moved_at[row]) for fleet in fleets for name, row in fleet.row.items()
        }
    if guards.launches_per_hour is not None:
        situation.launched_last_hour = journal.launched_since(situation.now - 3600.0)
        most: dict[str, int] = {}
        for fleet in fleets:
            counts = fleet.nodes if isinstance(fleet, JobFleet) else fleet.demand
            most.update(zip(fleet.names, counts.tolist(), strict=True))
        situation.most_held = most
    if guards.keep_ready:
        spare: dict[str, int] = {}
        for fleet in fleets:
            if isinstance(fleet, ServiceFleet):
                _, ready = fleet.counts(inventory, situation.now)
                spare.update(zip(fleet.names, (ready - fleet.demand).tolist(), strict=True))
        situation.spare = spare


def trips_of(fleets: Fleets, decisions: Mapping[str, Decision]) -> list[Trip]:
    """Guards that changed decisions before they became moves."""
    trips = []
    for fleet in fleets:
        for name, rows in decisions[fleet.key].changed.items():
            for row in rows.tolist():
                got = decisions[fleet.key].wanted[row]
                trips.append(Trip(name, fleet.names[row], "the policy's decision", str(got)))
    return trips
