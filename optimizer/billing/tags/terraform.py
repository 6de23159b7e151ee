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

_TEMPLATE = "aws_launch_template"
_ACCEPTED = "accepted: terraform show -json PLAN > plan.json"

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
    tags of the provider count, and so does a key whose value is known only after the apply. What launches
    instances is judged by the tags that reach them: the `tag_specifications` of a launch template, the
    propagated `tag` blocks of an Auto Scaling group.

    Returns:
        The number of resources judged, and what is wrong with them in the order of the plan.

    Raises:
        InputError: The file is no plan in JSON.
    """
    judged = 0
    violations: list[Violation] = []
    for change in _changes(path):
        kind = policy.kind_in_terraform(change.type)
        keys = policy.keys_for(kind)
        if kind is None or not keys or not _APPLIED & change.actions:
            continue
        judged += 1
        tags, whole = _tags(change)
        for rule in keys:
            problem = None if whole else _problem(rule, tags, lower=change.type.startswith("google_"))
            if problem:
                where = _where(change) if problem.startswith("missing") else ""
                violations.append(Violation(change.address, rule.key, problem + where))
    return judged, tuple(violations)


def _where(change: _Change) -> str:
    if change.type == _TEMPLATE:
        return (
            " in tag_specifications of resource_type instance; the template's own tags do not reach instances"
        )
    return " in tag blocks with propagate_at_launch" if change.after.get("tag") else ""


def _problem(rule: MandatoryKey, tags: dict[str, Any], *, lower: bool) -> str | None:
    # Google's labels are lower case.
    key = rule.key.lower() if lower else rule.key
    value = tags.get(key)
    if value is UNKNOWN:
        return None
    if value is None or not str(value).strip():
        near = next((k for k in tags if k != key and (k.lower() == key.lower() or k in rule.aliases)), None)
        return f"missing; it has {near!r}, wanted is {key!r}" if near else "missing"
    text = str(value)
    known = rule.accepts(text) or (lower and any(text == a.lower() for a in rule.allowed))
    return None if known else f"{text!r} is not {rule.wanted}"


@dataclass(frozen=True, slots=True)
class _Change:
    """What a plan does to one resource; `unknown` marks what is known only after the apply."""

    address: str
    type: str
    actions: frozenset[str]
    after: dict[str, Any]
    unknown: dict[str, Any]


def _changes(path: Path) -> list[_Change]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); {_ACCEPTED}") from error
    changes = data.get("resource_changes") if isinstance(data, dict) else None
    if not isinstance(changes, list):
        raise InputError(f"{path}: no list resource_changes; {_ACCEPTED}")
    return [_change(f"{path}: resource_changes[{place}]", item) for place, item in enumerate(changes)]


def _change(where: str, item: Any) -> _Change:
    """Return one entry of a plan; what does not say what it does must not pass the gate unseen."""
    if not isinstance(item, dict):
        raise InputError(f"{where}: not an object; {_ACCEPTED}")
    for name in ("address", "type"):
        if not isinstance(item.get(name), str) or not item[name]:
            raise InputError(f"{where}: no {name}; a malformed plan; {_ACCEPTED}")
    where = f"{where} ({item['address']})"
    change = item.get("change")
    if not isinstance(change, dict):
        raise InputError(f"{where}: no change; a malformed plan; {_ACCEPTED}")
    actions = change.get("actions")
    if not isinstance(actions, list) or not actions or not all(isinstance(a, str) for a in actions):
        raise InputError(f"{where}: no list change.actions; a malformed plan; {_ACCEPTED}")
    after, unknown = (change.get(name) or {} for name in ("after", "after_unknown"))
    if not isinstance(after, dict) or not (isinstance(unknown, dict) or unknown is True):
        raise InputError(f"{where}: change.after is no object; a malformed plan; {_ACCEPTED}")
    if unknown is True:
        # Nothing at all is known before the apply.
        unknown = dict.fromkeys(_TAG_FIELDS, True)
    return _Change(item["address"], item["type"], frozenset(actions), after, unknown)


def _tags(change: _Change) -> tuple[dict[str, Any], bool]:
    """Return the tags that instances or the resource will have, and whether all of them are unknown yet."""
    if change.type == _TEMPLATE:
        return _specified(change)
    found: dict[str, Any] = {}
    for field in _TAG_FIELDS:
        found |= _merged(change.after.get(field), change.unknown.get(field))
    # Auto Scaling groups have blocks instead of a map.
    blocks = change.after.get("tag")
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict) and block.get("key") and block.get("propagate_at_launch") is not False:
            found[str(block["key"])] = block.get("value") or UNKNOWN
    return found, any(change.unknown.get(name) is True for name in ("tags", "labels", "tag"))


def _specified(change: _Change) -> tuple[dict[str, Any], bool]:
    """Return the tags that a launch template gives to instances."""
    blocks, unknown = (there.get("tag_specifications") or [] for there in (change.after, change.unknown))
    if unknown is True:
        return {}, True
    found: dict[str, Any] = {}
    whole = False
    for place, block in enumerate(blocks):
        hidden = unknown[place] if place < len(unknown) and isinstance(unknown[place], dict) else {}
        if isinstance(block, dict) and block.get("resource_type") == "instance":
            found |= _merged(block.get("tags"), hidden.get("tags"))
            whole = whole or hidden.get("tags") is True
    return found, whole


def _merged(known: Any, unknown: Any) -> dict[str, Any]:
    found = {str(k): v for k, v in known.items()} if isinstance(known, dict) else {}
    if isinstance(unknown, dict):
        found |= {str(k): UNKNOWN for k, v in unknown.items() if v is True}
    return found
