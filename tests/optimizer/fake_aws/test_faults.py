"""Faults, rate limits and the record of calls, seen by the real boto3 client."""

import threading
import time

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from optimizer.fake_aws import Call, FakeAws, Fault, RateLimits
from simulator.errors import InputError
from tests.optimizer.fake_aws.scene import MakeFake, code_of, run, small_market, states


def test_a_lost_reply_comes_after_the_act_and_the_token_finds_it_again(fake: FakeAws) -> None:
    fake.fault(Fault("lost_reply", action="RunInstances", times=1))
    with pytest.raises(ConnectionClosedError):
        run(fake, 2, ClientToken="t")
    assert len(states(fake)) == 2
    assert run(fake, 2, ClientToken="t") == list(states(fake))
    assert [(call.acted, call.fault) for call in fake.log.of("RunInstances")] == [
        (True, "lost_reply"),
        (True, ""),
    ]


def test_an_unreachable_service_does_nothing(fake: FakeAws) -> None:
    fake.fault(Fault("unreachable", service="ec2", seconds=60))
    with pytest.raises(ConnectionClosedError):
        run(fake)
    fake.client("sqs").list_queues()
    fake.advance(60)
    assert len(run(fake)) == 1
    assert len(states(fake)) == 1
    assert [call.acted for call in fake.log.of("RunInstances")] == [False, True]


def test_an_error_is_answered_before_anything_is_done(fake: FakeAws) -> None:
    struck = fake.fault(
        Fault("error", action="RunInstances", skip=1, times=1, code="Unavailable", status=503)
    )
    run(fake)
    with pytest.raises(ClientError) as caught:
        run(fake)
    assert code_of(caught) == "Unavailable"
    run(fake)
    assert len(states(fake)) == 2
    assert struck.struck == 1
    assert [call.outcome for call in fake.log.of("RunInstances")] == ["", "Unavailable", ""]


@pytest.mark.parametrize(
    ("service", "action", "code"),
    [
        ("ec2", "describe_instances", "RequestLimitExceeded"),
        ("autoscaling", "describe_auto_scaling_groups", "Throttling"),
        ("sqs", "list_queues", "RequestThrottled"),
    ],
)
def test_throttling_speaks_as_each_service_does(fake: FakeAws, service: str, action: str, code: str) -> None:
    fake.fault(Fault("throttle", seconds=45))
    with pytest.raises(ClientError) as caught:
        getattr(fake.client(service), action)()
    assert code_of(caught) == code
    fake.advance(45)
    getattr(fake.client(service), action)()


def test_a_client_that_retries_gets_through_a_short_throttle(fake: FakeAws) -> None:
    fake.fault(Fault("throttle", action="DescribeInstances", times=1))
    patient = fake.client("ec2", retries={"mode": "standard", "total_max_attempts": 2})
    assert patient.describe_instances()["Reservations"] == []
    assert fake.log.counts["DescribeInstances"] == 2


def test_a_slow_reply_outlasts_an_impatient_client(fake: FakeAws) -> None:
    fake.fault(Fault("slow_reply", action="DescribeInstances", times=1, delay=1.0))
    hasty = fake.client("ec2", read_timeout=0.2)
    began = time.monotonic()
    with pytest.raises(ReadTimeoutError):
        hasty.describe_instances()
    assert time.monotonic() - began < 1.0
    assert hasty.describe_instances()["Reservations"] == []


def test_faults_can_be_lifted(fake: FakeAws) -> None:
    fake.fault(Fault("unreachable"))
    fake.faults.clear()
    assert len(run(fake)) == 1


def test_impossible_faults_are_refused() -> None:
    with pytest.raises(InputError, match="unreachable, throttle, error, lost_reply, slow_reply"):
        Fault("explosion")  # type: ignore[arg-type]  # what a hostile caller may give
    with pytest.raises(InputError, match="delay"):
        Fault("slow_reply", delay=-1)


