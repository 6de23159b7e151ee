"""Settings of a training run: one readable model, `configs/deadline.yaml` is an example."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from envs.jobs import JobDistribution, JobRange
from policies.features import FEATURE_SETS
from simulator.deadline import DeadlineJob
from simulator.errors import InputError
from training.configuration import read_configuration

POOL_FEATURES = "deadline-pools"
"""Instead of a feature set: jobs use all pools of a market, decided by the network over pools."""


def _pair(value: Any) -> Any:
    return [value, value] if isinstance(value, int | float) and not isinstance(value, bool) else value


Bounds = Annotated[tuple[float, float], BeforeValidator(_pair)]
"""A number, or [lowest, highest]."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Settings(BaseModel):
    """Unknown fields are refused, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class JobSettings(Settings):
    """One kind of job that is trained on; see `envs.jobs.JobRange`."""

    weight: float = Field(default=1.0, gt=0.0)
    work_hours: Bounds = (48.0, 48.0)
    deadline_ratio: Bounds = (52.0 / 48.0, 52.0 / 48.0)
    restart_overhead_minutes: Bounds = (12.0, 12.0)
    price_ratio: Bounds | None = None
    checkpoint_interval_minutes: Bounds = (0.0, 0.0)
    nodes: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _check(self) -> JobSettings:
        try:
            self.ranges()
        except InputError as error:
            raise ValueError(str(error)) from error
        return self

    def ranges(self) -> JobRange:
        """As the environments take it."""
        return JobRange(**self.model_dump())


class MarketSettings(Settings):
    """How the markets are turned into series; see `envs.series.EpisodeMarkets`."""

    tick_seconds: int | None = Field(default=None, gt=0)
    phases: int = Field(default=1, ge=1, le=64)
    reversed_share: Share = 0.0


class PPOSettings(Settings):
    """Maskable PPO. Learning rate and entropy bonus fall linearly to 0 over the run."""

    total_steps: int = Field(default=3_000_000, ge=1)
    environments: int = Field(default=1024, ge=1)
    rollout_steps: int = Field(default=64, ge=2)
    batch_size: int = Field(default=8192, ge=2)
    epochs: int = Field(default=3, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    entropy: float = Field(default=0.003, ge=0.0)
    gamma: float = Field(default=1.0, gt=0.0, le=1.0)
    gae_lambda: float = Field(default=0.95, ge=0.0, le=1.0)
    clip_range: float = Field(default=0.2, gt=0.0)
    value_weight: float = Field(default=0.5, ge=0.0)
    max_gradient: float = Field(default=0.5, gt=0.0)
    layers: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"
    averaging: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Weight that past networks keep in the average at each rollout; 0 takes the network as it is."""


class EvaluationJob(Settings):
    """A job that is evaluated on every held-out window."""

    work_hours: float = Field(default=48.0, gt=0.0)
    deadline_hours: float = Field(default=52.0, gt=0.0)
    restart_overhead_minutes: float = Field(default=12.0, ge=0.0)

    @model_validator(mode="after")
    def _check(self) -> EvaluationJob:
        try:
            self.job()
        except InputError as error:
            raise ValueError(str(error)) from error
        return self

    def job(self) -> DeadlineJob:
        """As the simulator takes it."""
        return DeadlineJob(
            self.work_hours * 3600.0, self.deadline_hours * 3600.0, self.restart_overhead_minutes * 60.0
        )


class HeldOutSettings(Settings):
    """Evaluation during training on what is not trained on, and what it decides."""

    holdout_share: float = Field(default=0.25, gt=0.0, lt=1.0)
    """Share of every market, its end, that is held out; ignored when evaluation markets are given."""
    every_steps: int = Field(default=500_000, ge=1)
    select: Literal["best", "last"] = "best"
    """Which network becomes the result: the one with the best score, or the last."""


class EvaluationSettings(HeldOutSettings):
    """Evaluation on windows."""

    stride_hours: float = Field(default=24.0, gt=0.0)
    jobs: tuple[EvaluationJob, ...] = Field(default=(EvaluationJob(),), min_length=1)
    patience: int | None = Field(default=None, ge=1)
    """Evaluations without a better score after which training stops; none = never."""


class TrackingSettings(Settings):
    """Where runs are noted in MLflow."""

    experiment: str = Field(default="spotwise", min_length=1)
    registered_model: str | None = None
    """Name in the model registry; none = the name of the policy."""


class RunSettings(Settings):
    """What runs of every workload are told."""

    name: Name
    ppo: PPOSettings
    evaluation: HeldOutSettings
    checkpoint_every_rollouts: int = Field(default=10, ge=1)
    tracking: TrackingSettings = TrackingSettings()


class TrainingConfig(RunSettings):
    """All settings of one training run for jobs."""

    name: Name = "deadline"
    features: str = "deadline-rich"
    jobs: tuple[JobSettings, ...] = Field(default=(JobSettings(),), min_length=1)
    markets: MarketSettings = MarketSettings()
    miss_penalty: float = Field(default=2.0, ge=0.0)
    ppo: PPOSettings = PPOSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        accepted = (*FEATURE_SETS, POOL_FEATURES)
        if self.features not in accepted:
            raise ValueError(f"no feature set {self.features}; accepted: {', '.join(accepted)}")
        return self

    def distribution(self) -> JobDistribution:
        """The jobs that are trained on."""
        return JobDistribution([job.ranges() for job in self.jobs])


def load_config(path: Path) -> TrainingConfig:
    """Read a training configuration; `SPOTWISE_TRAIN__PPO__TOTAL_STEPS=100000` and the like override it.

    Raises:
        InputError: The message names file, line and field.
    """
    return read_configuration(path, TrainingConfig, prefix="SPOTWISE_TRAIN")
