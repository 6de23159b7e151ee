"""The safety shield: the actions after which every deadline can still be kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.legality import write_legal
from policies.protocol import DeadlinePolicy, Memory
from simulator.deadline.observation import (
    FIRST_SPOT,
    IDLE,
    ON_DEMAND,
    BoolArray,
    DeadlineObservation,
    FloatArray,
    IntArray,
)


def effective_slack(observation: DeadlineObservation) -> FloatArray:
    """(N,) seconds of slack that remain if all work at risk on spot in this tick were lost.

    Time left minus work left, minus what an interruption at the end of this tick could take
    back: nothing without a checkpoint interval, at most one interval with it.
    """
    at_risk = np.minimum(
        observation.unsaved_work + observation.tick_seconds,
        observation.checkpoint_interval,
    )
    return observation.slack - at_risk


def legal_actions(observation: DeadlineObservation) -> BoolArray:
    """(N, P + 2) actions that keep every deadline that can still be kept.

    With slack = time left - work left, restart overhead d and tick g: running spot is held only if
    slack >= d + g, spot is launched only if slack >= 2d + g, a job idles only if slack >= d + g,
    and on-demand is always legal. Spot must be available. Work at risk between
    checkpoints is taken off the slack for spot.
    """
    legal = np.empty((observation.jobs, observation.pools + 2), np.bool_)
    write_legal(
        np.arange(observation.jobs),
        float(observation.tick_seconds),
        np.ascontiguousarray(observation.work_left, np.float64),
        np.ascontiguousarray(observation.time_left, np.float64),
        np.ascontiguousarray(observation.placement, np.int64),
        np.ascontiguousarray(observation.unsaved_work, np.float64),
        np.ascontiguousarray(observation.restart_overhead, np.float64),
        np.ascontiguousarray(observation.checkpoint_interval, np.float64),
        np.ascontiguousarray(observation.spot_available, np.bool_),
        legal,
    )
    return legal


def apply_shield(observation: DeadlineObservation, action: IntArray) -> IntArray:
    """Replace each action that is not legal (or not an action at all) by on-demand.

    Asking for spot in a pool without capacity becomes idling where that is legal, since this
    is what the request would come to.
    """
    legal = legal_actions(observation)
    known = (action >= 0) & (action < legal.shape[1])
    rows = np.arange(len(action))
    safe = np.where(known, action, ON_DEMAND)
    unavailable = safe >= FIRST_SPOT
    unavailable[unavailable] = ~observation.spot_available[rows[unavailable], safe[unavailable] - FIRST_SPOT]
    safe = np.where(unavailable, IDLE, safe)
    return np.where(legal[rows, safe], safe, ON_DEMAND).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Shielded:
    """A policy whose decisions pass the shield; whatever it says, no avoidable deadline is missed."""

    policy: DeadlinePolicy

    @property
    def name(self) -> str:
        """The name of the policy behind the shield."""
        return self.policy.name

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        """Memory of the policy behind the shield."""
        return self.policy.reset(jobs, pools)

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Decide, then make it safe."""
        action, memory = self.policy.act(observation, memory)
        return apply_shield(observation, np.asarray(action)), memory
