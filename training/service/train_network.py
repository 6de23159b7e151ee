"""The learner for services: stable-baselines3's PPO with an actor that starts as the planner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from envs.service_planner_vec_env import ServicePlannerVecEnv
from policies.service.residual import OPTIONS
from training.advised import AdvisedTowers, Correction, put_head
from training.agent import ACTIVATIONS, KeepsFinished, make_learner
from training.service.train_config import ServicePPOSettings


class _Towers(AdvisedTowers):
    """Dense layers; the planner's advice is that of `policies.service.residual.Advice`."""

    def __init__(
        self, inputs: int, layers: Sequence[int], activation: type[nn.Module], bonus: float, guidance: float
    ) -> None:
        super().__init__(inputs, layers, activation, OPTIONS)
        self.bonus, self.guidance = bonus, guidance

    def advice(self, x: torch.Tensor) -> torch.Tensor:
        gaps = x[:, :OPTIONS]
        best = nn.functional.one_hot(gaps.argmin(dim=1), OPTIONS)
        return self.bonus * best - self.guidance * gaps


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
        towers = _Towers(self.features_dim, *self._towers)
        self.mlp_extractor = towers  # type: ignore[assignment] # same interface

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        super()._build(lr_schedule)
        put_head(self, Correction(self.mlp_extractor.latent_dim_vf, OPTIONS), lr_schedule(1))


class ResidualPPO(KeepsFinished, PPO):
    """PPO as `ServiceTrainer` runs it."""


def make_residual_agent(env: ServicePlannerVecEnv, settings: ServicePPOSettings, seed: int) -> ResidualPPO:
    """Make a learner whose decisions are the planner's; see `training.agent.make_learner`."""
    network = {
        "layers": settings.layers,
        "activation": ACTIVATIONS[settings.activation],
        "bonus": settings.bonus,
        "guidance": settings.guidance,
    }
    return make_learner(ResidualPPO, ResidualActorCritic, env, settings, seed, network)
