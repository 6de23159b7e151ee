"""The learner: PPO on a batched environment, and its network as plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from envs.deadline_vec_env import DeadlineVecEnv
from policies.learned import network_arrays
from training.config import PPOSettings

ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
Arrays = dict[str, NDArray[np.float32]]
Learner = TypeVar("Learner", bound=OnPolicyAlgorithm)


class KeepsFinished(OnPolicyAlgorithm):
    """Looks only at the infos of finished episodes and keeps them for one rollout."""

    finished: list[dict[str, Any]]

    def _setup_model(self) -> None:
        super()._setup_model()
        self.finished = []

    def _update_info_buffer(
        self, infos: list[dict[str, Any]], dones: NDArray[np.bool_] | None = None
    ) -> None:
        if dones is not None:
            self.finished.extend(infos[i] for i in np.flatnonzero(dones))


class DeadlinePPO(KeepsFinished, MaskablePPO):
    """MaskablePPO as `Trainer` runs it."""


def make_learner(
    kind: Callable[..., Learner],
    network: type[BasePolicy],
    env: VecEnv,
    settings: PPOSettings,
    seed: int,
    network_settings: Mapping[str, Any],
) -> Learner:
    """Make a learner with fresh weights, on the CPU.

    Args:
        kind: PPO, MaskablePPO or a subclass.
        network: Its actor and critic.
        env: What it learns in; it is seeded too.
        settings: Hyper-parameters of the updates.
        seed: Seeds torch, NumPy and the environments.
        network_settings: Of `network`.
    """
    rate = settings.learning_rate
    agent = kind(
        network,
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
        policy_kwargs=dict(network_settings),
        seed=seed,
        device="cpu",
    )
    agent.set_logger(Logger(None, []))
    return agent


def make_agent(
    env: DeadlineVecEnv,
    settings: PPOSettings,
    seed: int,
    agent_class: type[DeadlinePPO] = DeadlinePPO,
    policy_class: type[MaskableActorCriticPolicy] = MaskableActorCriticPolicy,
) -> DeadlinePPO:
    """Make the learner for jobs; `agent_class` and `policy_class` are for recipes that change them."""
    layers = list(settings.layers)
    network = {
        "net_arch": {"pi": layers, "vf": list(layers)},
        "activation_fn": ACTIVATIONS[settings.activation],
    }
    return make_learner(agent_class, policy_class, env, settings, seed, network)


def weights_of(policy: BasePolicy) -> Arrays:
    """Copies of all weights by name."""
    return {name: np.array(tensor.numpy()) for name, tensor in policy.state_dict().items()}


def actor_arrays(weights: Mapping[str, NDArray[np.float32]]) -> Arrays:
    """The actor among all weights, named as in a policy bundle."""
    return dense_arrays(weights, "mlp_extractor.policy_net", "action_net")


def dense_arrays(weights: Mapping[str, NDArray[np.float32]], stack: str, last: str) -> Arrays:
    """Dense layers, those of the module `stack` and then `last`, named as in a policy bundle."""
    prefix = f"{stack}."
    numbers = sorted(
        {int(name.removeprefix(prefix).split(".")[0]) for name in weights if name.startswith(prefix)}
    )
    names = [*(f"{prefix}{number}" for number in numbers), last]
    return network_arrays([(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names])
