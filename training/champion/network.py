"""The champion's network in stable-baselines3: a correction to the planner's costs; weight averaging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from policies.guided import ADVICE_NAMES, COST_GAPS
from policies.learned import network_arrays

GUIDANCE = 5.0
"""Logits start as -GUIDANCE x (expected cost above the cheapest legal choice, on-demand ticks)."""
WIDTH = 64


class _TwoTowers(nn.Module):
    """Separate actor and critic; the actor's output carries the guidance beside it."""

    def __init__(self, inputs: int, width: int, guidance: float) -> None:
        super().__init__()
        self.guidance = guidance
        self.latent_dim_pi = width + COST_GAPS
        self.latent_dim_vf = width
        self.actor = _tower(inputs, width)
        self.critic = _tower(inputs, width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.forward_actor(x), self.forward_critic(x)

    def forward_actor(self, x: torch.Tensor) -> torch.Tensor:
        first = x.shape[1] - len(ADVICE_NAMES)
        return torch.cat([self.actor(x), -self.guidance * x[:, first : first + COST_GAPS]], dim=1)

    def forward_critic(self, x: torch.Tensor) -> torch.Tensor:
        critic: torch.Tensor = self.critic(x)
        return critic


class _Correction(nn.Module):
    """Logits = guidance + a linear map of the hidden layer that starts at zero: at first, the planner."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width, COST_GAPS)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        correction: torch.Tensor = self.linear(x[:, : self.width])
        return correction + x[:, self.width :]


class GuidedActorCritic(MaskableActorCriticPolicy):
    """Actor-critic whose actor starts as a soft version of the planner."""

    def __init__(
        self, *arguments: Any, width: int = WIDTH, guidance: float = GUIDANCE, **settings: Any
    ) -> None:
        """As its base, with the width of the hidden layers and the weight of the planner's costs."""
        self._width, self._guidance = width, guidance
        super().__init__(*arguments, **settings)

    def _build_mlp_extractor(self) -> None:
        towers = _TwoTowers(self.features_dim, self._width, self._guidance)
        self.mlp_extractor = towers  # type: ignore[assignment] # same interface

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        super()._build(lr_schedule)
        self.action_net = _Correction(self._width)
        settings = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.parameters(), **settings)


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


def correction_arrays(weights: dict[str, torch.Tensor]) -> dict[str, NDArray[np.float32]]:
    """The correction network among all weights, named as in a policy bundle."""
    names = ("mlp_extractor.actor.0", "mlp_extractor.actor.2", "action_net.linear")
    return network_arrays(
        [(weights[f"{name}.weight"].numpy(), weights[f"{name}.bias"].numpy()) for name in names]
    )


def _tower(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