def test_hooks_see_each_call_before_and_after_it_is_carried_out(fake: FakeAws) -> None:
    seen: list[tuple[str, str, int]] = []

    def before(call: Call) -> None:
        seen.append(("before", call.action, sum(fake.held().values())))

    def after(call: Call) -> None:
        seen.append(("after", call.action, sum(fake.held().values())))

    fake.before_call.append(before)
    fake.after_call.append(after)
    run(fake, 2)
    assert seen == [("before", "RunInstances", 0), ("after", "RunInstances", 2)]


def test_the_log_has_mutating_calls_in_order_with_their_outcome(fake: FakeAws) -> None:
    (launched,) = run(fake)
    states(fake)
    with pytest.raises(ClientError):
        run(fake, 9)
    fake.client("ec2").terminate_instances(InstanceIds=[launched])
    assert [(call.action, call.outcome, call.acted) for call in fake.log.calls] == [
        ("RunInstances", "", True),
        ("RunInstances", "InsufficientInstanceCapacity", False),
        ("TerminateInstances", "", True),
    ]
    assert fake.log.calls[0].parameters["MaxCount"] == 1
    assert fake.log.calls[0].access_key == "fake"
    fake.client("ec2", access_key="second-leader").terminate_instances(InstanceIds=[launched])
    assert fake.log.calls[-1].access_key == "second-leader"
    assert fake.log.counts["DescribeInstances"] == 1
    numbers = [call.number for call in fake.log.calls]
    assert numbers == sorted(numbers)


def test_calls_draw_on_a_bucket_that_refills(make_fake: MakeFake) -> None:
    fake = make_fake(rate_limits=True)
    for _ in range(5):
        run(fake, spot=False)
    with pytest.raises(ClientError) as caught:
        run(fake, spot=False)
    assert code_of(caught) == "RequestLimitExceeded"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    states(fake)  # reads have a bucket of their own
    run(fake, zone="us-west-2a")  # and so has every region
    fake.advance(0.5)
    assert len(run(fake, spot=False)) == 1


def test_launches_also_draw_on_a_bucket_of_instances(make_fake: MakeFake) -> None:
    fake = make_fake(rate_limits=True)
    run(fake, 990, spot=False)
    with pytest.raises(ClientError) as caught:
        run(fake, 20, spot=False)
    assert code_of(caught) == "RequestLimitExceeded"
    fake.advance(5)
    assert len(run(fake, 20, spot=False)) == 20


def test_terminations_draw_on_a_bucket_of_instances_too(make_fake: MakeFake) -> None:
    fake = make_fake(rate_limits=True)
    launched = run(fake, 600, spot=False)
    fake.advance(1000)
    launched += run(fake, 600, spot=False)
    with pytest.raises(ClientError) as caught:
        fake.client("ec2").terminate_instances(InstanceIds=launched)
    assert code_of(caught) == "RequestLimitExceeded"
    assert set(states(fake).values()) == {"running"}
    fake.client("ec2").terminate_instances(InstanceIds=launched[:1000])


def test_buckets_can_be_of_your_own() -> None:
    limits = RateLimits({"DescribeInstances": (1.0, 1.0)})
    with FakeAws(small_market(), limits=limits) as fake:
        states(fake)
        with pytest.raises(ClientError) as caught:
            states(fake)
        assert code_of(caught) == "RequestLimitExceeded"
        fake.advance(1)
        states(fake)


def test_a_hook_may_let_others_call_while_it_waits(fake: FakeAws) -> None:
    found: list[dict[str, str]] = []

    def look_from_elsewhere(call: Call) -> None:
        if call.action == "RunInstances":
            other = threading.Thread(target=lambda: found.append(states(fake)))
            other.start()
            other.join(10)

    fake.before_call.append(look_from_elsewhere)
    fake.after_call.append(look_from_elsewhere)
    run(fake)
    assert [len(seen) for seen in found] == [0, 1]


def test_a_clock_that_jumps_back_does_not_undo_anything(fake: FakeAws) -> None:
    fake.advance(700)
    run(fake)
    fake.advance(-600)
    assert fake.tick() == 1
    assert len(states(fake)) == 1
    assert fake.bill().total == 0
