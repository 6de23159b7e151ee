"""Carry out: the guarded moves of a tick, and again jobs whose pool turned out to have no capacity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from optimizer.controller.act import Actor, Outcome
from optimizer.controller.decide import Decision, Timed, decide_again
from optimizer.controller.fleets import Jobs, Services
from optimizer.controller.guard import Limits, Situation, guard
from optimizer.controller.inventory import Inventory
from optimizer.controller.jobs import JobFleet
from optimizer.controller.moves import Move, job_moves, rate_of
from optimizer.controller.observe import Sight, Tell
from optimizer.controller.report import Report
from optimizer.controller.services import ServiceFleet
from optimizer.plan import PlanPool
from simulator.deadline.observation import IntArray


class Carrier:
    """Carries moves out where the mode lets it, and journals wishes where it does not."""

    def __init__(
        self,
        actor: Actor,
        jobs: Jobs,
        inventory: Inventory,
        pools: Mapping[str, PlanPool],
        services: Services,
        timed: Timed,
        limits: Limits,
        tick_seconds: float,
        acts: Callable[[str], bool],
        note_move: Callable[[Move, float], None],
        tell: Tell,
    ) -> None:
        """Carry out with an actor.

        Args:
            actor: Makes the calls.
            jobs: Deadline jobs and their policies.
            inventory: What is held.
            pools: Of the plan.
            services: Services and their policies.
            timed: Runs policies.
            limits: Of a tick.
            tick_seconds: Of the plan.
            acts: Whether a workload is acted on.
            note_move: Told of voluntary moves that took effect.
            tell: Takes events that are not journalled.
        """
        self._actor, self._jobs, self._inventory, self._pools = actor, jobs, inventory, pools
        self._fleets: list[JobFleet | ServiceFleet] = [fleet for fleet, _ in jobs]
        self._fleets += [fleet for fleet, _ in services]
        self._timed, self._limits, self._tick_seconds = timed, limits, tick_seconds
        self._acts, self._note_move, self._tell = acts, note_move, tell
        self._rounds = 2 + max((fleet.pools_each for fleet, _ in jobs), default=0)
        self._wishes: dict[str, str] = {}

    def carry_out(
        self,
        report: Report,
        sight: Sight,
        decisions: Mapping[str, Decision],
        moves: Sequence[Move],
        situation: Situation,
        mode: str,
    ) -> None:
        """Carry out the moves of a tick; the report gets what came of it.

        Raises:
            JournalFull: What could not be written down was not done.
        """
        self._journal_wishes(report, [move for move in moves if not self._acts(move.workload)])
        acting = [move for move in moves if self._acts(move.workload)]
        limits = self._limits
        for _ in range(self._rounds):
            if not acting:
                return
            outcome = self._actor.act(report.tick, sight.now, mode, acting)
            report.rounds += 1
            report.outcome.add(outcome)
            limits = replace(
                limits,
                launches_per_tick=max(limits.launches_per_tick - outcome.launched, 0),
                terminations_per_tick=max(limits.terminations_per_tick - outcome.terminated, 0),
            )
            for move in acting:
                if move.voluntary and move.workload in outcome.moved:
                    self._note_move(move, sight.now)
            rows = self._without_capacity(outcome, sight, decisions)
            situation.rate = rate_of(list(self._inventory.all_live()), self._pools, sight.price)
            situation.in_doubt = frozenset(situation.in_doubt | outcome.unknown)
            again, trips = guard(self._moves_again(rows, decisions, sight), limits, situation)
            report.trips += trips
            acting = [move for move in again if self._acts(move.workload)]

    def _without_capacity(
        self, outcome: Outcome, sight: Sight, decisions: Mapping[str, Decision]
    ) -> dict[str, IntArray]:
        """Jobs whose pool turned out to have no capacity are decided again with that in view.

        On-demand capacity that a pool does not have is asked of the workload's next pool, from then on.
        """
        failed: dict[str, set[int]] = {}
        for workload, pool, option in outcome.without_capacity:
            if option == "spot":
                sight.offers[pool] = 0
            else:
                self._tell("warning", "no-on-demand", f"{workload}: no on-demand capacity in {pool}")
                for one in self._fleets:
                    if workload in one.row:
                        one.ask_next_pool(one.row[workload])
            for fleet, _ in self._jobs:
                if workload in fleet.row:
                    failed.setdefault(fleet.key, set()).add(fleet.row[workload])
        changed: dict[str, IntArray] = {}
        for fleet, policy in self._jobs:
            if fleet.key not in failed:
                continue
            rows = np.array(sorted(failed[fleet.key]), np.int64)
            decisions[fleet.key].wanted[rows] = decide_again(
                fleet,
                policy,
                self._timed,
                rows,
                now=sight.now,
                tick_seconds=self._tick_seconds,
                price=sight.price,
                offers=sight.offers,
            )
            changed[fleet.key] = rows
        return changed

    def _moves_again(
        self, rows: Mapping[str, IntArray], decisions: Mapping[str, Decision], sight: Sight
    ) -> list[Move]:
        moves: list[Move] = []
        for fleet, policy in self._jobs:
            if fleet.key in rows:
                moves += job_moves(
                    fleet,
                    decisions[fleet.key],
                    self._inventory,
                    fleet.held(self._inventory),
                    sight.price,
                    policy.name,
                    rows[fleet.key],
                )
        return moves

    def _journal_wishes(self, report: Report, moves: Sequence[Move]) -> None:
        """Dry run: a wish is journalled when it is new, not at every tick."""
        fresh = []
        for move in moves:
            text = str(move)
            if self._wishes.get(move.workload) != text:
                self._wishes[move.workload] = text
                fresh.append(move)
                self._tell("info", "would", f"{move.workload}: {text} ({move.why})")
        self._actor.wish(report.tick, report.now, "dry-run", fresh)
