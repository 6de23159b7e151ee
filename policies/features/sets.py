"""Feature sets by name: how to remember, and how to describe jobs to a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.features.history import COLUMNS, fold_all
from policies.features.kernels import LIMIT, RICH_NAMES, SIMPLE_NAMES, look_rich, look_simple
from policies.protocol import Memory
from simulator.deadline.observation import BoolArray, DeadlineObservation, FloatArray, IntArray
from simulator.errors import InputError

Float32Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Look:
    """What a network needs to decide one tick.

    Attributes:
        features: (N, F) float32 within [-3, 3].
        legal: (N, P + 2) the shield's legal actions.
        pool: (N,) the pool that "spot" means: the one the job holds, otherwise the cheapest
            available one, otherwise the cheapest.
    """

    features: Float32Array
    legal: BoolArray
    pool: IntArray


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """A named way to describe deadline jobs.

    Attributes:
        name: How bundles and configurations refer to it.
        names: The F features, in order.
        columns: Numbers remembered per job and pool.
        kernel: The compiled function; see `policies.features.kernels.look_rich`.
    """

    name: str
    names: tuple[str, ...]
    columns: int
    kernel: Callable[..., None]

    @property
    def size(self) -> int:
        """Number of features F."""
        return len(self.names)

    @property
    def limit(self) -> float:
        """No feature is larger than this in absolute value."""
        return LIMIT

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        """Memory for jobs that are about to begin: `history`, (N, P, columns)."""
        return {"history": np.zeros((jobs, pools, self.columns))}

    def look(self, observation: DeadlineObservation, memory: Memory) -> tuple[Look, Memory]:
        """Take what is seen now into the memory and describe every job.

        Args:
            observation: N jobs over P pools.
            memory: What the previous call (or `reset`) returned; it is not changed.

        Returns:
            The description and the new memory.
        """
        history = np.array(memory["history"], np.float64)
        return self._run(observation, history, fold=True), {"history": history}

    def describe(
        self, observation: DeadlineObservation, memory: Memory, out: Float32Array | None = None
    ) -> Look:
        """Describe every job from a memory that already holds what is seen now.

        Args:
            observation: N jobs over P pools.
            memory: What `look` returned.
            out: (N, F or more) where the features go, into the first F columns; what the others hold is lost.
        """
        return self._run(observation, np.asarray(memory["history"], np.float64), fold=False, out=out)

    def _run(
        self, seen: DeadlineObservation, history: FloatArray, *, fold: bool, out: Float32Array | None = None
    ) -> Look:
        jobs, pools = seen.jobs, seen.pools
        look = Look(
            np.empty((jobs, self.size), np.float32) if out is None else out,
            np.empty((jobs, pools + 2), np.bool_),
            np.empty(jobs, np.int64),
        )
        self.kernel(
            np.arange(jobs),
            fold,
            float(seen.tick_seconds),
            # hand-built observations may hold other dtypes, for which the kernel would be compiled anew
            np.ascontiguousarray(seen.work_left, np.float64),
            np.ascontiguousarray(seen.time_left, np.float64),
            np.ascontiguousarray(seen.work_total, np.float64),
            np.ascontiguousarray(seen.time_total, np.float64),
            np.ascontiguousarray(seen.placement, np.int64),
            np.ascontiguousarray(seen.pending_overhead, np.float64),
            np.ascontiguousarray(seen.unsaved_work, np.float64),
            np.ascontiguousarray(seen.restart_overhead, np.float64),
            np.ascontiguousarray(seen.checkpoint_interval, np.float64),
            np.ascontiguousarray(seen.spot_available, np.bool_),
            np.ascontiguousarray(seen.spot_price, np.float64),
            np.ascontiguousarray(seen.on_demand_price, np.float64),
            history,
            look.features,
            look.legal,
            look.pool,
        )
        return look


RICH = FeatureSet("deadline-rich", RICH_NAMES, COLUMNS, look_rich)
"""Slack, limits, prices and what was learnt about the pool; the default."""
SIMPLE = FeatureSet("deadline-simple", SIMPLE_NAMES, 0, look_simple)
"""The present only: small, fast, good enough for a first policy."""

FEATURE_SETS = {each.name: each for each in (RICH, SIMPLE)}


def feature_set(name: str) -> FeatureSet:
    """The feature set of that name.

    Raises:
        InputError: There is none.
    """
    if name not in FEATURE_SETS:
        raise InputError(f"no feature set {name}; accepted: {', '.join(FEATURE_SETS)}")
    return FEATURE_SETS[name]


def reset_memory(jobs: int, pools: int = 1) -> Memory:
    """Memory of `deadline-rich` for jobs that are about to begin."""
    return RICH.reset(jobs, pools)


def update(memory: Memory, observation: DeadlineObservation) -> Memory:
    """Take what is seen now into a memory of `deadline-rich`; the old memory is not changed."""
    history = np.array(memory["history"], np.float64)
    fold_all(
        float(observation.tick_seconds), np.ascontiguousarray(observation.spot_available, np.bool_), history
    )
    return {"history": history}


def features(observation: DeadlineObservation, memory: Memory) -> Float32Array:
    """(N, F) float32 features of `deadline-rich`, from a memory that holds what is seen now."""
    return RICH.describe(observation, memory).features
