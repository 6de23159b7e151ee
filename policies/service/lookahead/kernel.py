"""One decision of the look-ahead planner, compiled: learn from grants, choose a layout, move to it safely."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.service.holdings import NEVER
from policies.service.lookahead.layout import choose
from policies.service.lookahead.survival import UNKNOWN, hazard

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
SmallArray = NDArray[np.int32]

HIGHEST_HAZARD = 0.2
"""Chance of a loss in a tick."""
UNLIMITED = 1_000_000_000
SHARED_FATE, SHARED_FATE_SLOPE, HIGHEST_SHARED_FATE = 0.12, 3.0, 0.9
"""Chance that a pool goes with another of its region: 0.12 + 3 x its chance anyway (2023 zones)."""


class Beliefs(NamedTuple):
    """What the planner has learned of N services' pools; arrays are changed in place.

    Attributes:
        up: (N, P) ticks for which the pool is known to have been up without a loss.
        room: (N, P) instances that the pool granted when it last refused.
        since_loss: (N, P) ticks since the pool's last loss.
        expected: (N, P) losses that the survival curve expected, decayed.
        lost: (N, P) losses that were seen, decayed.
        base: (N, P) chance of a loss in the last tick by the survival curve alone.
        pairs: (N, 2) losses together with another pool of the region, seen and expected.
        depth: (N, 2) times that a loss took one more instance, and times that it did not.
    """

    up: SmallArray
    room: SmallArray
    since_loss: SmallArray
    expected: FloatArray
    lost: FloatArray
    base: FloatArray
    pairs: FloatArray
    depth: FloatArray


@njit(cache=True, nogil=True)
def learn(
    tick_seconds: float,
    elapsed: IntArray,
    asked: IntArray,
    granted: IntArray,
    before: IntArray,
    region: IntArray,
    cold_start: IntArray,
    memory_seconds: float,
    beliefs: Beliefs,
) -> None:
    """Update the beliefs by what was granted in the last tick.

    Args:
        tick_seconds: Length of a tick.
        elapsed: (N,) ticks since each episode began.
        asked: (N, P + 1) last tick.
        granted: (N, P + 1) last tick.
        before: (N, P + 1) held in the tick before.
        region: (N, P) region of each pool.
        cold_start: (N,) ticks.
        memory_seconds: Losses count less by a factor e after this long.
        beliefs: Changed in place.
    """
    pools = region.shape[1]
    keep = np.exp(-tick_seconds / memory_seconds)
    for i in range(elapsed.shape[0]):
        if elapsed[i] == 0:
            continue
        for p in range(pools):
            _learn_pool(i, p, before[i, p], asked[i, p], granted[i, p], keep, beliefs)
        for p in range(pools):
            for q in range(pools):
                if beliefs.since_loss[i, p] != 0 or q == p or region[i, p] != region[i, q]:
                    continue
                if before[i, p] > 0 and before[i, q] > 0:
                    beliefs.pairs[i, 1] += together(beliefs.base[i, q] * (cold_start[i] + 1))
                    beliefs.pairs[i, 0] += 1.0 if beliefs.since_loss[i, q] <= cold_start[i] else 0.0


@njit(cache=True, nogil=True)
def _learn_pool(i: int, p: int, had: int, want: int, got: int, keep: float, beliefs: Beliefs) -> None:
    beliefs.expected[i, p] *= keep
    beliefs.lost[i, p] *= keep
    if beliefs.since_loss[i, p] < NEVER:
        beliefs.since_loss[i, p] += 1
    if got < want:
        beliefs.room[i, p] = got
    gone = got < min(had, want)
    if had > 0:
        beliefs.expected[i, p] += beliefs.base[i, p]
    if gone or got == 0:
        beliefs.up[i, p] = 0
    elif had > 0:
        beliefs.up[i, p] += 1
    if gone:
        beliefs.lost[i, p] += 1.0
        beliefs.since_loss[i, p] = 0
        beliefs.depth[i, 0] += min(had, want) - got - 1
        beliefs.depth[i, 1] += 1.0 if got > 0 else 0.0


@njit(cache=True, nogil=True)
def together(loss: float) -> float:
    """Chance that a pool goes with another of its region, from the chance that it goes anyway."""
    return float(min(SHARED_FATE + SHARED_FATE_SLOPE * loss, HIGHEST_SHARED_FATE))


@njit(cache=True, nogil=True)
def decide(
    tick_seconds: float,
    curve: FloatArray,
    priors: tuple[float, float, float, float, float],
    retry_ticks: int,
    settle_hours: float,
    ahead: float,
    loss_cost: FloatArray,
    demand: IntArray,
    cold_start: IntArray,
    committed: IntArray,
    granted: IntArray,
    spot_price: FloatArray,
    on_demand_price: FloatArray,
    region: IntArray,
    ready: IntArray,
    refused: SmallArray,
    beliefs: Beliefs,
    due: NDArray[np.bool_],
    only: IntArray,
    headroom: IntArray,
    target: IntArray,
    shortages: FloatArray,
    asked: IntArray,
) -> None:
    """Write what each service asks for.

    Args:
        tick_seconds: Length of a tick.
        curve: `Survival.curve`.
        priors: Weights of own, fleet and shared fate, and the two of how deep losses go.
        retry_ticks: For so long a pool that refused has no more room than it granted.
        settle_hours: A launch's cold start is weighed against this long a stay.
        ahead: Ticks; the hazard of a pool is the mean of that now and that after them.
        loss_cost: (N,) USD per hour that one expected shortage per tick is worth.
        demand: (N,) instances needed.
        cold_start: (N,) ticks.
        committed: (N,) on-demand instances that cost nothing more.
        granted: (N, P + 1) held in the last tick.
        spot_price: (N, P) USD per hour.
        on_demand_price: (N,) USD per hour.
        region: (N, P) region of each pool.
        ready: (N, P + 1) instances that are ready in this tick if they are kept.
        refused: (N, P) ticks since each pool last refused.
        beliefs: `base` is overwritten.
        due: (N,) whether to choose a layout anew.
        only: (N, 2) see `choose`.
        headroom: (N,) instances beyond the demand that are to be held now, spares included.
        target: (N, P + 1) the layout; kept where none is due.
        shortages: (N,) expected shortages per tick of the layout when it was chosen.
        asked: (N, P + 1) result.
    """
    pools = region.shape[1]
    chance = np.empty(pools)
    joint = np.empty((pools, pools))
    space = np.empty(pools, np.int64)
    now_target = np.empty(pools + 1, np.int64)
    for i in range(demand.shape[0]):
        for p in range(pools):
            down = refused[i, p] * tick_seconds if refused[i, p] < NEVER else UNKNOWN
            now = hazard(curve, beliefs.up[i, p] * tick_seconds, down) * tick_seconds
            beliefs.base[i, p] = min(now, HIGHEST_HAZARD)
        if due[i]:
            chances(tick_seconds, curve, priors, ahead, i, refused[i], beliefs, chance)
            shared = (beliefs.pairs[i, 0] + priors[2]) / (beliefs.pairs[i, 1] + priors[2])
            joint_chances(chance, region[i], shared, cold_start[i] + 1, joint)
            for p in range(pools):
                space[p] = UNLIMITED
                if refused[i, p] < retry_ticks:
                    space[p] = max(np.int64(beliefs.room[i, p]), granted[i, p])
            more, no_more = beliefs.depth[i, 0] + priors[3], beliefs.depth[i, 1] + priors[4]
            shortages[i] = choose(
                demand[i], granted[i], space, spot_price[i], on_demand_price[i], committed[i], chance, joint,
                more / (more + no_more), region[i], loss_cost[i],
                cold_start[i] * tick_seconds / 3600.0 / settle_hours, only[i], target[i],
            )  # fmt: skip
        now_target[:] = target[i]
        cheaper = spot_price[i] < on_demand_price[i]
        _top_up(
            now_target, demand[i] + headroom[i], refused[i], retry_ticks, beliefs.base[i], cheaper,
            committed[i],
        )  # fmt: skip
        _move(now_target, demand[i], granted[i], ready[i], cheaper, asked[i])


@njit(cache=True, nogil=True)
def chances(
    tick_seconds: float,
    curve: FloatArray,
    priors: tuple[float, float, float, float, float],
    ahead: float,
    i: int,
    refused: SmallArray,
    beliefs: Beliefs,
    chance: FloatArray,
) -> None:
    """Write each pool's chance of a loss in a tick, as the curve and what was seen say (gamma-Poisson)."""
    pools = chance.shape[0]
    seen, foreseen = 0.0, 0.0
    for p in range(pools):
        seen += beliefs.lost[i, p]
        foreseen += beliefs.expected[i, p]
    fleet = (seen + priors[1]) / (foreseen + priors[1])
    for p in range(pools):
        down = refused[p] * tick_seconds if refused[p] < NEVER else UNKNOWN
        held = (beliefs.up[i, p] + ahead) * tick_seconds
        later = hazard(curve, held, down + ahead * tick_seconds) * tick_seconds
        own = (beliefs.lost[i, p] + priors[0] * fleet) / (beliefs.expected[i, p] + priors[0])
        chance[p] = min(0.5 * (beliefs.base[i, p] + later) * own, HIGHEST_HAZARD)


