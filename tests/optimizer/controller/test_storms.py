"""Storms: floods of messages, throttling, a pool that flaps at every tick."""

from __future__ import annotations

import json

import numpy as np
import pytest

from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.fake_aws import FakeAws, Fault, Options
from tests.optimizer.controller.scene import Begin, job, market, on_fake, plan, service

WARNING = "EC2 Spot Instance Interruption Warning"


@pytest.mark.parametrize("copies", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_a_flood_of_doubled_messages_replaces_each_instance_once(begin: Begin, copies: int) -> None:
    of = market([[99] * 99, [99] * 99], spot=[[1.0], [1.1]])
    jobs = [job(of, f"job-{k}", policy="spot-when-available") for k in range(30)]
    the_plan = plan(of, *jobs)
    with FakeAws(of, Options(shuffle_events=True)) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        run.controller.run_tick()
        first = {row.id for row in run.controller.inventory.all_live()}
        assert len(first) == 30
        fake.advance(100)
        for one in sorted(first):
            fake.publish("us-east-1", WARNING, one, {"instance-id": one}, copies=copies)
        looks, launched = 0, 0
        while True:
            report = run.controller.run_tick()
            launched += report.outcome.launched
            looks += 1
            if not run.controller.provider.interruptions.receive():  # type: ignore[union-attr]  # this one has it
                break
        assert launched == 30
        held = {row.workload for row in run.controller.inventory.all_live()}
        assert len(held) == 30
        assert not first & {row.id for row in run.controller.inventory.all_live()}
        assert looks <= 2 + 30 * copies / 1000


def test_messages_that_are_no_notices_are_removed_and_harmless(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        run.controller.run_tick()
        client = fake.client("sqs", "us-east-1")
        url = client.get_queue_url(QueueName="spotwise-notices")["QueueUrl"]
        for body in (
            "",
            "{",
            "[]",
            '{"detail-type": 3}',
            '{"detail-type": "x", "detail": {}}',
            "\u2603" * 99,
            "[" * 100_000,
            '{"a":' * 40_000,
            json.dumps(
                {"detail-type": WARNING, "detail": {"instance-id": "i-1"}, "time": "0001-01-01T00:00"}
            ),
        ):
            client.send_message(QueueUrl=url, MessageBody=body or " ")
        report = run.controller.run_tick()
        assert report.lost == 0
        attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        assert attributes["Attributes"]["ApproximateNumberOfMessages"] == "0"


def test_a_message_stays_until_the_replacement_was_asked_for(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of, policy="spot-when-available"))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        run.controller.run_tick()
        (held,) = run.controller.inventory.live("job")
        fake.advance(10)
        fake.interrupt(held.id)
        order = []
        fake.after_call.append(lambda call: order.append(call.action))
        run.controller.run_tick()
        assert order.index("RunInstances") < order.index("DeleteMessageBatch")


def test_a_look_at_the_queue_does_not_hide_a_warning_from_the_tick(begin: Begin) -> None:
    """SQS hides what it has handed out; the daemon looks first and then runs a tick that must have it too."""
    of = market([[9] * 99])
    the_plan = plan(of, job(of, policy="spot-when-available"))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        run.controller.run_tick()
        (held,) = run.controller.inventory.live("job")
        fake.advance(10)
        fake.interrupt(held.id)
        queue = run.controller.provider.interruptions
        assert queue is not None
        assert [notice.instance for notice in queue.receive()] == [held.id]
        report = run.controller.run_tick()
        assert (report.lost, report.outcome.launched) == (1, 1)
        assert not queue.receive()
        fake.advance(31)
        assert not queue.receive(), "it was removed from the queue too"


def test_a_throttled_account_gets_one_error_per_round_and_recovers(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, *(job(of, f"job-{k}") for k in range(9)))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        fake.fault(Fault("throttle", service="ec2", seconds=1200.0))
        for _ in range(2):
            before = len(fake.log.calls)
            report = run.controller.run_tick()
            assert report.held == "blind"
            errors = [call for call in list(fake.log.calls)[before:] if call.fault == "throttle"]
            assert len(errors) <= 2, "instances and prices: one each, nothing launched"
            fake.advance(600)
        fake.advance(1)
        run.controller.run_tick()
        assert len(list(run.controller.inventory.all_live())) == 9


def test_a_pool_that_flaps_at_every_tick_is_bounded(begin: Begin) -> None:
    of = market([[1, 0] * 60])
    the_plan = plan(of, service(of, cold_start_minutes=0.0, demand={"source": "fixed", "instances": 1}))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud, guards={"launches_per_hour": 2.0, "keep_ready": False})
    launches = []
    for _ in range(118):
        launches.append(run.controller.run_tick().outcome.launched)
        cloud.advance()
    per_hour = np.convolve(launches, np.ones(6), "valid")
    assert per_hour.max() <= 3
    assert sum(launches) >= 20, "it does not give up on the pool either"
