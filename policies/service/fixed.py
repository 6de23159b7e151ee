"""Baselines that look at nothing but the demand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.protocol import Memory
from simulator.deadline.observation import IntArray
from simulator.service import ServiceObservation


@dataclass(frozen=True)
class OnDemandOnly:
    """All of the demand on on-demand capacity."""

    name: str = "on-demand"

    def reset(self, services: int, pools: int) -> Memory:
        """No memory."""
        del services, pools
        return {}

    def act(self, observation: ServiceObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """The demand, on-demand."""
        asked = np.zeros_like(observation.asked)
        asked[:, -1] = observation.demand
        return asked, memory


@dataclass(frozen=True)
class EvenSpread:
    """All of the demand on spot, spread evenly over the pools; the first pools hold the remainder."""

    name: str = "even-spread"

    def reset(self, services: int, pools: int) -> Memory:
        """No memory."""
        del services, pools
        return {}

    def act(self, observation: ServiceObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """The demand, spread."""
        asked = np.zeros_like(observation.asked)
        pools = asked.shape[1] - 1
        each, rest = np.divmod(observation.demand, pools)
        asked[:, :-1] = each[:, None] + (np.arange(pools) < rest[:, None])
        return asked, memory
