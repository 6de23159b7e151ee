"""Spot whenever there is any, on-demand otherwise: never idle, whatever the slack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.baselines.memoryless import Memoryless, spot_choice
from policies.protocol import Memory
from simulator.deadline.observation import ON_DEMAND, DeadlineObservation, IntArray


@dataclass(frozen=True, slots=True)
class SpotWhenAvailable(Memoryless):
    """Runs on spot whenever a pool is available, and bridges the gaps with on-demand.

    It knows no deadline: each return to spot costs a restart overhead, and only the shield keeps these
    from adding up to a miss.
    """

    name: str = "spot-when-available"

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Spot where available, else on-demand."""
        spot, available = spot_choice(observation)
        return np.where(available, spot, ON_DEMAND), memory
