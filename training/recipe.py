"""What recipes of networks on top of a planner share: PPO, the average of its weights, one bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback

from envs.deadline_vec_env import DeadlineVecEnv
from policies.bundle import BundleManifest, write_bundle
from training.advised import GUIDANCE, AdvisedActorCritic
from training.agent import Arrays, make_learner
from training.config import PPOSettings
from training.tracking import git_revision

CACHE_BYTES = 3_000_000_000
"""Of the planner's tables: episodes have many settings, with a table each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecipe:
    """Hyper-parameters of one network.

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

    steps: int
    environments: int
    rollout_steps: int = 64
    batch_size: int = 8192
    epochs: int = 3
    learning_rate: float = 3e-4
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    entropy: float = 0.001
    width: int
    guidance: float = GUIDANCE

    def updates(self) -> PPOSettings:
        """As the learner takes them."""
        return PPOSettings(
            rollout_steps=self.rollout_steps,
            batch_size=self.batch_size,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            gamma=1.0,
            gae_lambda=self.gae_lambda,
            clip_range=self.clip_range,
            entropy=self.entropy,
        )


class WeightAverage(BaseCallback):
    """Exponential moving average of all weights, from a share of the training on."""

    def __init__(self, keep: float = 0.97, begin: float = 0.3) -> None:
        """`keep` is the weight of the past per rollout; `begin` the progress at which it starts."""
        super().__init__()
        self.keep, self.begin = keep, begin
        self.average: dict[str, torch.Tensor] = {}

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if 1.0 - self.model._current_progress_remaining < self.begin:
            return
        now = {name: tensor.detach().clone() for name, tensor in self.model.policy.state_dict().items()}
        if not self.average:
            self.average = now
        for name, tensor in now.items():
            self.average[name].mul_(self.keep).add_(tensor, alpha=1.0 - self.keep)


class _Watched(BaseCallback):
    """Tells somebody how many steps are done."""

    def __init__(self, watch: Callable[[int], None]) -> None:
        super().__init__()
        self.watch = watch

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.watch(self.num_timesteps)


def train_network(
    env: DeadlineVecEnv,
    network: type[AdvisedActorCritic],
    recipe: MemberRecipe,
    seed: int,
    watch: Callable[[int], None],
) -> Arrays:
    """Train one network; the same arguments give the same weights on the same machine.

    Args:
        env: What it is trained in.
        network: Its actor and critic.
        recipe: Hyper-parameters.
        seed: Of weights and updates.
        watch: Told the steps done, after every rollout.

    Returns:
        Averages of all weights by name.
    """
    torch.set_num_threads(1)
    settings = {"width": recipe.width, "guidance": recipe.guidance}
    agent = make_learner(MaskablePPO, network, env, recipe.updates(), seed, settings)
    average = WeightAverage()
    agent.learn(recipe.steps, callback=[average, _Watched(watch)])
    weights = average.average or agent.policy.state_dict()
    return {name: np.array(tensor.numpy()) for name, tensor in weights.items()}


def write_members(
    path: Path,
    parts: tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]],
    *,
    name: str,
    algorithm: str,
    feature_names: Sequence[str],
    recipe: MemberRecipe,
    seeds: Sequence[int],
    data_sha256: Mapping[str, str],
    evaluation: Sequence[Mapping[str, float | int | str]] = (),
) -> str:
    """Write the bundle of networks that were trained by a recipe.

    Args:
        path: File to write.
        parts: Parameters of the algorithm, and the weights of planner and networks.
        name: Name of the policy.
        algorithm: Which class runs it.
        feature_names: What the networks see.
        recipe: Hyper-parameters.
        seeds: One per network.
        data_sha256: Hash of every file of data, by name.
        evaluation: Rows of what is known of its quality.

    Returns:
        Its SHA-256.
    """
    parameters, weights = parts
    manifest = BundleManifest.model_validate(
        {
            "name": name,
            "kind": "deadline",
            "algorithm": algorithm,
            "feature_names": list(feature_names),
            "parameters": parameters,
            "training_config": {**asdict(recipe), "seeds": list(seeds)},
            "data_sha256": dict(data_sha256),
            "git_revision": git_revision(),
            "evaluation": [dict(row) for row in evaluation],
        }
    )
    return write_bundle(path, manifest, weights)
