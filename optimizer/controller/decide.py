"""Decisions: the plan's policies in batches, and the safe baseline wherever a policy cannot be trusted.

A policy that raises, takes too long or answers in the wrong shape decides nothing; nor does any policy
where a price is too old. Then what runs is held where that is safe, and on-demand capacity does the rest.
The journal says so.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.controller.jobs import JobFleet
from optimizer.controller.services import ServiceFleet
from policies.protocol import DeadlinePolicy, Memory
from policies.service import ServicePolicy
from policies.shield import apply_shield, shown_to
from policies.soft import binding
from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND, DeadlineObservation
from simulator.deadline.observation import BoolArray, IntArray

WARM_UP_SECONDS = 60.0
"""For the first call of a policy in a process."""


NOBODY: Mapping[int, str] = {}
"""No row."""


@dataclass(slots=True)
class Decision:
    """What a fleet is to do in one tick.

    Attributes:
        wanted: (N,) placements of jobs, or (N, P + 1) instances of services; every row, active or not.
        fallback: (N,) rows that the safe baseline decided.
        urgent: (N,) rows whose change serves a deadline or makes up for a loss: cool-down does not hold them.
        changed: (N,) rows that a guard changed, by guard.
        why: Reason of a fallback, by row.
    """

    wanted: IntArray
    fallback: BoolArray
    urgent: BoolArray
    changed: dict[str, IntArray] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)


class Timed:
    """Runs a policy in a thread of its own, so that one that hangs cannot hold up the loop."""

    def __init__(self, seconds: float) -> None:
        """Give each call so many seconds."""
        self.seconds = seconds
        self.latency_seconds = 0.0
        self._warm: set[str] = set()
        self._stuck: threading.Thread | None = None

    def run(self, name: str, act: Callable[[], tuple[IntArray, Memory]]) -> tuple[IntArray, Memory]:
        """Call it; the first call of each policy may take longer, since it may compile and solve tables.

        Raises:
            TimeoutError: It took too long, or a call before has not come back yet.
            Exception: Whatever it raised.
        """
        if self._stuck is not None and self._stuck.is_alive():
            raise TimeoutError("an earlier call of a policy has not come back yet")
        answer: list[tuple[IntArray, Memory]] = []
        failure: list[BaseException] = []

        def body() -> None:
            try:
                answer.append(act())
            except BaseException as error:  # noqa: BLE001 -- raised again by the caller's thread
                failure.append(error)

        began = time.perf_counter()
        worker = threading.Thread(target=body, name="policy", daemon=True)
        worker.start()
        seconds = self.seconds if name in self._warm else max(self.seconds, WARM_UP_SECONDS)
        worker.join(seconds)
        self.latency_seconds = time.perf_counter() - began
        if worker.is_alive():
            self._stuck = worker
            raise TimeoutError(f"no decision within {seconds:g} s")
        self._warm.add(name)
        if failure:
            raise failure[0]
        return answer[0]


def decide_jobs(
    fleet: JobFleet,
    policy: DeadlinePolicy,
    timed: Timed,
    *,
    now: float,
    tick_seconds: float,
    price: Mapping[str, float],
    offers: Mapping[str, int],
    stale: BoolArray,
    interrupted: BoolArray,
    between: bool = False,
    leave: BoolArray | None = None,
    baseline: Mapping[int, str] = NOBODY,
) -> tuple[Decision, Memory]:
    """Decide a tick of deadline jobs.

    Args:
        fleet: The jobs, after `look`.
        policy: Without the shield; the shield is applied here, so that it can be named.
        timed: Runs the policy.
        now: Seconds since 1970.
        tick_seconds: Of the plan.
        price: Spot price by pool.
        offers: Instances that each pool is believed to have.
        stale: (N,) jobs whose prices are too old to decide by.
        interrupted: (N,) jobs that lost their instances since the last tick.
        between: Between two ticks: only jobs that were interrupted are decided, and memory stays as it is.
        leave: (N,) jobs that had better leave the pool they are in: decided as if it were gone.
        baseline: Rows for which no policy is asked, and why.

    Returns:
        The decision, and the policy's new memory.
    """
    decision = Decision(fleet.placement.copy(), np.zeros(fleet.size, np.bool_), interrupted.copy())
    memory = fleet.memory or fleet.fresh_memory(policy)
    stale, reasons = _baselines(stale, baseline)
    leave = np.zeros(fleet.size, np.bool_) if leave is None else leave & fleet.active & ~stale
    due = fleet.active & (interrupted | leave) if between else fleet.active
    rows = np.flatnonzero(due & ~stale)
    if rows.size:
        seen = fleet.observe(rows, now, tick_seconds, price, offers)
        leaving = np.flatnonzero(leave[rows] & (seen.placement >= FIRST_SPOT))
        if leaving.size:
            seen.spot_available[leaving, seen.placement[leaving] - FIRST_SPOT] = False
            seen.placement[leaving] = IDLE
            decision.changed["rebalance"] = rows[leaving]
        mine = {name: np.asarray(array)[rows] for name, array in memory.items()}
        shown = shown_to(policy, seen)
        try:
            asked, after = timed.run(fleet.key, lambda: policy.act(shown, mine))
            safe = apply_shield(shown, asked)
        except Exception as error:  # noqa: BLE001 -- whatever a policy does, jobs must be placed
            _baseline(decision, rows, seen, f"policy {policy.name} failed ({type(error).__name__}: {error})")
        else:
            decision.wanted[rows] = safe
            shielded = rows[safe != _comparable(asked)]
            decision.changed["deadline-shield"] = shielded
            decision.urgent[shielded] = True
            if not between:
                memory = _scatter(memory, after, rows)
    held_back = np.flatnonzero(due & stale)
    if held_back.size:
        seen = fleet.observe(held_back, now, tick_seconds, price, offers)
        _baseline(decision, held_back, seen, "")
        decision.why.update({row: reasons[row] for row in held_back.tolist()})
    return decision, memory


def _baselines(stale: BoolArray, baseline: Mapping[int, str]) -> tuple[BoolArray, dict[int, str]]:
    """Rows that the safe baseline decides, and why."""
    reasons = dict.fromkeys(np.flatnonzero(stale).tolist(), "prices are too old") | dict(baseline)
    rows = stale.copy()
    rows[list(baseline)] = True
    return rows, reasons


def stale_rows(fleet: JobFleet | ServiceFleet, stale: AbstractSet[str]) -> BoolArray:
    """(N,) workloads without a single pool whose price is young enough; a single such pool is enough."""
    if not stale:
        return np.zeros(fleet.size, np.bool_)
    old = np.array([name in stale for name in fleet.pools])
    return np.asarray(old[fleet.pool_index].all(axis=1))


def tell_fallbacks(decisions: Mapping[str, Decision], tell: Callable[[str, str, str], None]) -> None:
    """Say which baseline decided for how many workloads, and why; at most three reasons per fleet."""
    for key, decision in decisions.items():
        counts = Counter(decision.why.values())
        for reason, count in counts.most_common(3):
            tell("warning", "fallback", f"{key}: safe baseline for {count} workloads: {reason}")


def _baseline(decision: Decision, rows: IntArray, seen: DeadlineObservation, why: str) -> None:
    """Hold what runs; what does not run goes to on-demand capacity. The shield may still say on-demand."""
    decision.wanted[rows] = _held(seen)
    decision.fallback[rows] = True
    decision.urgent[rows] = True
    decision.why.update(dict.fromkeys(rows.tolist(), why))


def _held(seen: DeadlineObservation) -> IntArray:
    """Hold, else on-demand; a due time binds where being late does not pay."""
    hold = np.where(seen.placement == IDLE, ON_DEMAND, seen.placement)
    return apply_shield(binding(seen), hold)


def decide_again(
    fleet: JobFleet,
    policy: DeadlinePolicy,
    timed: Timed,
    rows: IntArray,
    *,
    now: float,
    tick_seconds: float,
    price: Mapping[str, float],
    offers: Mapping[str, int],
) -> IntArray:
    """Placements of jobs whose pool turned out to have no capacity; the policy sees that, nothing else new.

    Args:
        fleet: The jobs; `memory` as it was before this tick.
        policy: Without the shield.
        timed: Runs the policy.
        rows: (n,) which.
        now: Seconds since 1970.
        tick_seconds: Of the plan.
        price: Spot price by pool.
        offers: Instances that each pool is believed to have, the failures taken into account.
    """
    seen = fleet.observe(rows, now, tick_seconds, price, offers)
    memory = fleet.memory or fleet.fresh_memory(policy)
    shown = shown_to(policy, seen)
    try:
        asked, _ = timed.run(
            fleet.key,
            lambda: policy.act(shown, {name: np.asarray(array)[rows] for name, array in memory.items()}),
        )
        return apply_shield(shown, asked)
    except Exception:  # noqa: BLE001 -- as in `decide_jobs`; the failure was journalled there
        return _held(seen)


def decide_services(
    fleet: ServiceFleet,
    policy: ServicePolicy,
    timed: Timed,
    *,
    held: IntArray,
    price: Mapping[str, float],
    stale: BoolArray,
    max_pool_share: float,
    between: bool = False,
    baseline: Mapping[int, str] = NOBODY,
) -> tuple[Decision, Memory]:
    """Decide a tick of services.

    Args:
        fleet: The services, after `look`.
        policy: The policy.
        timed: Runs it.
        held: (N, P + 1) instances held now.
        price: Spot price by pool.
        stale: (N,) services whose prices are too old to decide by.
        max_pool_share: Guard: largest share of the spot instances in one pool.
        between: Between two ticks: the policy sees what is held now, and its memory stays as it is.
        baseline: Rows for which no policy is asked, and why.

    Returns:
        The decision, and the policy's new memory.
    """
    decision = Decision(held.copy(), np.zeros(fleet.size, np.bool_), held.sum(axis=1) < fleet.demand)
    memory = fleet.memory or policy.reset(fleet.size, fleet.pools_each)
    stale, reasons = _baselines(stale, baseline)
    rows = np.flatnonzero(~stale)
    failed = np.flatnonzero(stale)
    if rows.size:
        seen = fleet.observe(rows, price)
        if between:
            seen.granted = held[rows]
        mine = {name: np.asarray(array)[rows] for name, array in memory.items()}
        try:
            asked, after = timed.run(fleet.key, lambda: policy.act(seen, mine))
            wanted = _counts(asked, (rows.size, fleet.pools_each + 1))
        except Exception as error:  # noqa: BLE001 -- whatever a policy does, services must be placed
            failed = np.union1d(failed, rows)
            why = f"policy {policy.name} failed ({type(error).__name__}: {error})"
            reasons.update(dict.fromkeys(rows.tolist(), why))
        else:
            decision.wanted[rows] = wanted
            if not between:
                memory = _scatter(memory, after, rows)
    if failed.size:
        short = np.maximum(fleet.demand[failed] - held[failed].sum(axis=1), 0)
        decision.wanted[failed] = held[failed]
        decision.wanted[failed, -1] += short
        decision.fallback[failed] = True
        decision.why.update({row: reasons[row] for row in failed.tolist()})
    _floor(fleet, decision)
    _spread(fleet, decision, max_pool_share)
    return decision, memory


def _floor(fleet: ServiceFleet, decision: Decision) -> None:
    """Guard `on-demand-floor`: at least so many on-demand; spot beyond the demand makes room."""
    missing = np.maximum(np.minimum(fleet.floor, fleet.demand) - decision.wanted[:, -1], 0)
    rows = np.flatnonzero(missing)
    for row in rows:
        decision.wanted[row, -1] += missing[row]
        surplus = int(min(decision.wanted[row].sum() - fleet.demand[row], missing[row]))
        for _ in range(max(surplus, 0)):
            fullest = int(np.argmax(decision.wanted[row, :-1]))
            if decision.wanted[row, fullest] > 0:
                decision.wanted[row, fullest] -= 1
    if rows.size:
        decision.changed["on-demand-floor"] = rows


def _spread(fleet: ServiceFleet, decision: Decision, share: float) -> None:
    """Guard `max-pool-share`: what is too much for a pool goes on-demand."""
    if fleet.pools_each < 2 or share >= 1.0:
        return
    spot = decision.wanted[:, :-1]
    most = np.maximum(np.ceil(share * spot.sum(axis=1) - 1e-9), 1).astype(np.int64)
    excess = np.maximum(spot - most[:, None], 0)
    rows = np.flatnonzero(excess.sum(axis=1))
    if rows.size:
        decision.wanted[:, :-1] -= excess
        decision.wanted[:, -1] += excess.sum(axis=1)
        decision.changed["max-pool-share"] = rows


def _counts(asked: Any, shape: tuple[int, int]) -> IntArray:
    counts = np.asarray(asked)
    if counts.shape != shape or counts.dtype.kind not in "iuf":
        raise ValueError(f"answer of shape {counts.shape} and type {counts.dtype}; needed: counts, {shape}")
    if not np.isfinite(counts).all() or (counts < 0).any() or (counts != np.floor(counts)).any():
        raise ValueError("answer with counts that are no whole numbers of 0 or more")
    return counts.astype(np.int64)


def _comparable(asked: Any) -> NDArray[Any]:
    found = np.asarray(asked)
    return found if found.dtype.kind in "biuf" else np.full(found.shape, -1)


def _scatter(memory: Memory, after: Memory, rows: IntArray) -> Memory:
    merged = {name: np.array(array) for name, array in memory.items()}
    for name, array in after.items():
        merged[name][rows] = array
    return merged
