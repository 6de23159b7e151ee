"""The batched deadline environment with a planner's advice beside the features."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.batched import EpisodeMemory, Float32Array
from envs.deadline_vec_env import DeadlineVecEnv
from envs.jobs import JobSampler
from envs.reward import Reward
from envs.series import EpisodeMarkets
from policies.guided.advice import write_advice
from policies.guided.policy import FEATURE_NAMES
from policies.planner import SemiMarkovPlanner
from simulator.deadline.observation import IntArray


class GuidedVecEnv(DeadlineVecEnv):
    """`DeadlineVecEnv` whose observations are `policies.guided.policy.FEATURE_NAMES`.

    The planner's memory of an environment begins anew with each episode, as in production. Saving and
    restoring in mid-episode is not supported: the recipe that uses it is short and starts over. The
    advice in a `terminal_observation` is 0, since nobody acts on it.
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
    ) -> None:
        """See `DeadlineVecEnv`; `planner` advises on single-pool markets."""
        self._planner = planner
        self._availability = planner.believed.availability()
        self._memory = EpisodeMemory(planner.reset(num_envs), planner.reset(1))
        super().__init__(markets, num_envs, jobs=jobs, reward=reward, seed=seed)
        self.observation_space = spaces.Box(-50.0, 50.0, (len(FEATURE_NAMES),), np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """Not supported.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a guided environment keeps planner memory that is not saved")

    def _begin(self, rows: IntArray) -> None:
        super()._begin(rows)
        self._memory.begin(rows)

    def _look(self, rows: IntArray, *, fold: bool) -> Float32Array:
        described = super()._look(rows, fold=fold)
        inputs = np.zeros((self.num_envs, len(FEATURE_NAMES)), np.float32)
        inputs[:, : described.shape[1]] = described
        if rows is not self._rows:
            return inputs
        seen = self.batch.observe(copy=False)
        self._memory.keep(self._planner.update(seen, self._memory.now))
        costs, pool = self._planner.expected_costs(seen, self._memory.now)
        model = self._planner.tick_model(seen.tick_seconds)
        write_advice(
            rows,
            costs,
            self._legal,
            pool,
            np.asarray(self._memory.now["belief"], np.float32),
            np.asarray(self._memory.now["last"], np.int8),
            model.hazard,
            seen.tick_seconds / 3600.0,
            self._availability,
            inputs,
        )
        return inputs
