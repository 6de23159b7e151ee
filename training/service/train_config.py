"""Settings of a training run for services; `configs/service.yaml` is an example."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from envs.service_episodes import ServiceRange
from simulator.errors import InputError
from training.config import Bounds, PPOSettings, Share, TrackingSettings
from training.configuration import read_configuration


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EpisodeSettings(_Settings):
    """Services that are trained on: numbers or [lowest, highest]; see `envs.service_episodes`."""

    ticks: int = Field(default=2880, ge=1)
    demand: Bounds = (1.0, 10.0)
    swing: Bounds = (0.0, 0.5)
    cold_start_ticks: Bounds = (1.0, 10.0)
    on_demand_ratio: Bounds | None = (2.0, 5.0)
    weight: Bounds = (3.0, 3000.0)

    @model_validator(mode="after")
    def _check(self) -> EpisodeSettings:
        try:
            self.services()
        except InputError as error:
            raise ValueError(str(error)) from error
        return self

    def services(self) -> ServiceRange:
        """As the environments take it."""
        return ServiceRange(**self.model_dump())


class ServiceMarketSettings(_Settings):
    """How the markets are turned into series; see `envs.service_series.service_markets`."""

    variants: int = Field(default=4, ge=1, le=64)
    reversed_share: Share = 0.0


class ServicePPOSettings(PPOSettings):
    """PPO, a step being one review period of the planner. Learning rate and entropy fall to 0 over the run.

    `bonus` and `guidance`: see `policies.service.residual.Advice`. A `gamma` of 0.98 looks some hours ahead.
    """

    total_steps: int = Field(default=1_000_000, ge=1)
    environments: int = Field(default=256, ge=1)
    batch_size: int = Field(default=2048, ge=2)
    epochs: int = Field(default=4, ge=1)
    entropy: float = Field(default=0.0, ge=0.0)
    gamma: float = Field(default=0.98, gt=0.0, le=1.0)
    bonus: float = Field(default=2.0, ge=0.0, le=1e6)
    guidance: float = Field(default=8.0, ge=0.0, le=1e6)


class ServiceEvaluationSettings(_Settings):
    """Evaluation during training on what is not trained on, always on the same episodes."""

    holdout_share: float = Field(default=0.25, gt=0.0, lt=1.0)
    """Share of every market, its end, that is held out; ignored when evaluation markets are given."""
    every_steps: int = Field(default=250_000, ge=1)
    episodes: int = Field(default=128, ge=2)
    select: Literal["best", "last"] = "best"
    """Which network becomes the result: the one with the best score, or the last."""


class ServiceTrainingConfig(_Settings):
    """All settings of one training run."""

    name: str = Field(default="service-residual", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    planner: str = "service-champion"
    """Name or bundle of the look-ahead planner that the network corrects."""
    episodes: EpisodeSettings = EpisodeSettings()
    markets: ServiceMarketSettings = ServiceMarketSettings()
    ppo: ServicePPOSettings = ServicePPOSettings()
    evaluation: ServiceEvaluationSettings = ServiceEvaluationSettings()
    checkpoint_every_rollouts: int = Field(default=10, ge=1)
    tracking: TrackingSettings = TrackingSettings()


def load_service_config(path: Path) -> ServiceTrainingConfig:
    """Read a training configuration; `SPOTWISE_TRAIN__PPO__TOTAL_STEPS=100000` and the like override it.

    Raises:
        InputError: The message names file, line and field.
    """
    return read_configuration(path, ServiceTrainingConfig, prefix="SPOTWISE_TRAIN")
