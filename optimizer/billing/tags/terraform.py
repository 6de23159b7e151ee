"""Gates a pull request: the resources of a Terraform plan must carry their tags."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.billing.tags.policy import MandatoryKey, TagPolicy
from simulator.errors import InputError

_APPLIED = frozenset({"create", "update"})
_TAG_FIELDS = ("tags", "tags_all", "labels", "terraform_labels", "effective_labels")
"""Where providers keep tags; later ones include the defaults of the provider block."""

UNKNOWN = object()
"""A value that is known only after the plan is applied: the key is there."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A planned resource without a valid tag."""

    address: str
    key: str
    problem: str


def check_plan(path: Path, policy: TagPolicy) -> tuple[int, tuple[Violation, ...]]:
    """Judge a plan written by `terraform show -json PLAN`.

    Resources that are created or updated are judged; what is destroyed, read or left alone is not. Default
    tags of the provider count, and so does a key whose value is known only after the apply.

    Returns:
        The number of resources judged, and what is wrong with them in the order of the plan.

    Raises:
        InputError: The file is no plan in JSON.
    """
    judged = 0
    violations: list[Violation] = []
    for change in _changes(path):
        kind = policy.kind_in_terraform(str(change.get("type")))
        keys = policy.keys_for(kind)
        plan = change.get("change") or {}
        if kind is None or not keys or not _APPLIED & set(plan.get("actions") or ()):
            continue
        judged += 1
        tags, whole = _tags(plan.get("after") or {}, plan.get("after_unknown") or {})
        address = str(change.get("address"))
        google = str(change.get("type")).startswith("google_")
        for rule in keys:
            problem = None if whole else _problem(rule, tags, lower=google)
            if problem:
                violations.append(Violation(address, rule.key, problem))
    return judged, tuple(violations)


def _problem(rule: MandatoryKey, tags: dict[str, Any], *, lower: bool) -> str | None:
    # Google's labels are lower case.
    key = rule.key.lower() if lower else rule.key
    value = tags.get(key)
    if value is UNKNOWN:
        return None
    if not value:
        near = next((k for k in tags if k != key and (k.lower() == key.lower() or k in rule.aliases)), None)
        return f"missing; it has {near!r}, wanted is {key!r}" if near else "missing"
    text = str(value)
    known = rule.accepts(text) or (lower and any(text == a.lower() for a in rule.allowed))
    return None if known else f"{text!r} is not {rule.wanted}"


def _changes(path: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    except ValueError as error:
        raise InputError(
            f"{path}: not JSON ({error}); accepted: terraform show -json PLAN > plan.json"
        ) from error
    changes = data.get("resource_changes") if isinstance(data, dict) else None
    if not isinstance(changes, list) or not all(isinstance(change, dict) for change in changes):
        raise InputError(f"{path}: no list resource_changes; accepted: terraform show -json PLAN > plan.json")
    return changes


def _tags(after: dict[str, Any], unknown: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the tags of a planned resource, and whether all of them are unknown until the apply."""
    found: dict[str, Any] = {}
    for field in _TAG_FIELDS:
        value = after.get(field)
        if isinstance(value, dict):
            found |= {str(k): v for k, v in value.items()}
        hidden = unknown.get(field)
        if isinstance(hidden, dict):
            found |= {str(k): UNKNOWN for k, v in hidden.items() if v is True}
    # Auto Scaling groups have blocks instead of a map.
    for block in after.get("tag") or ():
        if isinstance(block, dict) and block.get("key"):
            found[str(block["key"])] = block.get("value") or UNKNOWN
    return found, unknown.get("tags") is True or unknown.get("labels") is True
