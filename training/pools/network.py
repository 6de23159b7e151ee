"""The network over pools in stable-baselines3; the same computation as `policies.guided.pools.network`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from policies.guided.pools import GAP, JOB_NAMES, POOL_NAMES
from policies.guided.pools.network import LAYERS
from training.advised import AdvisedActorCritic
from training.agent import Arrays

WIDTH = 32


class _Encoder(nn.Module):
    """Encodings of pools and the context, the same weights for each pool."""

    def __init__(self, width: int) -> None:
        super().__init__()
        job, pool = len(JOB_NAMES), len(POOL_NAMES)
        self.encode = nn.Sequential(
            nn.Linear(job + pool, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.context = nn.Linear(2 * width + job, width)

    def forward(self, job: torch.Tensor, pool: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        beside = job[:, None].expand(-1, pool.shape[1], -1)
        encoded = self.encode(torch.cat([beside, pool], dim=2))
        summary = torch.cat([encoded.mean(dim=1), encoded.amax(dim=1), job], dim=1)
        return encoded, torch.tanh(self.context(summary))


class _Actor(nn.Module):
    """Logits of idle, on-demand and each pool: the planner's costs and a correction that starts at 0."""

    def __init__(self, width: int, guidance: float) -> None:
        super().__init__()
        self.guidance = guidance
        self.encoder = _Encoder(width)
        self.choice = nn.Linear(2 * width, width)
        self.choose = nn.Linear(width, 1)
        self.rest = nn.Linear(width, 2)

    @property
    def last(self) -> tuple[nn.Linear, nn.Linear]:
        """The layers that begin at 0."""
        return self.choose, self.rest

    def forward(self, job: torch.Tensor, pool: torch.Tensor) -> torch.Tensor:
        encoded, context = self.encoder(job, pool)
        beside = context[:, None].expand(-1, pool.shape[1], -1)
        choice = torch.tanh(self.choice(torch.cat([encoded, beside], dim=2)))
        correction = torch.cat([self.rest(context), self.choose(choice)[:, :, 0]], dim=1)
        return correction - self.guidance * torch.cat([job[:, :2], pool[:, :, GAP]], dim=1)


class Towers(nn.Module):
    """Separate actor and critic on one flat observation of any number of pools."""

    def __init__(self, inputs: int, width: int, guidance: float) -> None:
        super().__init__()
        self.latent_dim_pi = (inputs - len(JOB_NAMES)) // len(POOL_NAMES) + 2
        self.latent_dim_vf = width
        self.actor = _Actor(width, guidance)
        self.critic = _Encoder(width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What stable-baselines3 asks for: actor and critic of observations (N, inputs)."""
        return self.forward_actor(x), self.forward_critic(x)

    def forward_actor(self, x: torch.Tensor) -> torch.Tensor:
        """(N, pools + 2) logits."""
        logits: torch.Tensor = self.actor(*_parts(x))
        return logits

    def forward_critic(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width) what the value is computed from."""
        context: torch.Tensor = self.critic(*_parts(x))[1]
        return context


def _parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    job = len(JOB_NAMES)
    return x[:, :job], x[:, job:].reshape(len(x), -1, len(POOL_NAMES))


class PoolsActorCritic(AdvisedActorCritic):
    """Actor and critic over pools."""

    usual_width = WIDTH

    def _towers(self) -> nn.Module:
        return Towers(self.features_dim, self._width, self._guidance)

    def _head(self) -> nn.Module:
        for layer in cast(Towers, self.mlp_extractor).actor.last:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        return nn.Identity()


def member_arrays(weights: Mapping[str, NDArray[np.float32]]) -> Arrays:
    """The actor among all weights, named as in a policy bundle."""
    modules = ("encoder.encode.0", "encoder.encode.2", "encoder.context", "choice", "choose", "rest")
    return {
        f"{layer}.{part}": weights[f"mlp_extractor.actor.{module}.{part}"]
        for layer, module in zip(LAYERS, modules, strict=True)
        for part in ("weight", "bias")
    }
