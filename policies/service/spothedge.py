"""SpotHedge: spread over active pools, overprovision, fall back to on-demand.

Source: Mao et al., "SkyServe: Serving AI Models across Regions and Clouds with Spot Instances" (EuroSys'25).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.protocol import Memory
from policies.service.holdings import no_holdings, note_grants, ready_count
from simulator.deadline.observation import IntArray
from simulator.service import ServiceObservation


@dataclass(frozen=True)
class SpotHedge:
    """Spot for the demand and some spares, on-demand for what of them is not ready.

    A pool that refuses or takes back an instance is set aside; it becomes active again when it grants a
    launch, or when no pool is active. A missing instance is asked of the active pool that holds the
    fewest, the cheapest of equals.

    Attributes:
        spares: Instances beyond the demand, 0 or more.
    """

    spares: int = 1

    @property
    def name(self) -> str:
        """`spothedge-` and the spares."""
        return f"spothedge-{self.spares}"

    def reset(self, services: int, pools: int) -> Memory:
        """Every pool is active; ties are broken from a pool of its own for each service."""
        return {
            **no_holdings(services, pools),
            "active": np.ones((services, pools), np.bool_),
            "first": np.arange(services, dtype=np.int64) % max(pools, 1),
        }

    def act(self, observation: ServiceObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Spread the demand and the spares; bridge with on-demand."""
        ring, refused = note_grants(observation, memory)
        active = np.array(memory["active"], np.bool_)
        ready = ready_count(ring, observation.ticks_elapsed, observation.cold_start_ticks + 1)[:, :-1]
        target = observation.demand + self.spares
        first = np.asarray(memory["first"], np.int64)
        asked = np.zeros_like(observation.asked)
        _spread(
            observation.granted,
            observation.asked,
            observation.spot_price,
            target,
            first,
            active,
            asked,
        )
        asked[:, -1] = np.clip(target - ready.sum(axis=1), 0, observation.demand)
        return asked, {"ring": ring, "refused": refused, "active": active, "first": first}


@njit(cache=True, nogil=True)
def _spread(
    granted: NDArray[np.int64],
    before: NDArray[np.int64],
    price: NDArray[np.float64],
    target: NDArray[np.int64],
    first: NDArray[np.int64],
    active: NDArray[np.bool_],
    asked: NDArray[np.int64],
) -> None:
    pools = active.shape[1]
    for i in range(target.shape[0]):
        held, count = 0, 0
        for p in range(pools):
            if granted[i, p] < before[i, p]:
                active[i, p] = False
            elif granted[i, p] > 0:
                active[i, p] = True
            count += 1 if active[i, p] else 0
            asked[i, p] = granted[i, p]
            held += granted[i, p]
        if count == 0:
            active[i, :] = True
        while held < target[i]:
            best = -1
            for k in range(pools):
                p = (first[i] + k) % pools
                if active[i, p] and (
                    best < 0
                    or asked[i, p] < asked[i, best]
                    or (asked[i, p] == asked[i, best] and price[i, p] < price[i, best])
                ):
                    best = p
            asked[i, best] += 1
            held += 1
        while held > target[i]:
            worst = 0
            for p in range(pools):
                if asked[i, p] > asked[i, worst] or (
                    asked[i, p] == asked[i, worst] and price[i, p] > price[i, worst]
                ):
                    worst = p
            asked[i, worst] -= 1
            held -= 1
