"""What the baselines share: no memory, and one way to choose among pools."""

from __future__ import annotations

import numpy as np

from policies.protocol import Memory
from simulator.deadline.observation import (
    FIRST_SPOT,
    NEVER,
    BoolArray,
    DeadlineObservation,
    IntArray,
    PartialObservation,
)

EPSILON_SECONDS = 1e-6
"""Slack is a difference of sums of seconds: thresholds are met up to this much rounding."""


class Memoryless:
    """Half of the policy protocol, for policies that decide from the observation alone."""

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        """No memory, for any number of jobs and pools."""
        del jobs, pools
        return {}


def spot_choice(observation: DeadlineObservation) -> tuple[IntArray, BoolArray]:
    """The pool each job would use if it were to run on spot now.

    Returns:
        (N,) action `FIRST_SPOT + p`: the pool the job runs in while that is available, otherwise the
        cheapest available one (the first of equals); and (N,) whether any pool is available, without
        which the action means nothing.
    """
    action, any_available = cheapest_choice(observation)
    holding = holds_spot(observation)
    action[holding] = observation.placement[holding]
    return action, any_available


def cheapest_choice(observation: DeadlineObservation) -> tuple[IntArray, BoolArray]:
    """(N,) action for the cheapest pool to be had (the first of equals), and (N,) whether there is any.

    The cheapest is the one in which work costs least: price over throughput. What a move costs plays no part.

    A pool known to have been away is asked again after as many ticks as there are pools.
    """
    askable = observation.askable
    if isinstance(observation, PartialObservation):
        age = observation.knowledge_age
        askable = askable & (observation.spot_available | (age == NEVER) | (age >= observation.pools))
    cheapest = np.where(askable, observation.price_of_work, np.inf).argmin(axis=1)
    any_askable: BoolArray = np.any(askable, axis=1)
    return cheapest.astype(np.int64) + FIRST_SPOT, any_askable


def holds_spot(observation: DeadlineObservation) -> BoolArray:
    """(N,) whether the job runs in a spot pool that is still available."""
    holding: BoolArray = observation.placement >= FIRST_SPOT
    rows = np.flatnonzero(holding)
    holding[rows] = observation.spot_available[rows, observation.placement[rows] - FIRST_SPOT]
    return holding
