"""The policy under `deploy/` is enough, and not more than that.

That it is enough is checked at every call of every test that uses `scene.on_fake`: see `permissions.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from optimizer.controller.lease import DynamoLease
from optimizer.fake_aws import FakeAws
from tests.optimizer.controller.permissions import IMPLIED, POLICY, USED, allowed, watched
from tests.optimizer.controller.scene import TEMPLATE, Begin, job, market, on_fake, plan
from tests.optimizer.controller.test_groups import grouped, make_group
from tests.optimizer.controller.test_maintained import make_fleet


@pytest.fixture
def used() -> Iterator[set[str]]:
    """What is used from here on."""
    before = set(USED)
    USED.clear()
    yield USED
    USED.update(before)


def test_a_call_that_the_policy_lacks_is_found() -> None:
    of = market([[9] * 9])
    with FakeAws(of) as fake:
        with pytest.raises(AssertionError, match="does not allow ec2:StopInstances"):
            watched(fake.client("ec2", "us-east-1", access_key="other")).stop_instances(InstanceIds=["i-1"])
        USED.discard("ec2:StopInstances")


def test_no_action_of_the_policy_is_unused(
    begin: Begin, used: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    of = market([[20] * 60, [20] * 60])
    with FakeAws(of) as fake:
        for via in ("run-instances", "fleet"):
            the_plan = plan(of, job(of, policy="spot-when-available", work_hours=0.5))
            launch = {"default": {"template": TEMPLATE, "via": via}}
            run = begin(the_plan, fake, provider=on_fake(fake, the_plan, launch=launch), folder=via)
            run.controller.run_tick()
            (held,) = run.controller.inventory.live("job")
            fake.interrupt(held.id)
            for _ in range(8):
                run.controller.run_tick()
                fake.advance(600)
            assert run.controller.finished
    with FakeAws(of) as fake:
        the_plan = grouped(of)
        group = begin(the_plan, fake, provider=make_group(fake, the_plan, 3, 6), folder="group")
        for _ in range(4):
            group.controller.run_tick()
            fake.advance(600)
    with FakeAws(of) as fake:
        _, provider, the_plan = make_fleet(fake, of, 3)
        begin(the_plan, fake, provider=provider, folder="maintained").controller.run_tick()
    hold_a_lease(monkeypatch)
    assert used | set(IMPLIED) == allowed(), "neither too little nor too much"


def hold_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "fake")
    with mock_aws():
        boto3.client("dynamodb", region_name="us-east-1").create_table(
            TableName="leases",
            KeySchema=[{"AttributeName": "name", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "name", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        client: Any = watched(boto3.client("dynamodb", region_name="us-east-1"))
        lease = DynamoLease(
            client, "leases", "spotwise", "one", seconds=90.0, now=lambda: 1.0, steady=lambda: 1.0
        )
        assert lease.hold()
        assert lease.hold(), "renewed"
        lease.release()


def test_what_changes_something_is_bound_to_what_is_the_controllers_own() -> None:
    """Nothing that mutates is allowed on everything without a condition."""
    for statement in json.loads(POLICY.read_text(encoding="utf-8"))["Statement"]:
        actions = statement["Action"]
        actions = [actions] if isinstance(actions, str) else actions
        assert not any("*" in action for action in actions)
        looks = all(action.partition(":")[2].startswith("Describe") for action in actions)
        assert looks or statement.get("Condition") or statement["Resource"] != "*", statement["Sid"]
