"""The allocation rules file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from simulator.errors import InputError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bucket(_Strict):
    """Where waste goes, and the team that can act on it."""

    bucket: str = Field(min_length=1)
    team: str = Field(min_length=1)


class _Rule(_Strict):
    name: str = Field(min_length=1)


class _Selecting(_Rule):
    select: dict[str, str] = Field(min_length=1)


class Kubernetes(_Rule):
    """Node cost by what pods asked for or used, whichever is more.

    `allocation` is what OpenCost's allocation API returned (JSON) or a CSV of it; `nodes` a CSV with the
    columns node, provider_id, cores, memory_gib. `by` is namespace, pod, controller or label:KEY. The weights
    split a node's cost between CPU and memory; they are OpenCost's default prices per core-hour and GiB-hour.
    """

    method: Literal["kubernetes"]
    allocation: str
    nodes: str
    by: str = Field(default="namespace", pattern=r"^(namespace|pod|controller|label:.+)$")
    idle: Bucket
    core_hour_weight: float = Field(default=0.031611, gt=0)
    gib_hour_weight: float = Field(default=0.004237, gt=0)


class Proportional(_Selecting):
    """By a measure per tenant from a CSV: `tenant`, the column `value`, perhaps `start` and `end` (UTC)."""

    method: Literal["proportional"]
    usage: str
    value: str = Field(min_length=1)


class Even(_Selecting):
    """The same for everyone."""

    method: Literal["even"]
    targets: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.targets)) < len(self.targets):
            raise ValueError("a target is there twice")
        return self


class Fixed(_Selecting):
    """By agreed shares, which sum to 1."""

    method: Literal["fixed"]
    shares: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = math.fsum(self.shares.values())
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares sum to {total:g}, not to 1")
        return self


class Waste(_Selecting):
    """Cost that serves nobody, such as unused commitments or unattached volumes, to the team that can act.

    `select` knows, beside the dimensions of `ledger query`, `commitment-status`; `resources` limits it to a
    list.
    """

    method: Literal["waste"]
    bucket: str = Field(min_length=1)
    team: str = Field(min_length=1)
    resources: tuple[str, ...] = ()


Rule = Annotated[Kubernetes | Proportional | Even | Fixed | Waste, Field(discriminator="method")]


class AllocationRules(_Strict):
    """All rules in order; a row goes to the first that selects it. Paths are relative to the file."""

    version: Literal[1]
    rules: tuple[Rule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [rule.name for rule in self.rules]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"rule {name} is there twice")
        return self


def load_rules(path: Path) -> AllocationRules:
    """Read a rules file.

    Raises:
        InputError: It is absent or wrong; the message names the field.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from error
    try:
        return AllocationRules.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise InputError(f"{path}: {where}: {first['msg']}") from error