@njit(cache=True, nogil=True)
def joint_chances(chance: FloatArray, region: IntArray, shared: float, ticks: int, joint: FloatArray) -> None:
    """Write the chance that the second pool goes within `ticks` of the first one's loss."""
    for q in range(chance.shape[0]):
        anyway = min(chance[q] * ticks, HIGHEST_SHARED_FATE)
        for p in range(chance.shape[0]):
            joint[p, q] = anyway
            if region[p] == region[q]:
                joint[p, q] = min(shared * together(anyway), HIGHEST_SHARED_FATE)


@njit(cache=True, nogil=True)
def _top_up(
    target: IntArray,
    wanted: int,
    refused: SmallArray,
    retry_ticks: int,
    base: FloatArray,
    cheaper: NDArray[np.bool_],
    committed: int,
) -> None:
    """Add what the target lacks of the instances wanted.

    First committed instances, which cost nothing more; then in the safest pool that has not refused lately
    and is cheaper than on-demand capacity.
    """
    pools = base.shape[0]
    missing = wanted
    for p in range(pools + 1):
        missing -= target[p]
    if missing <= 0:
        return
    free = min(max(committed - int(target[pools]), 0), missing)
    target[pools] += free
    missing -= free
    best = pools
    for p in range(pools):
        if cheaper[p] and refused[p] >= retry_ticks and (best == pools or base[p] < base[best]):
            best = p
    target[best] += missing


@njit(cache=True, nogil=True)
def _move(
    target: IntArray,
    demand: int,
    granted: IntArray,
    ready: IntArray,
    cheaper: NDArray[np.bool_],
    asked: IntArray,
) -> None:
    """From what is held to the target: what serves stays until its replacement does.

    While anything of the target is yet to be launched, no ready instance is given back. Where what is held
    and kept does not cover the demand, on-demand capacity and every pool that is cheaper are asked for the
    rest at once; what comes too much is given back next tick.
    """
    pools = target.shape[0] - 1
    serving, certain, wanted = 0, 0, 0
    for p in range(pools + 1):
        asked[p] = target[p]
        serving += min(ready[p], target[p])
        wanted += target[p]
        if target[p] > granted[p]:
            wanted += UNLIMITED
        certain += min(granted[p], target[p]) if p < pools else target[p]
    for p in range(pools + 1):
        while serving < wanted and asked[p] < ready[p]:
            asked[p] += 1
            serving += 1
            certain += 1
    missing = demand - certain
    if missing > 0:
        asked[pools] += missing
        for p in range(pools):
            if cheaper[p]:
                asked[p] = max(asked[p], granted[p] + missing)
