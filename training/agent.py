"""The learner: sb3-contrib's MaskablePPO on the batched environment, and its network as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.logger import Logger

from envs.deadline_vec_env import DeadlineVecEnv
from policies.learned import network_arrays
from training.config import PPOSettings

ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
Arrays = dict[str, NDArray[np.float32]]


class DeadlinePPO(MaskablePPO):
    """MaskablePPO that looks only at the infos of finished episodes and keeps them for one rollout."""

    finished: list[dict[str, Any]]

    def _update_info_buffer(
        self, infos: list[dict[str, Any]], dones: NDArray[np.bool_] | None = None
    ) -> None:
        if dones is not None:
            self.finished.extend(infos[i] for i in np.flatnonzero(dones))


def make_agent(
    env: DeadlineVecEnv,
    settings: PPOSettings,
    seed: int,
    agent_class: type[DeadlinePPO] = DeadlinePPO,
    policy_class: type[MaskableActorCriticPolicy] = MaskableActorCriticPolicy,
) -> DeadlinePPO:
    """Make a learner with fresh weights.

    Args:
        env: What it learns in; it is seeded too.
        settings: Hyper-parameters.
        seed: Seeds torch, NumPy and the environments.
        agent_class: A subclass, for recipes that change the update.
        policy_class: A subclass, for recipes that change the network.
    """
    rate = settings.learning_rate
    agent = agent_class(
        policy_class,
        env,
        learning_rate=lambda remaining: rate * max(remaining, 0.0),  # the last rollout may overshoot
        n_steps=settings.rollout_steps,
        batch_size=settings.batch_size,
        n_epochs=settings.epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clip_range=settings.clip_range,
        ent_coef=settings.entropy,
        vf_coef=settings.value_weight,
        max_grad_norm=settings.max_gradient,
        policy_kwargs={
            "net_arch": {"pi": list(settings.layers), "vf": list(settings.layers)},
            "activation_fn": ACTIVATIONS[settings.activation],
        },
        seed=seed,
        device="cpu",
    )
    agent.set_logger(Logger(None, []))
    agent.finished = []
    return agent


def weights_of(policy: MaskableActorCriticPolicy) -> Arrays:
    """Copies of all weights by name."""
    return {name: np.array(tensor.numpy()) for name, tensor in policy.state_dict().items()}


def actor_arrays(weights: Mapping[str, NDArray[np.float32]]) -> Arrays:
    """The actor among all weights, named as in a policy bundle."""
    prefix = "mlp_extractor.policy_net."
    numbers = sorted(
        {int(name.removeprefix(prefix).split(".")[0]) for name in weights if name.startswith(prefix)}
    )
    names = [*(f"{prefix}{number}" for number in numbers), "action_net"]
    return network_arrays([(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names])
