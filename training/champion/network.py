"""The champion's network in stable-baselines3: a correction to the planner's costs."""

from __future__ import annotations

import torch
from torch import nn

from policies.guided import ADVICE_NAMES, COST_GAPS
from training.advised import AdvisedActorCritic, AdvisedTowers, Correction

WIDTH = 64


class _Towers(AdvisedTowers):
    """Two hidden layers of one width; the advice is among the observations."""

    def __init__(self, inputs: int, width: int, guidance: float) -> None:
        super().__init__(inputs, (width, width), nn.Tanh, COST_GAPS)
        self.guidance = guidance

    def advice(self, x: torch.Tensor) -> torch.Tensor:
        first = x.shape[1] - len(ADVICE_NAMES)
        return -self.guidance * x[:, first : first + COST_GAPS]


class GuidedActorCritic(AdvisedActorCritic):
    """The champion's actor and critic."""

    usual_width = WIDTH

    def _towers(self) -> nn.Module:
        return _Towers(self.features_dim, self._width, self._guidance)

    def _head(self) -> nn.Module:
        return Correction(self._width, COST_GAPS)
