"""On-demand from the first tick to the last: what a job costs without spot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.baselines.memoryless import Memoryless
from policies.protocol import Memory
from simulator.deadline.observation import ON_DEMAND, DeadlineObservation, IntArray


@dataclass(frozen=True, slots=True)
class OnDemandOnly(Memoryless):
    """Never leaves on-demand capacity."""

    name: str = "on-demand"

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """On-demand for every job."""
        return np.full(observation.jobs, ON_DEMAND, np.int64), memory
