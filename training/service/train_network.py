"""The learner for services: stable-baselines3's PPO with an actor that starts as the planner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from envs.service_planner_vec_env import ServicePlannerVecEnv
from policies.learned import network_arrays
from policies.service.residual import OPTIONS
from training.agent import ACTIVATIONS, Arrays
from training.service.train_config import ServicePPOSettings


class _TwoTowers(nn.Module):
    """Separate actor and critic; the actor's output carries the planner's advice beside it."""

    def __init__(
        self, inputs: int, layers: Sequence[int], activation: type[nn.Module], bonus: float, guidance: float
    ) -> None:
        super().__init__()
        self.bonus, self.guidance = bonus, guidance
        self.actor = _tower(inputs, layers, activation)
        self.critic = _tower(inputs, layers, activation)
        self.latent_dim_vf = layers[-1] if layers else inputs
        self.latent_dim_pi = self.latent_dim_vf + OPTIONS

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.forward_actor(x), self.forward_critic(x)

    def forward_actor(self, x: torch.Tensor) -> torch.Tensor:
        gaps = x[:, :OPTIONS]  # as in `policies.service.residual.Advice`
        best = nn.functional.one_hot(gaps.argmin(dim=1), OPTIONS)
        return torch.cat([self.actor(x), self.bonus * best - self.guidance * gaps], dim=1)

    def forward_critic(self, x: torch.Tensor) -> torch.Tensor:
        critic: torch.Tensor = self.critic(x)
        return critic


class _Correction(nn.Module):
    """Logits = advice + a linear map of the last hidden layer that starts at zero: at first, the planner."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width, OPTIONS)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        correction: torch.Tensor = self.linear(x[:, : self.width])
        return correction + x[:, self.width :]


class ResidualActorCritic(ActorCriticPolicy):
    """Actor-critic whose actor starts as a soft version of the planner."""

    def __init__(
        self,
        *arguments: Any,
        layers: Sequence[int],
        activation: type[nn.Module],
        bonus: float,
        guidance: float,
        **settings: Any,
    ) -> None:
        """As its base, with the hidden layers of both towers and the planner's advice."""
        self._towers = (tuple(layers), activation, bonus, guidance)
        super().__init__(*arguments, **settings)

    def _build_mlp_extractor(self) -> None:
        towers = _TwoTowers(self.features_dim, *self._towers)
        self.mlp_extractor = towers  # type: ignore[assignment] # same interface

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        super()._build(lr_schedule)
        self.action_net = _Correction(self.mlp_extractor.latent_dim_vf)
        settings = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.parameters(), **settings)


class ResidualPPO(PPO):
    """PPO that looks only at the infos of finished episodes and keeps them for one rollout."""

    finished: list[dict[str, Any]]

    def _update_info_buffer(
        self, infos: list[dict[str, Any]], dones: NDArray[np.bool_] | None = None
    ) -> None:
        if dones is not None:
            self.finished.extend(infos[i] for i in np.flatnonzero(dones))


def make_residual_agent(env: ServicePlannerVecEnv, settings: ServicePPOSettings, seed: int) -> ResidualPPO:
    """Make a learner whose decisions are the planner's.

    Args:
        env: What it learns in; it is seeded too.
        settings: Hyper-parameters.
        seed: Seeds torch, NumPy and the environments.
    """
    rate = settings.learning_rate
    agent = ResidualPPO(
        ResidualActorCritic,
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
            "layers": settings.layers,
            "activation": ACTIVATIONS[settings.activation],
            "bonus": settings.bonus,
            "guidance": settings.guidance,
        },
        seed=seed,
        device="cpu",
    )
    agent.set_logger(Logger(None, []))
    agent.finished = []
    return agent


def correction_arrays(weights: Mapping[str, NDArray[np.float32]]) -> Arrays:
    """The correction network among all weights, named as in a policy bundle."""
    prefix = "mlp_extractor.actor."
    numbers = sorted(
        {int(name.removeprefix(prefix).split(".")[0]) for name in weights if name.startswith(prefix)}
    )
    names = [*(f"{prefix}{number}" for number in numbers), "action_net.linear"]
    return network_arrays([(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names])


def _tower(inputs: int, layers: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    widths = [inputs, *layers]
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after), activation()]
    return nn.Sequential(*parts)
