"""What `deploy/iam-policy.json` allows, held against every call that a controller makes in these tests."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from optimizer.fake_aws import FakeAws

POLICY = Path(__file__).resolve().parents[3] / "deploy/iam-policy.json"
IMPLIED = {
    "ec2:CreateTags": "RunInstances and CreateFleet with TagSpecifications",
    "iam:PassRole": "RunInstances from a launch template with an instance profile",
}
"""Actions that AWS asks for although no call has their name."""
BATCHES = {"DeleteMessageBatch": "DeleteMessage"}
"""Calls that are allowed under another name."""
USED: set[str] = set()
"""Actions that controllers have used in this process."""


@cache
def allowed() -> frozenset[str]:
    """Every action that the policy allows."""
    found: set[str] = set()
    for statement in json.loads(POLICY.read_text(encoding="utf-8"))["Statement"]:
        assert statement["Effect"] == "Allow"
        actions = statement["Action"]
        found |= {actions} if isinstance(actions, str) else set(actions)
    return frozenset(found)


def check(model: Any, **_: Any) -> None:
    """Before a call leaves: the policy must allow it."""
    action = f"{model.service_model.service_name}:{BATCHES.get(model.name, model.name)}"
    USED.add(action)
    assert action in allowed(), f"{POLICY.name} does not allow {action}"


def watched(client: Any) -> Any:
    """A client whose calls are checked."""
    client.meta.events.register("before-call", check, unique_id="permissions")
    return client


def controller_client(fake: FakeAws, service: str, region: str) -> Any:
    """A controller's client of a fake AWS: its calls are checked, those of tests beside it are not."""
    return watched(fake.client(service, region, access_key="controller"))
