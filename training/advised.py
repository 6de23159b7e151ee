"""Networks that begin as a planner: its advice and a correction whose last layer starts at zero."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from training.agent import Arrays, dense_arrays

GUIDANCE = 5.0
"""Logits start as -GUIDANCE x (expected cost above the cheapest legal choice, on-demand ticks)."""


class AdvisedTowers(nn.Module, ABC):
    """Separate actor and critic of dense layers; the actor's output carries the advice beside it."""

    def __init__(self, inputs: int, layers: Sequence[int], activation: type[nn.Module], choices: int) -> None:
        """Towers of `layers` on `inputs` numbers, for advice on so many `choices`."""
        super().__init__()
        self.actor = _tower(inputs, layers, activation)
        self.critic = _tower(inputs, layers, activation)
        self.latent_dim_vf = layers[-1] if layers else inputs
        self.latent_dim_pi = self.latent_dim_vf + choices

    @abstractmethod
    def advice(self, x: torch.Tensor) -> torch.Tensor:
        """(N, choices) logits to begin with, of observations (N, inputs)."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What stable-baselines3 asks for: actor and critic of observations (N, inputs)."""
        return self.forward_actor(x), self.forward_critic(x)

    def forward_actor(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width + choices) last hidden layer, then the advice; `Correction` adds them up."""
        return torch.cat([self.actor(x), self.advice(x)], dim=1)

    def forward_critic(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width) what the value is computed from."""
        critic: torch.Tensor = self.critic(x)
        return critic


class Correction(nn.Module):
    """Logits = advice + a linear map of the last hidden layer that starts at zero: at first, the planner."""

    def __init__(self, width: int, choices: int) -> None:
        """For a hidden layer of `width` and advice on so many `choices`."""
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width, choices)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, choices) of what `AdvisedTowers.forward_actor` returns."""
        correction: torch.Tensor = self.linear(x[:, : self.width])
        return correction + x[:, self.width :]


class AdvisedActorCritic(MaskableActorCriticPolicy, ABC):
    """Actor-critic whose actor starts as a soft version of the planner."""

    usual_width: ClassVar[int]

    def __init__(
        self, *arguments: Any, width: int | None = None, guidance: float = GUIDANCE, **settings: Any
    ) -> None:
        """As its base, with the width of the hidden layers and the weight of the planner's costs."""
        self._width, self._guidance = width or self.usual_width, guidance
        super().__init__(*arguments, **settings)

    @abstractmethod
    def _towers(self) -> nn.Module:
        """Actor and critic."""

    @abstractmethod
    def _head(self) -> nn.Module:
        """From the actor's output to logits; the correction is made to begin at zero."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = self._towers()  # type: ignore[assignment] # same interface

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        super()._build(lr_schedule)
        put_head(self, self._head(), lr_schedule(1))


def put_head(policy: ActorCriticPolicy | MaskableActorCriticPolicy, head: nn.Module, rate: float) -> None:
    """Give a policy its map from the actor's output to logits, and an optimizer that knows it."""
    policy.action_net = head
    settings = {"lr": rate, **policy.optimizer_kwargs}
    policy.optimizer = policy.optimizer_class(policy.parameters(), **settings)


def correction_arrays(weights: Mapping[str, NDArray[np.float32]]) -> Arrays:
    """The correction among the weights of `AdvisedTowers` and `Correction`, named as in a policy bundle."""
    return dense_arrays(weights, "mlp_extractor.actor", "action_net.linear")


def _tower(inputs: int, layers: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    widths = [inputs, *layers]
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after), activation()]
    return nn.Sequential(*parts)
