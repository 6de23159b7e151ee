"""Two controllers, one leader: a deposed one's calls are refused, and a successor takes over what runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws

from optimizer.controller.lease import DynamoLease, FencedCapacity
from optimizer.controller.providers import Refused
from optimizer.fake_aws import FakeAws
from tests.optimizer.controller.scene import Begin, job, market, on_fake, plan, service


class Time:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "fake")
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-east-1")
        client.create_table(
            TableName="leases",
            KeySchema=[{"AttributeName": "name", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "name", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


def lease(table: Any, owner: str, time: Time) -> DynamoLease:
    return DynamoLease(table, "leases", "spotwise", owner, seconds=90.0, now=time, steady=time)


def test_one_holds_it_and_the_next_one_only_after_it_expired(table: Any) -> None:
    time = Time()
    one, two = lease(table, "one", time), lease(table, "two", time)
    assert one.hold()
    assert one.fence == 1
    assert not two.hold()
    time.at += 59.0
    assert one.valid()
    assert one.hold(), "renewed"
    time.at += 61.0
    assert not one.valid(), "it stops before another may begin"
    assert not two.hold()
    time.at += 30.0
    assert two.hold()
    assert two.fence == 2
    assert not one.hold()
    assert not one.valid()
    two.release()
    assert one.hold()
    assert one.fence == 3


def test_an_unreachable_table_leaves_the_lease_until_it_runs_out(table: Any) -> None:
    time = Time()
    one = lease(table, "one", time)
    assert one.hold()

    class Silent:
        def update_item(self, **_: Any) -> Any:
            raise EndpointConnectionError(endpoint_url="http://nowhere")

    one._client = Silent()
    time.at += 50.0
    assert one.hold()
    time.at += 20.0
    assert not one.hold()


class Word:
    """A lease whose holder a test names."""

    problem = ""

    def __init__(self, leader: list[str], me: str) -> None:
        self.leader, self.me = leader, me

    @property
    def fence(self) -> int:
        return 1 if self.valid() else 0

    def hold(self) -> bool:
        return self.leader[0] == self.me

    keep = valid = fresh = hold

    def release(self) -> None:
        return


def test_a_deposed_leaders_calls_do_not_leave(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of))
    with FakeAws(of) as fake:
        leader = ["one"]
        capacity = FencedCapacity(on_fake(fake, the_plan).capacity, Word(leader, "one"))
        leader[0] = "two"
        with pytest.raises(Refused, match="not the leader"):
            capacity.terminate(["i-0123456789abcdef0"])
        assert not fake.log.of("TerminateInstances")


def test_the_successor_takes_over_what_runs_and_doubles_nothing(begin: Begin) -> None:
    of = market([[9] * 120, [9] * 120], spot=[[1.0], [1.1]])
    the_plan = plan(
        of, job(of, policy="spot-when-available", deadline_hours=15.0), service(of, cold_start_minutes=0.0)
    )
    with FakeAws(of) as fake:
        leader = ["one"]
        runs = {
            name: begin(
                the_plan, fake, provider=on_fake(fake, the_plan), folder=name, lease=Word(leader, name)
            )
            for name in ("one", "two")
        }
        held: dict[str, Any] = {}
        for tick in range(30):
            for name, run in runs.items():
                held[name] = run.controller.run_tick().held
            assert held[leader[0]] == ""
            assert held["two" if leader[0] == "one" else "one"] == "not-leader"
            running = fake.held()
            assert sum(running.values()) == 4, "one for the job, three for the service"
            if tick == 9:
                leader[0] = "two"
            if tick == 19:
                leader[0] = "one"
            fake.advance(600)
        assert len(fake.log.of("RunInstances", acted=True)) == 3
        assert not fake.log.of("TerminateInstances")
        two = runs["two"].controller.jobs[0][0]
        assert two.placement[0] > 1
        assert two.work_left[0] < 36_000.0


@pytest.mark.parametrize("onlooker", ["standby", "dry-run"])
def test_who_does_not_act_leaves_the_warnings_to_the_one_who_does(begin: Begin, onlooker: str) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of, policy="spot-when-available"))
    with FakeAws(of) as fake:
        acting = begin(the_plan, fake, provider=on_fake(fake, the_plan), folder="acting")
        acting.controller.run_tick()
        (held,) = acting.controller.inventory.live("job")
        fake.interrupt(held.id)
        looking = begin(
            the_plan,
            fake,
            provider=on_fake(fake, the_plan),
            folder="looking",
            mode="apply" if onlooker == "standby" else "dry-run",
            lease=Word(["other"], "me") if onlooker == "standby" else None,
        )
        before = len(fake.log.of("ReceiveMessage"))
        looking.controller.run_tick()
        assert not fake.log.of("DeleteMessageBatch")
        assert len(fake.log.of("ReceiveMessage")) == before, "receiving hides a message from the other one"
        report = acting.controller.run_tick()
        assert (report.lost, report.outcome.launched) == (1, 1)
