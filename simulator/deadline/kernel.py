"""The exact dynamics of deadline jobs, compiled. One kernel serves env, replay and simulated cloud."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
I4 = NDArray[np.int32]
B1 = NDArray[np.bool_]
Terms = tuple[F8, I8, F8, F8, F8]
"""Throughput and location of pools (M, P), seconds and USD of moves (M, L, L), local on-demand price
(M, L, T)."""

Late = tuple[F8, F8, F8]
"""Due time, cost of an hour after it, and what being late has cost, (N,)."""

EPSILON_SECONDS = 1e-6
"""Work or time below this is none: sums of whole and binary-exact seconds stay far inside it."""


@njit(cache=True, nogil=True)
def cheapest_location(local_price: F8, market: int, tick: int) -> int:
    """Where on-demand capacity is had while the data are nowhere: the first of the cheapest."""
    best = 0
    for k in range(1, local_price.shape[1]):
        if local_price[market, k, tick] < local_price[market, best, tick]:
            best = k
    return best


@njit(cache=True, nogil=True)
def advance(  # noqa: C901 - the one compiled kernel; its branches are the rules of a tick
    tick_seconds: float,
    stays: bool,
    capacity: NDArray[np.int32],  # (M, P, T)
    spot_price: F8,  # (M, P, T)
    on_demand_price: F8,  # (M, T)
    market: I8,
    start: I8,
    nodes: I8,
    committed: I8 | None,
    deadline: F8,
    restart_overhead: F8,
    checkpoint_interval: F8,
    spot_scale: F8,
    on_demand_scale: F8,
    terms: Terms | None,
    late: Late | None,
    action: I8,
    tick: I8,
    work_left: F8,
    unsaved: F8,
    placement: I8,
    pending: F8,
    home: I8,
    cost: F8,
    counts: I4,  # (N, 6): launches, interruptions, failed launches, idle, on-demand, spot ticks
    done: B1,
    missed: B1,
    tick_cost: F8,
) -> None:
    """Run one tick of every job that is not done, then begin its next tick (interruptions).

    Arrays without a shape are (N,). State arrays are changed in place; `tick_cost` gets the USD
    billed in this tick, cost of lateness included. On-demand capacity costs nothing for the `committed`
    instances of a job. With `late`, being late costs its price per hour from the due time to the second in
    which the work is done. An action for a pool without capacity is a failed launch: the job is idle, or with
    `stays` it goes on where it is.

    With `terms` pools differ as `simulator.deadline.terms` says: a pool does its throughput in seconds of
    work per productive second; a launch away from the data, which lie in location `home`, takes the move's
    seconds more and costs its USD, and the data are there when the job begins to work; on-demand capacity is
    had where the data are, at the local price. What is None is compiled away.
    """
    for i in range(action.shape[0]):
        tick_cost[i] = 0.0
        if done[i]:
            continue
        m = market[i]
        t = start[i] + tick[i]
        choice = action[i]
        began = tick[i] * tick_seconds
        span = min(tick_seconds, deadline[i] - began)
        needed = span  # seconds of this tick in which the job is not done
        speed, fee = 1.0, 0.0
        if choice >= 2 and capacity[m, choice - 2, t] < nodes[i]:
            counts[i, 2] += 1
            choice = placement[i] if stays else 0
        if choice == 0:
            counts[i, 3] += 1
            pending[i] = 0.0
            unsaved[i] = 0.0
        else:
            if choice != placement[i]:
                counts[i, 0] += 1
                pending[i] = restart_overhead[i]
                unsaved[i] = 0.0
                if terms is not None:
                    there = home[i] if choice == 1 else terms[1][m, choice - 2]
                    if there < 0:
                        there = cheapest_location(terms[4], m, t)
                    if home[i] < 0:
                        home[i] = there
                    pending[i] += terms[2][m, home[i], there]
                    fee = terms[3][m, home[i], there]
            if choice == 1:
                counts[i, 4] += 1
                price = on_demand_price[m, t]
                if terms is not None:
                    price = terms[4][m, home[i], t]
                paid = nodes[i]
                if committed is not None:
                    paid -= committed[i]
                price = price * on_demand_scale[i] * paid
            else:
                counts[i, 5] += 1
                price = spot_price[m, choice - 2, t] * spot_scale[i] * nodes[i]
                if terms is not None:
                    speed = terms[0][m, choice - 2]
            tick_cost[i] = price * tick_seconds / 3600.0 + fee
            if late is not None:
                needed = min(span, pending[i] + work_left[i] / speed)
            productive = max(span - pending[i], 0.0) * speed
            pending[i] = max(pending[i] - tick_seconds, 0.0)
            if terms is not None:  # noqa: SIM102 - alone, so that it is compiled away
                if choice >= 2 and pending[i] == 0.0:
                    home[i] = terms[1][m, choice - 2]
            work_left[i] -= productive
            if checkpoint_interval[i] > 0.0:
                unsaved[i] = (unsaved[i] + productive) % checkpoint_interval[i]
        if late is not None:  # noqa: SIM102 - alone, so that it is compiled away
            if late[1][i] > 0.0:
                penalty = max(began + needed - max(late[0][i], began), 0.0) / 3600.0 * late[1][i]
                late[2][i] += penalty
                tick_cost[i] += penalty
        cost[i] += tick_cost[i]
        placement[i] = choice
        tick[i] += 1
        if work_left[i] <= EPSILON_SECONDS:
            work_left[i] = 0.0
            done[i] = True
        elif tick[i] * tick_seconds >= deadline[i] - EPSILON_SECONDS:
            done[i] = True
            missed[i] = True
        elif choice >= 2 and capacity[m, choice - 2, t + 1] < nodes[i]:
            counts[i, 1] += 1
            placement[i] = 0
            pending[i] = 0.0
            work_left[i] += unsaved[i]
            unsaved[i] = 0.0


@njit(cache=True, nogil=True)
def look(
    capacity: NDArray[np.int32],
    spot_price: F8,
    on_demand_price: F8,
    market: I8,
    start: I8,
    nodes: I8,
    committed: I8 | None,
    spot_scale: F8,
    on_demand_scale: F8,
    terms: Terms | None,
    home: I8,
    tick: I8,
    done: B1,
    available_out: B1,  # (N, P)
    spot_out: F8,  # (N, P)
    on_demand_out: F8,
) -> None:
    """Write what the market offers each job now; a finished job keeps the last thing it saw."""
    for i in range(tick.shape[0]):
        if done[i]:
            continue
        m = market[i]
        t = start[i] + tick[i]
        for p in range(available_out.shape[1]):
            available_out[i, p] = capacity[m, p, t] >= nodes[i]
            spot_out[i, p] = spot_price[m, p, t] * spot_scale[i] * nodes[i]
        price = on_demand_price[m, t]
        if terms is not None:
            place = home[i] if home[i] >= 0 else cheapest_location(terms[4], m, t)
            price = terms[4][m, place, t]
        paid = nodes[i]
        if committed is not None:
            paid -= committed[i]
        on_demand_out[i] = price * on_demand_scale[i] * paid


@njit(cache=True, nogil=True)
def reveal(
    capacity: NDArray[np.int32],
    market: I8,
    start: I8,
    nodes: I8,
    tick: I8,
    done: B1,
    action: I8,
    probe: bool,
    known: B1,  # (N, P)
    age: I8,  # (N, P)
) -> None:
    """Update what jobs know of pools that they cannot all see, after a tick with `action` was run.

    A job that asked a pool knows what it answered, one tick ago; a job that ran there sees it now. With
    `probe` it also sees the pool of which it has known nothing for longest, the first of equals.
    """
    pools = known.shape[1]
    for i in range(tick.shape[0]):
        if done[i]:
            continue
        m, t = market[i], start[i] + tick[i]
        for p in range(pools):
            if age[i, p] >= 0:
                age[i, p] += 1
        if tick[i] > 0 and action[i] >= 2:
            p = action[i] - 2
            known[i, p] = capacity[m, p, t - 1] >= nodes[i]
            age[i, p] = 1
            if known[i, p]:
                known[i, p] = capacity[m, p, t] >= nodes[i]
                age[i, p] = 0
        if probe:
            oldest = 0
            for p in range(1, pools):
                if age[i, oldest] >= 0 and (age[i, p] < 0 or age[i, p] > age[i, oldest]):
                    oldest = p
            known[i, oldest] = capacity[m, oldest, t] >= nodes[i]
            age[i, oldest] = 0
