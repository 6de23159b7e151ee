"""The exact dynamics of services, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.deadline.kernel import B1, F8, I8


@njit(cache=True, nogil=True)
def advance(
    hours: float,
    capacity: NDArray[np.int32],  # (M, T, P)
    spot_price: F8,  # (M, T, P)
    on_demand_price: F8,  # (M, T)
    market: I8,
    start: I8,
    ticks: I8,
    demand: NDArray[np.int64],  # (N, longest)
    cold_start: I8,
    committed: I8,
    minimum_ticks: F8,
    spot_scale: F8,
    on_demand_scale: F8,
    shared: bool,
    share: NDArray[np.int64],  # (N, P) of each pool's capacity, if it is shared
    asked: NDArray[np.int64],  # (N, P + 1): pools, then on-demand
    tick: I8,
    held: NDArray[np.int64],  # (N, P + 1, R): holdings of the last R ticks, a ring
    ready: I8,
    cost: F8,
    counts: NDArray[
        np.int64
    ],  # (N, 5): launches, interruptions, failed launches, available ticks, counted ticks
    served: F8,
    wanted: F8,
    done: B1,
    tick_cost: F8,
) -> None:
    """Grant, bill and count one tick of every episode that is not done. Arrays without a shape are (N,).

    Granted spot = min(asked, capacity); on-demand is granted. What was held for `cold_start` full ticks is
    ready; when a pool shrinks, its youngest instances go first. The first `cold_start` ticks are
    neither billed nor counted. Committed on-demand instances cost nothing more. With `minimum_ticks`
    above 1, an instance given up or taken back sooner is billed for the rest, at the price of this tick;
    `held` then reaches back at least that far.
    """
    ring = held.shape[2]
    pools = held.shape[1] - 1
    for i in range(tick.shape[0]):
        tick_cost[i] = 0.0
        if done[i]:
            continue
        m, t = market[i], start[i] + tick[i]
        now, before = tick[i] % ring, (tick[i] - 1) % ring
        counted = tick[i] >= cold_start[i]
        spot_hours, on_demand_hours = hours * spot_scale[i], hours * on_demand_scale[i]
        total = 0
        for p in range(pools + 1):
            want = max(asked[i, p], 0)
            grant = want
            had = held[i, p, before] if tick[i] > 0 else 0
            if p < pools:
                grant = min(want, share[i, p] if shared else capacity[m, t, p])
                if grant < had and grant < want:
                    counts[i, 1] += min(had, want) - grant
                if want > had and grant < want:
                    counts[i, 2] += want - max(grant, had)
            held[i, p, now] = grant
            counts[i, 0] += max(grant - had, 0)
            if counted:
                if p < pools:
                    tick_cost[i] += grant * spot_price[m, t, p] * spot_hours
                else:
                    tick_cost[i] += max(grant - committed[i], 0) * on_demand_price[m, t] * on_demand_hours
            if counted:
                least, place = grant, now
                for _ in range(cold_start[i]):
                    place = place - 1 if place > 0 else ring - 1
                    least = min(least, held[i, p, place])
                total += least
        ready[i] = total
        if counted:
            spot, on_demand = _minimum_bill(
                held[i], tick[i], committed[i], minimum_ticks[i], spot_price[m, t], on_demand_price[m, t]
            )
            tick_cost[i] += spot * spot_hours + on_demand * on_demand_hours
            need = demand[i, tick[i]]
            counts[i, 4] += 1
            counts[i, 3] += 1 if total >= need else 0
            served[i] += min(total, need)
            wanted[i] += need
            cost[i] += tick_cost[i]
        tick[i] += 1
        done[i] = tick[i] >= ticks[i]


@njit(cache=True, nogil=True)
def _minimum_bill(
    held: NDArray[np.int64],  # (P + 1, R)
    tick: int,
    committed: int,
    minimum: float,
    spot_price: F8,  # (P,)
    on_demand_price: float,
) -> tuple[float, float]:
    """Price x ticks of instances that went before `minimum` ticks, spot and on-demand; youngest first."""
    spot, on_demand = 0.0, 0.0
    if minimum <= 1.0:
        return spot, on_demand
    pools = held.shape[0] - 1
    for p in range(pools):
        spot += _unused(held[p], tick, held[p, tick % held.shape[1]], minimum) * spot_price[p]
    kept = max(held[pools, tick % held.shape[1]], committed)
    on_demand += _unused(held[pools], tick, kept, minimum) * on_demand_price
    return spot, on_demand


@njit(cache=True, nogil=True)
def _unused(held: NDArray[np.int64], tick: int, kept: int, minimum: float) -> float:
    """Ticks short of `minimum` of instances of one source (R,) that went; `kept` stay or are not billed."""
    ring = held.shape[0]
    rest = 0.0
    older = held[(tick - 1) % ring] if tick > 0 else np.int64(0)  # held for at least one tick
    k = 1
    while k < minimum and older > kept:
        younger = older  # held for at least k ticks; of these some for longer
        older = min(older, held[(tick - 1 - k) % ring]) if k < tick else np.int64(0)
        rest += (younger - max(older, kept)) * (minimum - k)
        k += 1
    return rest
