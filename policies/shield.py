"""The safety shield: the actions after which every deadline can still be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policies.legality import EPSILON_SECONDS, write_legal, write_safe
from policies.protocol import DeadlinePolicy, Memory
from policies.soft import binding
from simulator.deadline.observation import (
    FIRST_SPOT,
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
    and on-demand is always legal. Spot must be available, or not known to be away: a launch that fails
    leaves the job where it is or idle, and where launching is legal both are. Work at risk between
    checkpoints is taken off the slack for spot. A launch away from the data needs as much more slack as the
    move takes. How fast a pool is plays no part: a tick in it loses one tick of slack at most, and the
    on-demand capacity to go back to is where the data are.
    """
    legal = np.empty((observation.jobs, observation.pools + 2), np.bool_)
    write_legal(np.arange(observation.jobs), *rule_arrays(observation), legal)
    if observation.varied:
        legal[:, FIRST_SPOT:] &= _has_time_to_move(observation)
    return legal


def apply_shield(observation: DeadlineObservation, action: ArrayLike) -> IntArray:
    """Replace each action that is not legal (or not an action at all) by on-demand.

    Asking for spot in a pool without capacity becomes idling where that is legal, since this
    is what the request would come to.

    Args:
        observation: N jobs over P pools.
        action: (N,) anything: NaN, fractions, out-of-range and non-numeric entries are not actions.

    Returns:
        (N,) legal actions.

    Raises:
        ValueError: There is not one action per job, so that no action can be told to be whose.
    """
    asked = np.asarray(action)
    if asked.shape != (observation.jobs,):
        raise ValueError(f"actions of shape {asked.shape} for {observation.jobs} jobs; one per job is needed")
    safe = np.empty(observation.jobs, np.int64)
    write_safe(_whole_numbers(asked, observation.pools + 2), *rule_arrays(observation), safe)
    if observation.varied:
        rows = np.flatnonzero(safe >= FIRST_SPOT)
        in_time = _has_time_to_move(observation)[rows, safe[rows] - FIRST_SPOT]
        safe[rows[~in_time]] = ON_DEMAND
    return safe


def _has_time_to_move(observation: DeadlineObservation) -> BoolArray:
    """(N, P) whether there is slack for the move that a launch in each pool takes; holding takes none."""
    launch = 2.0 * observation.restart_overhead + observation.tick_seconds
    spare = effective_slack(observation) + EPSILON_SECONDS - launch
    held = observation.placement[:, None] == np.arange(observation.pools) + FIRST_SPOT
    in_time: BoolArray = held | (spare[:, None] >= observation.launch_extra)
    return in_time


def rule_arrays(
    observation: DeadlineObservation,
) -> tuple[float, FloatArray, FloatArray, IntArray, FloatArray, FloatArray, FloatArray, BoolArray]:
    """What the shield's rule looks at; other dtypes, for which it would be compiled anew, are converted."""
    return (
        float(observation.tick_seconds),
        np.ascontiguousarray(observation.work_left, np.float64),
        np.ascontiguousarray(observation.time_left, np.float64),
        np.ascontiguousarray(observation.placement, np.int64),
        np.ascontiguousarray(observation.unsaved_work, np.float64),
        np.ascontiguousarray(observation.restart_overhead, np.float64),
        np.ascontiguousarray(observation.checkpoint_interval, np.float64),
        np.ascontiguousarray(observation.askable, np.bool_),
    )


def _whole_numbers(asked: NDArray[Any], actions: int) -> IntArray:
    """The actions as integers, on-demand for what is not one of 0 ... `actions` - 1."""
    if asked.dtype == np.int64:  # what policies say: nothing to convert
        return np.ascontiguousarray(asked)
    if asked.dtype.kind not in "biuf":  # booleans, integers, floats
        return np.full(asked.shape, ON_DEMAND, np.int64)
    known = (asked >= 0) & (asked < actions)
    whole = np.where(known, asked, ON_DEMAND).astype(np.int64)
    return np.where(known & (whole != asked), ON_DEMAND, whole)


@runtime_checkable
class WeighsLateness(Protocol):
    """A policy that may decide by the cost of lateness itself."""

    def weighs_lateness(self, pools: int) -> bool:
        """Whether it does so for jobs over `pools` pools."""
        ...


def shown_to(policy: DeadlinePolicy, observation: DeadlineObservation) -> DeadlineObservation:
    """What a policy and the shield after it are to see of jobs that may be late at a price.

    A policy that weighs the cost of lateness sees it; any other is shown the due time as the deadline
    wherever it binds (`policies.soft`).
    """
    if not np.count_nonzero(observation.lateness_price):
        return observation
    weighs = isinstance(policy, WeighsLateness) and policy.weighs_lateness(observation.pools)
    return observation if weighs else binding(observation)


@dataclass(frozen=True, slots=True)
class Shielded:
    """A policy whose decisions pass the shield; whatever it says, no avoidable deadline is missed.

    A policy that does not weigh the cost of lateness is shown, and held to, the due time as its deadline
    wherever being late does not pay; see `policies.soft`.
    """

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
        observation = shown_to(self.policy, observation)
        action, memory = self.policy.act(observation, memory)
        return apply_shield(observation, action), memory
