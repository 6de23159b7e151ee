"""Which layout of instances over pools costs least, the risk of being short included."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Counts = NDArray[np.int64]

MOST_SPARES = 3
RESERVE_STEPS = 4
"""The on-demand reserve is a multiple of a quarter of the demand."""


@njit(cache=True, nogil=True)
def risk(
    layout: Counts,
    on_demand: int,
    demand: int,
    hazard: FloatArray,
    joint: FloatArray,
    deeper: float,
    scratch: FloatArray,
) -> float:
    """Expected number of times per tick that fewer than the demand remain.

    A pool loses one instance and, with chance `deeper` each, one more, up to all it has. Its loss takes other
    pools with it, each on its own account, before it is replaced. The number lost is followed exactly up to
    the spares.

    Args:
        layout: (P,) spot instances per pool.
        on_demand: On-demand instances, which are never lost.
        demand: Instances needed.
        hazard: (P,) chance of a loss in each pool in a tick.
        joint: (P, P) chance that the second pool has a loss too when the first one does.
        deeper: Chance that a loss takes one more instance.
        scratch: (at least spares + 1) overwritten.
    """
    total = on_demand
    for p in range(layout.shape[0]):
        total += layout[p]
    spares = total - demand
    if spares < 0:
        return 1.0
    expected = 0.0
    for p in range(layout.shape[0]):
        if layout[p] == 0:
            continue
        scratch[: spares + 1] = 0.0
        scratch[0] = 1.0
        _lose(scratch, spares, layout[p], 1.0, deeper)
        for q in range(layout.shape[0]):
            if q != p and layout[q] > 0:
                _lose(scratch, spares, layout[q], joint[p, q], deeper)
        kept = 0.0
        for k in range(spares + 1):
            kept += scratch[k]
        expected += hazard[p] * (1.0 - kept)
    return expected


@njit(cache=True, nogil=True)
def _lose(chance: FloatArray, most: int, held: int, loss: float, deeper: float) -> None:
    """Chances that 0 ... most instances are lost, after a pool may have lost some of `held`."""
    for k in range(most, -1, -1):
        now = chance[k] * (1.0 - loss)
        reach = loss
        for lost in range(1, min(held, k) + 1):
            now += chance[k - lost] * reach * ((1.0 - deeper) if lost < held else 1.0)
            reach *= deeper
        chance[k] = now


@njit(cache=True, nogil=True)
def price_of(
    layout: Counts,
    on_demand: int,
    held: Counts,
    spot_price: FloatArray,
    on_demand_price: float,
    committed: int,
    change: float,
) -> float:
    """USD per hour of a layout; new launches waste the share `change` of an hour."""
    cost = on_demand_price * max(on_demand - committed, 0)
    cost += change * on_demand_price * max(on_demand - max(held[-1], committed), 0)
    for p in range(layout.shape[0]):
        cost += spot_price[p] * layout[p]
        cost += change * spot_price[p] * max(layout[p] - held[p], 0)
    return float(cost)


@njit(cache=True, nogil=True)
def choose(
    demand: int,
    held: Counts,
    room: Counts,
    spot_price: FloatArray,
    on_demand_price: float,
    committed: int,
    hazard: FloatArray,
    joint: FloatArray,
    deeper: float,
    region: Counts,
    loss_cost: float,
    change: float,
    only: Counts,
    best: Counts,
) -> float:
    """Write the cheapest layout found to `best`.

    For every on-demand reserve and number of spares e, the pools are ordered by what an instance costs there
    with its risk; the first holds what is left when up to k others hold at most e each, since a loss of e is
    what the spares cover.

    Args:
        demand: Instances needed.
        held: (P + 1) instances held now, pools and then on-demand.
        room: (P,) most instances that each pool is believed to grant.
        spot_price: (P,) USD per hour.
        on_demand_price: USD per hour.
        committed: On-demand instances that cost nothing more.
        hazard: (P,) chance of losing each pool in a tick.
        joint: (P, P) see `risk`.
        deeper: See `risk`.
        region: (P,) number of each pool's region.
        loss_cost: USD per hour that one expected shortage per tick is worth.
        change: Share of an hour that a launch wastes, spread over how long layouts last.
        only: (2,) number of spares and quarters of on-demand reserve that the layout has, -1 for any. Where
            the pools have no room the reserve is larger.
        best: (P + 1) result.

    Returns:
        Expected shortages per tick of the layout.
    """
    pools = room.shape[0]
    order = np.empty((2, pools), np.int64)
    _rank(held, room, spot_price, demand, hazard, region, loss_cost, change, order)
    layout = np.zeros(pools, np.int64)
    scratch = np.zeros(MOST_SPARES + 2)
    best[:] = 0
    best[pools] = demand
    lowest = price_of(layout, demand, held, spot_price, on_demand_price, committed, change)
    if only[0] >= 0 or only[1] >= 0:
        lowest = np.inf
    best_risk = 0.0
    most = 0
    for p in range(pools):
        most += min(room[p], demand + MOST_SPARES)
    for step in range(RESERVE_STEPS + 2):
        for spares in range(MOST_SPARES + 1):
            reserve = _reserve(step, spares, demand, committed, most, only, lowest < np.inf)
            spot = demand - reserve + spares
            if reserve < 0 or spot <= 0:
                continue
            for others in range(pools):
                if others > 0 and spares == 0:
                    break
                for way in range(2 if others > 0 else 1):
                    if not _fill(layout, order[way], room, spot, spares, others):
                        continue
                    value = price_of(layout, reserve, held, spot_price, on_demand_price, committed, change)
                    if value >= lowest:
                        continue
                    expected = risk(layout, reserve, demand, hazard, joint, deeper, scratch)
                    value += loss_cost * expected
                    if value < lowest:
                        lowest, best_risk = value, expected
                        best[:pools] = layout
                        best[pools] = reserve
    return best_risk


@njit(cache=True, nogil=True)
def _reserve(
    step: int, spares: int, demand: int, committed: int, most: int, only: Counts, found: bool
) -> int:
    """On-demand instances of a step: quarters of the demand, last what spot has no room for; -1 for none."""
    if only[0] >= 0 and spares != only[0]:
        return -1
    if only[1] >= 0 and step != only[1] and (step <= RESERVE_STEPS or found):
        return -1
    quarters = step if step <= RESERVE_STEPS else max(only[1], 0)
    reserve = (quarters * demand + RESERVE_STEPS - 1) // RESERVE_STEPS
    if step > RESERVE_STEPS:
        reserve = max(reserve, demand + spares - most)
    return min(max(reserve, committed, 0), demand)


@njit(cache=True, nogil=True)
def _rank(
    held: Counts,
    room: Counts,
    spot_price: FloatArray,
    demand: int,
    hazard: FloatArray,
    region: Counts,
    loss_cost: float,
    change: float,
    order: NDArray[np.int64],  # (2, P): by cost, and the same with regions taking turns
) -> None:
    pools = room.shape[0]
    key = np.empty(pools)
    for p in range(pools):
        key[p] = spot_price[p] * (1.0 if held[p] > 0 else 1.0 + change) + loss_cost * hazard[p] / max(
            demand, 1
        )
        if room[p] == 0:
            key[p] = 1e30
        place = p
        while place > 0 and key[order[0, place - 1]] > key[p]:
            order[0, place] = order[0, place - 1]
            place -= 1
        order[0, place] = p
    turn = np.zeros(pools, np.int64)
    for k in range(pools):
        p = order[0, k]
        for j in range(k):
            if region[order[0, j]] == region[p]:
                turn[p] += 1
    place = 0
    for wanted in range(pools):
        for k in range(pools):
            if turn[order[0, k]] == wanted:
                order[1, place] = order[0, k]
                place += 1


@njit(cache=True, nogil=True)
def _fill(layout: Counts, order: Counts, room: Counts, spot: int, spares: int, others: int) -> bool:
    """Put `spares` instances into each of `others` pools after the first, the rest where there is room."""
    layout[:] = 0
    left = spot
    if others * spares >= spot:
        return False
    for k in range(1, others + 1):
        p = order[k]
        if room[p] < spares:
            return False
        layout[p] = spares
        left -= spares
    for k in range(order.shape[0]):
        p = order[k]
        put = min(left, room[p] - layout[p])
        if put > 0:
            layout[p] += put
            left -= put
        if left == 0:
            return True
    return False
