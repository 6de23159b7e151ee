"""Deadline jobs over several pools, advised by the planner: what the network over pools is trained in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.batched import EpisodeMemory, Float32Array
from envs.deadline_vec_env import DeadlineVecEnv, State
from envs.jobs import JobSampler
from envs.reward import Reward
from envs.series import EpisodeMarkets
from policies.guided.pools import JOB_NAMES, POOL_NAMES, advise, describe
from policies.planner import SemiMarkovPlanner
from simulator.deadline import DeadlineBatch
from simulator.deadline.observability import Observability
from simulator.deadline.observation import IntArray
from simulator.errors import InputError


class PoolsVecEnv(DeadlineVecEnv):
    """`DeadlineVecEnv` over P pools whose observations are `Described.flat`: J + P F numbers.

    The planner's memory of an environment begins anew with each episode, as in production. A
    `terminal_observation` is 0, since nobody acts on it.
    """

    def __init__(
        self,
        markets: EpisodeMarkets,
        num_envs: int,
        planner: SemiMarkovPlanner,
        *,
        jobs: JobSampler,
        reward: Reward,
        seed: int,
        observability: Observability = "full",
    ) -> None:
        """See `DeadlineVecEnv`; `planner` advises, and jobs know of pools what `observability` says."""
        self._planner = planner
        pools = markets.stack.pools
        self._memory = EpisodeMemory(planner.reset(num_envs, pools), planner.reset(1, pools))
        super().__init__(markets, num_envs, jobs=jobs, reward=reward, seed=seed)
        self.batch = DeadlineBatch(markets.stack, num_envs, observability)
        self._size = len(JOB_NAMES) + pools * len(POOL_NAMES)
        self.observation_space = spaces.Box(-50.0, 50.0, (self._size,), np.float32)

    def state(self) -> State:
        """Copies of everything that `restore` needs to continue exactly here."""
        memory = {f"planner.{name}": np.array(array) for name, array in self._memory.now.items()}
        return {**super().state(), **memory}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> Float32Array:
        """Continue from a saved state instead of a `reset`; see `DeadlineVecEnv.restore`."""
        for name, array in self._memory.now.items():
            saved = state.get(f"planner.{name}")
            if saved is None or saved.shape != array.shape or saved.dtype != array.dtype:
                raise InputError(f"state of {self.num_envs} environments: the planner's {name} does not fit")
            self._memory.now[name] = np.array(saved)
        return super().restore(state)

    def _begin(self, rows: IntArray) -> None:
        super()._begin(rows)
        self._memory.begin(rows)

    def _look(self, rows: IntArray, *, fold: bool) -> Float32Array:
        if rows is not self._rows:
            return np.zeros((self.num_envs, self._size), np.float32)
        seen = self.batch.observe(copy=False)
        advice, memory = advise(self._planner, seen, self._memory.now, fold=fold)
        self._memory.keep(memory)
        self._legal = advice.legal
        return describe(seen, advice).flat
