"""The tag policy file and what it says about one resource."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from simulator.errors import InputError

Status = Literal["valid", "inferred", "invalid", "missing"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _compiled(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return text


class Kind(_Strict):
    """How one kind of resource is called."""

    ledger: tuple[str, ...] = ()
    terraform: tuple[str, ...] = ()

    @field_validator("ledger")
    @classmethod
    def _check(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_compiled(pattern) for pattern in patterns)


class MandatoryKey(_Strict):
    """A key that resources must carry."""

    key: str = Field(min_length=1)
    kinds: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    pattern: str | None = None
    aliases: tuple[str, ...] = ()

    @field_validator("pattern")
    @classmethod
    def _check(cls, pattern: str | None) -> str | None:
        return None if pattern is None else _compiled(pattern)

    def accepts(self, value: str) -> bool:
        """Return whether `value` is what the policy allows."""
        if self.allowed and value not in self.allowed:
            return False
        return self.pattern is None or re.fullmatch(self.pattern, value) is not None

    @property
    def wanted(self) -> str:
        """What is accepted, in words."""
        if self.allowed:
            return "one of " + ", ".join(self.allowed)
        return f"a text like {self.pattern}" if self.pattern else "any text"


class Inference(_Strict):
    """How an absent key follows from something else."""

    key: str = Field(min_length=1)
    source: str = Field(alias="from", pattern=r"^(account|account-name|name|tag:.+)$")
    values: dict[str, str] = Field(default_factory=dict)
    pattern: str | None = None

    @field_validator("pattern")
    @classmethod
    def _check(cls, pattern: str | None) -> str | None:
        return None if pattern is None else _compiled(pattern)

    def apply(self, text: str) -> str | None:
        """Return the value that follows from `text`, or None."""
        if self.values:
            return self.values.get(text)
        if self.pattern is None:
            return text
        match = re.fullmatch(self.pattern, text)
        if match is None:
            return None
        return match.group(1) if match.groups() else match.group(0)


class TagPolicy(_Strict):
    """The whole policy."""

    version: Literal[1]
    kinds: dict[str, Kind] = Field(default_factory=dict)
    mandatory: tuple[MandatoryKey, ...] = Field(min_length=1)
    inferred: tuple[Inference, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for rule in self.mandatory:
            unknown = sorted(set(rule.kinds) - set(self.kinds))
            if unknown:
                raise ValueError(f"mandatory key {rule.key}: no kind {', '.join(unknown)} under kinds")
        return self

    def kind_in_ledger(self, resource_type: str | None) -> str | None:
        """Return the kind of a ResourceType of the ledger, or None."""
        for name, kind in self.kinds.items():
            if resource_type and any(re.fullmatch(p, resource_type, re.IGNORECASE) for p in kind.ledger):
                return name
        return None

    def kind_in_terraform(self, resource_type: str) -> str | None:
        """Return the kind of a Terraform resource type, or None."""
        return next((name for name, kind in self.kinds.items() if resource_type in kind.terraform), None)

    def keys_for(self, kind: str | None) -> tuple[MandatoryKey, ...]:
        """Return the keys that a resource of `kind` must carry."""
        return tuple(rule for rule in self.mandatory if not rule.kinds or kind in rule.kinds)


@dataclass(frozen=True, slots=True)
class Resource:
    """What inference may look at."""

    tags: Mapping[str, str]
    account: str | None = None
    account_name: str | None = None
    name: str | None = None

    def text(self, source: str) -> str | None:
        """Return what a rule's `from` points to, or None."""
        if source.startswith("tag:"):
            return self.tags.get(source[4:]) or None
        return {"account": self.account, "account-name": self.account_name, "name": self.name}[source]


def judge(policy: TagPolicy, rule: MandatoryKey, resource: Resource) -> tuple[Status, str | None]:
    """Return how a resource stands with a key, and the value it has or seems to have."""
    value = resource.tags.get(rule.key)
    # A blank value is none, whatever the policy has as pattern.
    if value and value.strip():
        return ("valid" if rule.accepts(value) else "invalid"), value
    for alias in rule.aliases:
        other = resource.tags.get(alias)
        if other and other.strip() and rule.accepts(other):
            return "inferred", other
    for inference in policy.inferred:
        text = resource.text(inference.source) if inference.key == rule.key else None
        followed = inference.apply(text) if text else None
        if followed and followed.strip() and rule.accepts(followed):
            return "inferred", followed
    return "missing", None


def load_policy(path: Path) -> TagPolicy:
    """Read a policy file.

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
        return TagPolicy.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise InputError(f"{path}: {where}: {first['msg']}") from error
