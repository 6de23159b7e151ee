"""Uniform Progress: spread the work evenly over the time to the deadline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.baselines.memoryless import EPSILON_SECONDS, Memoryless, holds_spot, spot_choice
from policies.protocol import Memory
from simulator.deadline.observation import (
    IDLE,
    ON_DEMAND,
    BoolArray,
    DeadlineObservation,
    FloatArray,
    IntArray,
)


@dataclass(frozen=True, slots=True)
class UniformProgress(Memoryless):
    """The parameter-free policy of Wu et al., "Can't Be Late" (NSDI 2024), section 4.

    A job of work C due after R seconds is expected to have done c(t) = C * t / R by time t. With slack =
    time left - work left, restart overhead d and tick g, the rules are, first match first:

    | rule | when | decision |
    |---|---|---|
    | thrifty | the work is done | nothing runs (the world ends the job) |
    | exploitation | spot is running, slack >= d + g | hold it, however far ahead |
    | safety net | slack < 2d + g (running spot: < d + g) | on-demand, to the end |
    | hysteresis | on-demand, progress < c(t + 2d) | stay on on-demand, spot or not |
    | take risks | spot is available | launch it, even when behind c(t) |
    | uniform progress | progress < c(t) | on-demand |
    | | otherwise | idle |
    """

    name: str = "uniform-progress"

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Apply the rules above."""
        spot, available = spot_choice(observation)
        return uniform_progress(observation, spot, available), memory


def uniform_progress(observation: DeadlineObservation, spot: IntArray, available: BoolArray) -> IntArray:
    """The rules of `UniformProgress`, last match first.

    Args:
        observation: N jobs.
        spot: (N,) the action that "spot" means for each.
        available: (N,) whether there is any spot to ask for.

    Returns:
        (N,) actions.
    """
    overhead, tick = observation.restart_overhead, observation.tick_seconds
    slack = observation.slack + EPSILON_SECONDS
    ahead = seconds_ahead(observation)
    rate = observation.work_total / observation.time_total

    action = np.where(ahead < -EPSILON_SECONDS, ON_DEMAND, IDLE)
    action = np.where(available, spot, action)
    recovering = (observation.placement == ON_DEMAND) & (ahead + EPSILON_SECONDS < 2.0 * overhead * rate)
    action = np.where(recovering, ON_DEMAND, action)
    holding = holds_spot(observation)
    in_time = slack >= np.where(holding, overhead, 2.0 * overhead) + tick
    return np.where(in_time, action, ON_DEMAND)


def seconds_ahead(observation: DeadlineObservation) -> FloatArray:
    """(N,) seconds of work done beyond (below zero: short of) uniform progress to the deadline."""
    done = observation.work_total - observation.work_left
    elapsed = observation.time_total - observation.time_left
    return done - observation.work_total * elapsed / observation.time_total
