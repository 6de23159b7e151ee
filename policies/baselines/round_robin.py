"""Uniform Progress over several pools, which are taken in turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.baselines.memoryless import EPSILON_SECONDS, holds_spot
from policies.baselines.uniform_progress import seconds_ahead, uniform_progress
from policies.protocol import Memory
from simulator.deadline.observation import FIRST_SPOT, DeadlineObservation, IntArray, PartialObservation


@dataclass(frozen=True, slots=True)
class RoundRobinUniformProgress:
    """Uniform Progress (Wu et al., "Can't Be Late", NSDI 2024) that goes on to the next pool when one fails.

    A job stays in its pool; interrupted or refused, it asks the next one in the market's order, and skips
    pools that are known to be away. Prices play no part.
    """

    name: str = "round-robin-uniform-progress"

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        """`turn` (N,): the pool that each job asks next."""
        del pools
        return {"turn": np.zeros(jobs, np.int64)}

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Uniform Progress, with the pool whose turn it is as the spot to be had."""
        rows = np.arange(observation.jobs)
        order = (
            np.asarray(memory["turn"], np.int64)[:, None] + np.arange(observation.pools)
        ) % observation.pools
        askable = observation.askable[rows[:, None], order]
        turn = order[rows, askable.argmax(axis=1)]
        to_be_had = askable.any(axis=1)
        if isinstance(observation, PartialObservation):
            # Who was just refused and is behind does not ask again before on-demand has made up for it.
            last = (turn - 1) % observation.pools
            refused = ~observation.spot_available[rows, last] & (observation.knowledge_age[rows, last] == 1)
            to_be_had &= ~(refused & (seconds_ahead(observation) < -EPSILON_SECONDS))
        holding = holds_spot(observation)
        turn[holding] = observation.placement[holding] - FIRST_SPOT
        action = uniform_progress(observation, turn + FIRST_SPOT, to_be_had)
        # Whoever launches may be refused and whoever holds may lose it: next time the next pool is asked.
        moved = action >= FIRST_SPOT
        return action, {"turn": np.where(moved, (turn + 1) % observation.pools, turn)}
