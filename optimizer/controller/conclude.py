"""The end of a tick: where the workloads are is confirmed, and what a restart needs is saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from optimizer.controller.decide import Decision
from optimizer.controller.guard import Trip
from optimizer.controller.handover import state_of
from optimizer.controller.journal import JournalFull
from optimizer.controller.observe import Sight
from optimizer.controller.report import Report
from optimizer.controller.resume import Resumed
from optimizer.controller.standing import Standing
from policies.protocol import Memory


def conclude(
    state: Resumed,
    standing: Standing,
    report: Report,
    sight: Sight,
    decisions: Mapping[str, Decision],
    memories: Mapping[str, Memory],
) -> None:
    """End a tick; a journal without room for it is told of, and nothing is done until it can be written.

    Args:
        state: Changed in place.
        standing: The controller's.
        report: What the tick did.
        sight: What it saw.
        decisions: By fleet; none if it was blind.
        memories: The policies' new memories, by fleet.
    """
    if decisions:
        _confirm(state, report, sight, decisions, memories)
    try:
        _save(state, standing, report, sight, decided=bool(decisions) and not report.held)
        if standing.journal_full:
            standing.journal_full = False
            standing.tell("info", "journal", "the journal can be written again")
    except JournalFull as error:
        if not standing.journal_full:
            standing.tell_outside("error", "journal-full", f"{error}; capacity stays as it is")
        standing.journal_full = True
    state.sight = sight
    if decisions and not report.held:
        state.decided = report.tick


def _confirm(
    state: Resumed,
    report: Report,
    sight: Sight,
    decisions: Mapping[str, Decision],
    memories: Mapping[str, Memory],
) -> None:
    for fleet, _ in state.jobs:
        fleet.confirm(decisions[fleet.key].wanted, fleet.held(state.inventory), sight.price, state.inventory)
        fleet.memory = memories[fleet.key]
    for services, _ in state.services:
        wanted = decisions[services.key].wanted
        services.confirm(wanted, state.inventory, sight.now, sight.price, between=report.between)
        services.memory = memories[services.key]


def _save(state: Resumed, standing: Standing, report: Report, sight: Sight, *, decided: bool) -> None:
    state.journal.save_tick(
        report.tick,
        report.now,
        standing.mode,
        {
            "cost_usd": state.cost,
            state.spend: state.spent,
            "present_usd": state.present_cost,
            "held": report.held,
            "plan": state.plan.checksum,
            "decided": decided,
            "launched": report.outcome.launched,
            "terminated": report.outcome.terminated,
            "lost": report.lost,
        },
        {state.scope + fleet.key: state_of(fleet, state.identity[fleet.key]) for fleet in state.fleets},
        state.inventory.take_changed(),
        _new_trips(state, report.trips),
        () if sight.instances is None else _seen(state, standing, report, sight),
    )


def _new_trips(state: Resumed, trips: Sequence[Trip]) -> list[tuple[str, str, str, str]]:
    """Trips that the tick before did not have: a pause of a week is not journalled at every tick."""
    found = dict.fromkeys((trip.guard, trip.workload, trip.wanted, trip.got) for trip in trips)
    fresh = [trip for trip in found if trip not in state.tripped]
    state.tripped = frozenset(found)
    return fresh


def _seen(
    state: Resumed, standing: Standing, report: Report, sight: Sight
) -> list[tuple[str, float | None, int, bool]]:
    """What the market showed, by pool: price, spot instances held, and whether it refused or took back."""
    held: Counter[str] = Counter()
    refused: set[str] = set()
    # what a shadow believes it holds is no word on what a pool has
    if standing.mode != "shadow":
        held.update(row.pool for row in state.inventory.all_live() if row.option == "spot")
        short = {pool for _, pool, option in report.outcome.without_capacity if option == "spot"}
        refused = short | report.lost_in
    return [(name, sight.price.get(name), held[name], name in refused) for name in state.pools]
