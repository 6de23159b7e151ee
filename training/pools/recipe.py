"""Train the network over pools: PPO from the planner on, paid minus the regret against the optimum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from envs.hindsight import HindsightReward
from envs.pools_vec_env import PoolsVecEnv
from envs.series import EpisodeMarkets
from policies.bundle import BundleManifest, write_bundle
from policies.guided.pools import ALGORITHM, FEATURE_NAMES, GuidedPools, PoolNetwork, bundle_parts
from policies.planner import SemiMarkovPlanner
from simulator.deadline.batch import Observability
from simulator.synthetic import SemiMarkovModel
from training.champion.network import WeightAverage
from training.pools.episodes import LONGEST_TICKS, PoolJobs
from training.pools.network import GUIDANCE, WIDTH, PoolsActorCritic, member_arrays
from training.tracking import git_revision

Member = dict[str, NDArray[np.float32]]
CACHE_BYTES = 3_000_000_000


@dataclass(frozen=True, slots=True)
class PoolsRecipe:
    """Hyper-parameters; see `training.champion.recipe.Recipe`, from which they are taken.

    Attributes:
        steps: Environment steps.
        environments: Environments in lock-step.
        rollout_steps: Steps of each between two updates.
        batch_size: Minibatch of an update.
        epochs: Passes over a rollout.
        learning_rate: At the start; falls linearly to 0.
        gae_lambda: Of the advantage estimate; the discount is 1.
        clip_range: Of PPO.
        entropy: Weight of the entropy bonus.
        width: Of the hidden layers.
        guidance: Weight of the planner's costs in the scores.
    """

    steps: int = 1_500_000
    environments: int = 512
    rollout_steps: int = 64
    batch_size: int = 8192
    epochs: int = 3
    learning_rate: float = 3e-4
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    entropy: float = 0.001
    width: int = WIDTH
    guidance: float = GUIDANCE


class _Watched(BaseCallback):
    """Tells somebody how many steps are done."""

    def __init__(self, watch: Callable[[int], None]) -> None:
        super().__init__()
        self.watch = watch

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.watch(self.num_timesteps)


def train_pools(
    markets: EpisodeMarkets,
    model: SemiMarkovModel,
    recipe: PoolsRecipe,
    seed: int,
    *,
    observability: Observability = "full",
    watch: Callable[[int], None] = lambda steps: None,
) -> Member:
    """Train one network; the same arguments give the same weights on the same machine.

    Args:
        markets: Training markets, all of equally many pools.
        model: The planner's.
        recipe: Hyper-parameters.
        seed: Of weights, updates and episodes.
        observability: What jobs know of pools.
        watch: Told the steps done, after every rollout.

    Returns:
        The averaged network, named as in a bundle.
    """
    torch.set_num_threads(1)
    env = PoolsVecEnv(
        markets,
        recipe.environments,
        SemiMarkovPlanner(model, cache_bytes=CACHE_BYTES),
        jobs=PoolJobs(),
        reward=HindsightReward(LONGEST_TICKS),
        seed=seed,
        observability=observability,
    )
    agent = MaskablePPO(
        PoolsActorCritic,
        env,
        learning_rate=lambda remaining: recipe.learning_rate * max(remaining, 0.0),
        n_steps=recipe.rollout_steps,
        batch_size=recipe.batch_size,
        n_epochs=recipe.epochs,
        gamma=1.0,
        gae_lambda=recipe.gae_lambda,
        clip_range=recipe.clip_range,
        ent_coef=recipe.entropy,
        seed=seed,
        device="cpu",
        policy_kwargs={"width": recipe.width, "guidance": recipe.guidance},
    )
    agent.set_logger(Logger(None, []))
    average = WeightAverage()
    agent.learn(recipe.steps, callback=[average, _Watched(watch)])
    return member_arrays(average.average or agent.policy.state_dict())


def guided_pools(
    name: str, planner: SemiMarkovPlanner, members: Sequence[Member], guidance: float = GUIDANCE
) -> GuidedPools:
    """The policy of some members."""
    return GuidedPools(name, planner, guidance, tuple(PoolNetwork.of(member) for member in members))


def write_pools(
    path: Path,
    policy: GuidedPools,
    members: Sequence[Member],
    recipe: PoolsRecipe,
    seeds: Sequence[int],
    data_sha256: Mapping[str, str],
) -> str:
    """Write the bundle.

    Returns:
        Its SHA-256.
    """
    parameters, weights = bundle_parts(policy.planner.model, policy.guidance, members)
    manifest = BundleManifest.model_validate(
        {
            "name": policy.name,
            "kind": "deadline",
            "algorithm": ALGORITHM,
            "feature_names": list(FEATURE_NAMES),
            "parameters": parameters,
            "training_config": {**asdict(recipe), "seeds": list(seeds)},
            "data_sha256": dict(data_sha256),
            "git_revision": git_revision(),
        }
    )
    return write_bundle(path, manifest, weights)
