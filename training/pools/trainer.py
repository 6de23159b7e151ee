"""`spotwise train` of the network over pools: jobs use all pools of their market."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.hindsight import HindsightReward
from envs.jobs import Episodes, JobDistribution
from envs.pools_vec_env import PoolsVecEnv
from envs.reward import Reward
from envs.series import EpisodeMarkets
from policies.guided.pools import ALGORITHM, FEATURE_NAMES, GuidedPools, PoolNetwork, bundle_parts
from policies.planner import SemiMarkovPlanner
from policies.planner.fit import SHIPPED
from simulator.deadline.observation import FloatArray
from simulator.synthetic.semi_markov import load_model
from training.advised import GUIDANCE
from training.config import TrainingConfig
from training.data import Data
from training.pools.network import PoolsActorCritic, member_arrays
from training.recipe import CACHE_BYTES
from training.tracking import NoTracker, Tracker
from training.trainer import Trainer

OVERHEAD_SECONDS = 180.0
SCALE_STEP = 0.25
"""Overheads and factors on prices are rounded to these: each combination needs a table of the planner."""


class RoundedJobs(JobDistribution):
    """Jobs whose overheads and prices are few."""

    def draw(self, uniform: FloatArray, markets: EpisodeMarkets) -> Episodes:
        """Episodes from (n, DRAWS) random numbers in [0, 1)."""
        drawn = super().draw(uniform, markets)
        overhead = np.rint(drawn.restart_overhead / OVERHEAD_SECONDS) * OVERHEAD_SECONDS
        return replace(
            drawn,
            restart_overhead=np.minimum(overhead, drawn.deadline - drawn.work),
            spot_scale=np.maximum(np.rint(drawn.spot_scale / SCALE_STEP), 1.0) * SCALE_STEP,
        )


class PoolsTrainer(Trainer):
    """Trains the network over pools, advised by the shipped planner, on minus the regret.

    Its hidden layers have one width and end in tanh, whatever `ppo.layers` and `ppo.activation` say.
    """

    together = True

    def __init__(
        self, config: TrainingConfig, data: Data, out: Path, *, seed: int = 0, tracker: Tracker | None = None
    ) -> None:
        """See `Trainer`."""
        self.planner = SemiMarkovPlanner(load_model(SHIPPED), cache_bytes=CACHE_BYTES)
        super().__init__(
            config, data, out, seed=seed, tracker=tracker or NoTracker(), policy_class=PoolsActorCritic
        )

    def environment(self, markets: EpisodeMarkets, reward: Reward | None) -> PoolsVecEnv:
        """What is trained in."""
        longest = max(kind.work_hours[1] * kind.deadline_ratio[1] for kind in self.config.jobs)
        most = max(kind.work_hours[1] + kind.restart_overhead_minutes[1] / 60.0 for kind in self.config.jobs)
        ticks = math.ceil(3600.0 * max(longest, most) / markets.stack.tick_seconds) + 1
        return PoolsVecEnv(
            markets,
            self.config.ppo.environments,
            self.planner,
            jobs=RoundedJobs([job.ranges() for job in self.config.jobs]),
            reward=reward or HindsightReward(ticks, miss_penalty=self.config.miss_penalty),
            seed=self.seed,
        )

    def policy(self, weights: Mapping[str, NDArray[np.float32]] | None = None) -> GuidedPools:
        """The present (or the given) network as the policy that production runs."""
        network = PoolNetwork.of(member_arrays(weights or self.present()))
        return GuidedPools(self.config.name, self.planner, GUIDANCE, (network,))

    def parts_of_bundle(
        self, weights: Mapping[str, NDArray[np.float32]]
    ) -> tuple[dict[str, Any], Mapping[str, NDArray[Any]]]:
        """What a bundle of these weights says of its algorithm, and the arrays in it."""
        parameters, arrays = bundle_parts(self.planner.model, GUIDANCE, [member_arrays(weights)])
        return (
            {"algorithm": ALGORITHM, "feature_names": list(FEATURE_NAMES), "parameters": parameters},
            arrays,
        )
