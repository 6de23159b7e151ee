"""A static mix of on-demand and spot, as an Auto Scaling group keeps it, and round robin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.protocol import Memory
from policies.service.holdings import no_holdings, note_grants
from simulator.deadline.observation import IntArray
from simulator.errors import InputError
from simulator.service import ServiceObservation

Strategy = Literal["price-capacity-optimized", "lowest-price"]
STRATEGIES: tuple[Strategy, ...] = ("price-capacity-optimized", "lowest-price")
RETRY_SECONDS = 300.0
"""A pool that refused is asked again after this long, unless every pool refused."""


@dataclass(frozen=True)
class StaticMix:
    """On-demand base plus a percentage of the rest; spot for what remains, never replaced by on-demand.

    This is the arithmetic of an EC2 Auto Scaling group with a mixed instances policy
    (`OnDemandBaseCapacity`, `OnDemandPercentageAboveBaseCapacity`; the on-demand share is rounded up).

    Attributes:
        percentage: On-demand percentage above the base, 0 to 100.
        base: On-demand instances in any case.
        strategy: Which pool a missing spot instance is asked of. `lowest-price`: the cheapest that did not
            refuse lately. `price-capacity-optimized`: of those the one that has not refused for the
            longest time, by orders of magnitude, and of equals the cheapest.

    Raises:
        InputError: A value is out of range.
    """

    percentage: int = 50
    base: int = 0
    strategy: Strategy = "price-capacity-optimized"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.percentage <= 100 or self.base < 0 or self.strategy not in STRATEGIES:
            raise InputError(
                f"static mix of base {self.base}, {self.percentage} % and strategy {self.strategy!r}; "
                f"accepted: base of 0 or more, 0 to 100 %, {' or '.join(STRATEGIES)}"
            )

    @property
    def name(self) -> str:
        """`spot-only`, or `static-mix-` and the percentage."""
        if self.base == 0 and self.percentage == 0 and self.strategy == STRATEGIES[0]:
            return "spot-only"
        base = f"{self.base}+" if self.base else ""
        return f"static-mix-{base}{self.percentage}" + (
            f"-{self.strategy}" if self.strategy != STRATEGIES[0] else ""
        )

    def reset(self, services: int, pools: int) -> Memory:
        """No pool has refused."""
        return dict(no_holdings(services, pools))

    def act(self, observation: ServiceObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Keep the mix."""
        ring, refused = note_grants(observation, memory)
        base = np.minimum(self.base, observation.demand)
        on_demand = base - (-(observation.demand - base) * self.percentage // 100)
        asked = np.zeros_like(observation.asked)
        asked[:, -1] = on_demand
        retry = max(int(RETRY_SECONDS / observation.tick_seconds), 1)
        _fill(
            observation.granted, observation.spot_price, observation.demand - on_demand, refused,
            retry, self.strategy == "lowest-price", asked,
        )  # fmt: skip
        return asked, {"ring": ring, "refused": refused}


@dataclass(frozen=True)
class RoundRobin:
    """All of the demand on spot; a missing instance is asked of the pool after the last one asked."""

    name: str = "round-robin"

    def reset(self, services: int, pools: int) -> Memory:
        """Begins at the first pool."""
        return {"next": np.zeros(services, np.int64), "pools": np.full(services, pools, np.int64)}

    def act(self, observation: ServiceObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Keep what is held; ask the next pools for the rest."""
        place = np.array(memory["next"], np.int64)
        asked = np.zeros_like(observation.asked)
        _rotate(observation.granted, observation.demand, place, asked)
        return asked, {"next": place, "pools": memory["pools"]}


@njit(cache=True, nogil=True)
def _keep(
    granted: NDArray[np.int64], target: int, price: NDArray[np.float64], asked: NDArray[np.int64]
) -> int:
    """Keep what is held in one service, giving back the dearest; returns how many are missing."""
    held = 0
    for p in range(asked.shape[0] - 1):
        asked[p] = granted[p]
        held += granted[p]
    while held > target:
        worst = -1
        for p in range(asked.shape[0] - 1):
            if asked[p] > 0 and (worst < 0 or price[p] > price[worst]):
                worst = p
        asked[worst] -= 1
        held -= 1
    return target - held


@njit(cache=True, nogil=True)
def _fill(
    granted: NDArray[np.int64],
    price: NDArray[np.float64],
    target: NDArray[np.int64],
    refused: NDArray[np.int32],
    retry: int,
    cheapest: bool,
    asked: NDArray[np.int64],
) -> None:
    for i in range(target.shape[0]):
        missing = _keep(granted[i], target[i], price[i], asked[i])
        if missing <= 0:
            continue
        best, best_key = -1, 0.0
        for p in range(refused.shape[1]):
            recent = refused[i, p] < retry
            # Pools that refused lately come last; then the longest untroubled (factors of four); the price.
            key = 1e6 if recent else 0.0
            if not cheapest:
                key -= 1e3 * np.floor(np.log(1.0 + refused[i, p] / retry) / np.log(4.0))
            elif recent:
                key -= 1e3 * refused[i, p]
            key += price[i, p] / (1.0 + price[i, p])
            if best < 0 or key < best_key:
                best, best_key = p, key
        asked[i, best] += missing


@njit(cache=True, nogil=True)
def _rotate(
    granted: NDArray[np.int64],
    target: NDArray[np.int64],
    place: NDArray[np.int64],
    asked: NDArray[np.int64],
) -> None:
    pools = asked.shape[1] - 1
    for i in range(target.shape[0]):
        held = 0
        for p in range(pools):
            asked[i, p] = granted[i, p]
            held += granted[i, p]
        while held > target[i]:
            place[i] = (place[i] - 1) % pools
            if asked[i, place[i]] > 0:
                asked[i, place[i]] -= 1
                held -= 1
        while held < target[i]:
            asked[i, place[i]] += 1
            place[i] = (place[i] + 1) % pools
            held += 1
