"""Division of a pool's capacity among services that share it, compiled.

The rule is fixed, so that runs can be repeated:

1. What a service holds and still asks for stays with it while the capacity suffices.
2. The rest goes to what is asked beyond that, and a capacity that does not cover what is held to that, by
   max-min fairness: everybody gets what they ask for up to one level, the highest that the capacity
   allows. Single instances left over go round: the service that is first moves on by one every tick.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.deadline.kernel import B1, I8


@njit(cache=True, nogil=True)
def divide(
    capacity: NDArray[np.int32],  # (M, T, P)
    market: I8,
    start: I8,
    tick: I8,
    done: B1,
    members: I8,  # (N,) rows, group by group
    first: I8,  # (G + 1,) where each group begins in `members`
    held: NDArray[np.int64],  # (N, P + 1, R)
    asked: NDArray[np.int64],  # (N, P + 1)
    share: NDArray[np.int64],  # (N, P), written
) -> None:
    """Divide every pool's capacity of this tick in every group; arrays without a shape are (N,).

    Of a pool the shares of a group never exceed the capacity, nor a share what was asked.
    """
    pools, ring = share.shape[1], held.shape[2]
    wants, given = np.empty(len(members), np.int64), np.empty(len(members), np.int64)
    for g in range(len(first) - 1):
        rows = members[first[g] : first[g + 1]]
        lead = rows[0]
        if done[lead]:
            continue
        m, t, count = market[lead], start[lead] + tick[lead], len(rows)
        before, turn = (tick[lead] - 1) % ring, int(tick[lead])
        for p in range(pools):
            left = np.int64(capacity[m, t, p])
            keeping = np.int64(0)
            for j in range(count):
                had = held[rows[j], p, before] if tick[lead] > 0 else np.int64(0)
                wants[j] = min(had, max(asked[rows[j], p], 0))
                keeping += wants[j]
            _fill(wants[:count], int(min(left, keeping)), turn, given[:count])
            left -= min(left, keeping)
            for j in range(count):
                share[rows[j], p] = given[j]
                wants[j] = max(asked[rows[j], p], 0) - wants[j]
            _fill(wants[:count], int(left), turn, given[:count])
            for j in range(count):
                share[rows[j], p] += given[j]


@njit(cache=True, nogil=True)
def _fill(wants: NDArray[np.int64], amount: int, turn: int, given: NDArray[np.int64]) -> None:
    """Give everybody what they want up to one level; single units left over from number `turn` on."""
    count = len(wants)
    given[:] = 0
    left = amount
    while left > 0:
        open_count = 0
        for j in range(count):
            open_count += 1 if given[j] < wants[j] else 0
        if open_count == 0:
            return
        level = left // open_count
        if level == 0:
            for k in range(count):
                j = (k + turn) % count
                if left > 0 and given[j] < wants[j]:
                    given[j] += 1
                    left -= 1
            return
        for j in range(count):
            more = min(level, wants[j] - given[j])
            given[j] += more
            left -= more
