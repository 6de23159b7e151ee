"""Many callers at once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from botocore.exceptions import ClientError

from optimizer.fake_aws import FakeAws, ScaledClock
from tests.optimizer.fake_aws.scene import run, small_market, states

CALLERS = 8


def test_callers_with_one_token_launch_once(fake: FakeAws) -> None:
    fake.client("ec2")  # made once, used by all
    with ThreadPoolExecutor(CALLERS) as callers:
        launched = list(callers.map(lambda _: run(fake, 2, ClientToken="t"), range(3 * CALLERS)))
    assert len({tuple(names) for names in launched}) == 1
    assert list(states(fake)) == launched[0]


def test_callers_never_get_more_than_there_is(fake: FakeAws) -> None:
    ec2 = fake.client("ec2")

    def compete(_: int) -> int:
        try:
            names = run(fake, MinCount=1, MaxCount=2)
        except ClientError as error:
            if error.response["Error"]["Code"] != "InsufficientInstanceCapacity":
                raise
            return 0
        running = [state for state in states(fake).values() if state == "running"]
        assert len(running) <= 3
        ec2.terminate_instances(InstanceIds=names)
        return len(names)

    with ThreadPoolExecutor(CALLERS) as callers:
        launched = sum(callers.map(compete, range(10 * CALLERS)))
    assert launched == len(states(fake)) > 3
    assert set(states(fake).values()) == {"terminated"}
    numbers = [call.number for call in fake.log.of("RunInstances", acted=True)]
    assert len(numbers) == len(set(numbers))
    assert fake.log.counts["RunInstances"] == 10 * CALLERS


def test_waiting_receivers_share_the_messages_and_hinder_nobody() -> None:
    with FakeAws(small_market(), clock=ScaledClock(datetime(2026, 1, 1, tzinfo=UTC))) as fake:
        sqs = fake.client("sqs", max_pool_connections=CALLERS)
        url = fake.queue_urls()["us-east-1"]
        with ThreadPoolExecutor(CALLERS) as callers:
            waiting = [
                callers.submit(sqs.receive_message, QueueUrl=url, WaitTimeSeconds=20) for _ in range(CALLERS)
            ]
            for number in range(CALLERS):
                assert states(fake) == {}
                fake.publish("us-east-1", "Test", f"i-{number}", {})
            received = [m["MessageId"] for done in waiting for m in done.result(timeout=20)["Messages"]]
    assert len(set(received)) == CALLERS
