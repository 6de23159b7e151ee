"""Greedy: wait for spot as long as the deadline allows, then on-demand to the end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.baselines.memoryless import EPSILON_SECONDS, Memoryless, spot_choice
from policies.protocol import Memory
from simulator.deadline.observation import IDLE, ON_DEMAND, DeadlineObservation, IntArray


@dataclass(frozen=True, slots=True)
class Greedy(Memoryless):
    """Spot when available, else idle, until the safety net: slack below d + 2g means on-demand.

    With slack = time left - work left, restart overhead d and tick g. Slack never grows back on
    on-demand capacity, so the job stays there until it is done. The policy is the greedy baseline of
    Wu et al., "Can't Be Late" (NSDI 2024), section 4.1; d + 2g is what the recorded runs of its
    simulator show for a clock that moves in whole ticks.
    """

    name: str = "greedy"

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Spot or idle above the safety net, on-demand below."""
        spot, available = spot_choice(observation)
        threshold = observation.restart_overhead + 2.0 * observation.tick_seconds
        has_time = observation.slack + EPSILON_SECONDS >= threshold
        return np.where(has_time, np.where(available, spot, IDLE), ON_DEMAND), memory
