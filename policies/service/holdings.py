"""What a service policy knows of its instances: grants of the last ticks, and pools that refused."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.protocol import Memory
from simulator.deadline.observation import IntArray
from simulator.service import ServiceObservation

RING = 64
"""Ticks of grants that are remembered; more than the longest cold start."""
NEVER = 1_000_000
"""Ticks since something that has not happened yet."""
Ring = NDArray[np.int32]


def no_holdings(services: int, pools: int) -> dict[str, NDArray[np.int32]]:
    """Memory of services that hold nothing yet.

    Returns:
        `ring` (N, P + 1, RING) grants by tick, and `refused` (N, P) ticks since each pool granted less than
        was asked.
    """
    return {
        "ring": np.zeros((services, pools + 1, RING), np.int32),
        "refused": np.full((services, pools), NEVER, np.int32),
    }


def note_grants(observation: ServiceObservation, memory: Memory) -> tuple[Ring, Ring]:
    """`ring` and `refused` after the grants of the last tick; new arrays."""
    after = {name: np.array(memory[name], np.int32) for name in ("ring", "refused")}
    note_in_place(observation, after)
    return after["ring"], after["refused"]


def note_in_place(observation: ServiceObservation, memory: Mapping[str, Ring]) -> None:
    """`note_grants` on arrays that are changed in place."""
    _note(
        observation.ticks_elapsed, observation.asked, observation.granted, memory["ring"], memory["refused"]
    )


def ready_count(ring: Ring, elapsed: IntArray, ticks: IntArray) -> IntArray:
    """(N, P + 1) instances that were held in each of the last `ticks` (N,) ticks, at least one."""
    counts = np.empty(ring.shape[:2], np.int64)
    _ready(ring, elapsed, ticks, counts)
    return counts


@njit(cache=True, nogil=True)
def _note(
    elapsed: NDArray[np.int64],
    asked: NDArray[np.int64],
    granted: NDArray[np.int64],
    ring: Ring,
    refused: Ring,
) -> None:
    for i in range(ring.shape[0]):
        if elapsed[i] == 0:
            continue
        place = (elapsed[i] - 1) % ring.shape[2]
        for p in range(ring.shape[1]):
            ring[i, p, place] = granted[i, p]
            if p < refused.shape[1]:
                if granted[i, p] < asked[i, p]:
                    refused[i, p] = 0
                elif refused[i, p] < NEVER:
                    refused[i, p] += 1


@njit(cache=True, nogil=True)
def _ready(
    ring: Ring, elapsed: NDArray[np.int64], ticks: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    size = ring.shape[2]
    for i in range(ring.shape[0]):
        for p in range(ring.shape[1]):
            least = np.int64(ring[i, p, (elapsed[i] - 1) % size])
            for k in range(2, ticks[i] + 1):
                least = min(least, np.int64(ring[i, p, (elapsed[i] - k) % size]))
            counts[i, p] = least
