"""The search space: which fields of a training configuration are searched, and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from simulator.errors import InputError
from training.config import TrainingConfig
from training.configuration import read_configuration

if TYPE_CHECKING:
    import optuna

Value = float | int | str
"""A drawn value: a number, or a choice as JSON text, which is what a study file can hold."""

NOT_SEARCHED = ("name", "jobs", "evaluation", "tracking", "checkpoint_every_rollouts", "ppo.total_steps")
"""They name a run, set its budget, or say what it is judged on: scores would no longer be comparable."""


def _searchable(model: type[BaseModel], prefix: str = "") -> tuple[str, ...]:
    names: list[str] = []
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        if path in NOT_SEARCHED:
            continue
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if isinstance(each, type)]
        nested = next((each for each in inner if issubclass(each, BaseModel)), None)
        names += _searchable(nested, f"{path}.") if nested else [path]
    return tuple(names)


SEARCHABLE = _searchable(TrainingConfig)
"""Fields that may be searched, as `outer.inner`."""


def _known(path: str) -> str:
    if path not in SEARCHABLE:
        raise ValueError(f"no field that can be searched; accepted: {', '.join(SEARCHABLE)}")
    return path


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


WAYS = ("uniform", "log_uniform", "int", "categorical")


class Parameter(_Settings):
    """How one field is drawn; exactly one of the four.

    Attributes:
        uniform: [lowest, highest], a real number.
        log_uniform: [lowest, highest], a real number whose logarithm is uniform.
        whole: [lowest, highest], a whole number, both ends included; `int` in YAML.
        categorical: A list of values of any kind.
    """

    uniform: tuple[float, float] | None = None
    log_uniform: tuple[float, float] | None = None
    whole: tuple[int, int] | None = Field(default=None, alias="int")
    categorical: tuple[Any, ...] | None = Field(default=None, min_length=1, max_length=100)

    @model_validator(mode="after")
    def _check(self) -> Parameter:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"{len(given)} ways to draw it; accepted: one of {', '.join(WAYS)}")
        ends = self.uniform or self.log_uniform or self.whole
        if ends and ends[0] > ends[1]:
            raise ValueError(f"{list(ends)}; accepted: [lowest, highest]")
        if self.log_uniform and self.log_uniform[0] <= 0.0:
            raise ValueError(f"log_uniform from {self.log_uniform[0]}; accepted: more than 0")
        if self.categorical:
            try:
                texts = [_as_text(choice) for choice in self.categorical]
            except (TypeError, ValueError) as error:
                raise ValueError("a choice is neither number, text, truth value, list nor mapping") from error
            if len(set(texts)) != len(texts):
                raise ValueError("a choice is given twice")
        return self

    def draw(self, name: str, trial: optuna.Trial) -> Value:
        """Let a trial propose a value."""
        if self.uniform:
            return trial.suggest_float(name, *self.uniform)
        if self.log_uniform:
            return trial.suggest_float(name, *self.log_uniform, log=True)
        if self.whole:
            return trial.suggest_int(name, *self.whole)
        return str(trial.suggest_categorical(name, [_as_text(choice) for choice in self.categorical or ()]))

    def extremes(self) -> tuple[Value, ...]:
        """Both ends, or every choice."""
        return self.uniform or self.log_uniform or self.whole or tuple(map(_as_text, self.categorical or ()))

    def value_of(self, setting: Any) -> Value | None:
        """A setting as a value that could have been drawn; None if it lies outside."""
        if self.categorical is not None:
            texts = [_as_text(choice) for choice in self.categorical]
            return _as_text(setting) if _as_text(setting) in texts else None
        ends = self.uniform or self.log_uniform or self.whole
        known = isinstance(setting, int | float) and not isinstance(setting, bool)
        if not known or ends is None or not ends[0] <= setting <= ends[1]:
            return None
        return int(setting) if self.whole else float(setting)

    def setting(self, value: Value) -> Any:
        """What goes into the configuration for a drawn value."""
        return json.loads(str(value)) if self.categorical is not None else value


class SearchSpace(_Settings):
    """Settings of a search; `configs/tune.yaml` is an example.

    Attributes:
        trials: Trials of the whole study.
        steps: Environment steps of each trial.
        evaluations: Times each trial is scored on its way; after each it may be pruned.
        startup_trials: Trials that are drawn at random and never pruned.
        parameters: Fields of the training configuration, as `ppo.learning_rate`, and how they are drawn.
    """

    trials: int = Field(default=30, ge=1, le=100_000)
    steps: int = Field(default=500_000, ge=1)
    evaluations: int = Field(default=5, ge=1, le=1000)
    startup_trials: int = Field(default=5, ge=1)
    parameters: dict[Annotated[str, AfterValidator(_known)], Parameter] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> SearchSpace:
        if self.evaluations > self.steps:
            raise ValueError(f"{self.evaluations} evaluations in {self.steps} steps; accepted: fewer")
        return self

    def configure(self, base: TrainingConfig, values: dict[str, Value]) -> TrainingConfig:
        """The training configuration with drawn values in place of its own.

        Raises:
            InputError: The configuration does not accept them.
        """
        return replaced(base, {path: self.parameters[path].setting(v) for path, v in values.items()})

    def check(self, base: TrainingConfig, where: str) -> None:
        """Refuse a space whose ends or choices the configuration does not accept.

        Raises:
            InputError: The message names file, field and value.
        """
        for path, parameter in self.parameters.items():
            for value in parameter.extremes():
                try:
                    self.configure(base, {path: value})
                except InputError as error:
                    raise InputError(f"{where}, field parameters.{path}: {error}") from error

    def of_base(self, base: TrainingConfig) -> dict[str, Value] | None:
        """The base configuration as a point of the space; None if it lies outside."""
        settings = base.model_dump(mode="json")
        values: dict[str, Value] = {}
        for path, parameter in self.parameters.items():
            place: Any = settings
            for part in path.split("."):
                place = place[part]
            value = parameter.value_of(place)
            if value is None:
                return None
            values[path] = value
        return values


def replaced(base: TrainingConfig, settings: dict[str, Any]) -> TrainingConfig:
    """A configuration with some fields, given as `outer.inner`, replaced.

    Raises:
        InputError: A value is not accepted.
    """
    content = base.model_dump(mode="json")
    for path, setting in settings.items():
        *outer, last = path.split(".")
        place = content
        for part in outer:
            place = place[part]
        place[last] = setting
    try:
        return TrainingConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{field} = {first['input']!r}: {first['msg']}") from error


def _as_text(choice: Any) -> str:
    return json.dumps(choice, allow_nan=False)


def load_space(path: Path) -> SearchSpace:
    """Read a search space; `SPOTWISE_TUNE__TRIALS=10` and the like override it.

    Raises:
        InputError: The message names file, line and field.
    """
    return read_configuration(path, SearchSpace, prefix="SPOTWISE_TUNE")
