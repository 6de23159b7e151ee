"""Settings of a training run for services; `configs/service.yaml` is an example."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from envs.service_episodes import ServiceRange
from simulator.errors import InputError
from training.config import Bounds, HeldOutSettings, Name, PPOSettings, RunSettings, Settings, Share
from training.configuration import read_configuration


class EpisodeSettings(Settings):
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


class ServiceMarketSettings(Settings):
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


class ServiceEvaluationSettings(HeldOutSettings):
    """Evaluation always on the same episodes."""

    every_steps: int = Field(default=250_000, ge=1)
    episodes: int = Field(default=128, ge=2)


class ServiceTrainingConfig(RunSettings):
    """All settings of one training run for services."""

    name: Name = "service-residual"
    planner: str = "service-champion"
    """Name or bundle of the look-ahead planner that the network corrects."""
    episodes: EpisodeSettings = EpisodeSettings()
    markets: ServiceMarketSettings = ServiceMarketSettings()
    ppo: ServicePPOSettings = ServicePPOSettings()
    evaluation: ServiceEvaluationSettings = ServiceEvaluationSettings()


def load_service_config(path: Path) -> ServiceTrainingConfig:
    """Read a training configuration; `SPOTWISE_TRAIN__PPO__TOTAL_STEPS=100000` and the like override it.

    Raises:
        InputError: The message names file, line and field.
    """
    return read_configuration(path, ServiceTrainingConfig, prefix="SPOTWISE_TRAIN")
