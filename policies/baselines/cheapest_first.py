"""Cheapest first: always in the cheapest pool that has spot, whatever a move costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.baselines.memoryless import EPSILON_SECONDS, Memoryless, cheapest_choice
from policies.protocol import Memory
from simulator.deadline.observation import IDLE, ON_DEMAND, DeadlineObservation, IntArray


@dataclass(frozen=True, slots=True)
class CheapestFirst(Memoryless):
    """Runs in the cheapest available pool, idles without one, on-demand below the safety net.

    It moves as soon as a pool is available in which work costs less, and pays for the move. The safety net is
    the one of `Greedy`: slack below d + 2g means on-demand, for restart overhead d and tick g.
    """

    name: str = "cheapest-first"

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """The cheapest pool or idle above the safety net, on-demand below."""
        spot, available = cheapest_choice(observation)
        threshold = observation.restart_overhead + 2.0 * observation.tick_seconds
        has_time = observation.slack + EPSILON_SECONDS >= threshold
        return np.where(has_time, np.where(available, spot, IDLE), ON_DEMAND), memory
