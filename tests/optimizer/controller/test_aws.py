"""The AWS provider: real boto3 calls against the fake AWS."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.controller.providers import NoCapacity, Refused, Unavailable
from optimizer.controller.providers.aws import aws_provider
from optimizer.controller.providers.protocol import Launch
from optimizer.fake_aws import FakeAws, Fault, Options
from policies.registry import load_policy
from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack
from simulator.errors import InputError
from tests.optimizer.controller.scene import TEMPLATE, Begin, job, market, on_fake, plan, service


def flapping(seed: int, pools: int = 2, ticks: int = 110) -> Any:
    """Capacity that comes and goes in runs."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(pools):
        row: list[int] = []
        while len(row) < ticks:
            row += [int(rng.integers(0, 2))] * int(rng.integers(1, 12))
        rows.append(row[:ticks])
    return rows


@pytest.mark.parametrize("policy", ["on-demand", "spot-when-available", "greedy"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_job_on_aws_decides_and_costs_what_replay_says(begin: Begin, policy: str, seed: int) -> None:
    of = market(flapping(seed), spot=[[1.0], [0.8]])
    the_plan = plan(of, job(of, policy=policy))
    decided = []
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        fleet, _ = run.controller.jobs[0]
        while not run.controller.finished:
            run.controller.run_tick()
            if fleet.active[0]:
                decided.append(int(fleet.placement[0]))
            fake.advance(600)
        billed = fake.bill()
    batch = DeadlineBatch.of(MarketStack.of([of]), DeadlineJob(36000, 50400, 600), [0], [0])
    shielded = load_policy(policy)
    memory = shielded.reset(1, 2)
    expected = []
    while not batch.done[0]:
        action, memory = shielded.act(batch.observe(), memory)
        expected.append(int(action[0]))
        batch.step(action)
    assert decided == expected
    assert fleet.cost[0] == batch.cost[0]
    assert billed.total == pytest.approx(batch.cost[0], abs=0.005)
    assert not fleet.missed[0]


def test_services_hold_what_capacity_allows(begin: Begin) -> None:
    of = market([[2, 2, 0, 2, 2, 2], [1, 1, 1, 1, 1, 1]])
    the_plan = plan(of, service(of, cold_start_minutes=0.0))
    granted = []
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        fleet, _ = run.controller.services[0]
        for _ in range(4):
            run.controller.run_tick()
            granted.append(fleet.granted[0].tolist())
            fake.advance(600)
    assert granted == [[2, 1, 0], [2, 1, 0], [0, 1, 0], [2, 1, 0]]


def test_a_warning_is_answered_before_the_instance_is_gone(begin: Begin) -> None:
    of = market([[1] * 12, [1] * 12], spot=[[1.0], [1.2]])
    the_plan = plan(of, job(of, deadline_hours=1.9, work_hours=1.0, policy="spot-when-available"))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        run.controller.run_tick()
        (first,) = list(run.controller.inventory.all_live())
        fake.advance(600)
        run.controller.run_tick()
        fake.advance(60)
        fake.interrupt(first.id)
        report = run.controller.run_tick()
        assert report.between
        assert report.lost == 1
        assert report.outcome.launched == 1
        (second,) = list(run.controller.inventory.all_live())
        assert second.id != first.id
        assert not run.controller.provider.interruptions.receive()  # type: ignore[union-attr]  # this one has it


def launch(
    the_plan: Any, token: str = "t" * 32, count: int = 1, at_least: int = 1, spot: bool = True
) -> Launch:
    return Launch(
        token, "job", the_plan.workloads[0].pools[0], "spot" if spot else "on-demand", count, at_least
    )


def test_one_token_launches_once_even_when_the_reply_is_lost() -> None:
    of = market([[3, 3, 3]])
    the_plan = plan(of, job(market([[3] * 99])))
    with FakeAws(of) as fake:
        capacity = on_fake(fake, the_plan).capacity
        fake.fault(Fault("lost_reply", action="RunInstances", times=1))
        with pytest.raises(Unavailable):
            capacity.launch(launch(the_plan))
        again = capacity.launch(launch(the_plan))
        assert [one.id for one in capacity.instances()] == list(again.ids)
        assert capacity.instances()[0].token == "t" * 32


def test_errors_are_told_apart() -> None:
    of = market([[1, 1, 1]])
    the_plan = plan(of, job(market([[3] * 99])))
    with FakeAws(of) as fake:
        capacity = on_fake(fake, the_plan, capacity_memory_seconds=300.0).capacity
        pools = list(the_plan.workloads[0].pools)
        assert capacity.offers(pools)[pools[0].name] > 1000
        with pytest.raises(NoCapacity):
            capacity.launch(launch(the_plan, count=2, at_least=2))
        assert capacity.offers(pools)[pools[0].name] == 0
        fake.advance(301)
        assert capacity.offers(pools)[pools[0].name] > 1000
        partial = capacity.launch(launch(the_plan, "u" * 32, count=3))
        assert (len(partial.ids), partial.shortfall) == (1, "capacity")
        fake.fault(Fault("error", action="RunInstances", code="UnauthorizedOperation", status=403, times=1))
        with pytest.raises(Refused):
            capacity.launch(launch(the_plan, "v" * 32, spot=False))
        fake.fault(Fault("throttle", times=1))
        with pytest.raises(Unavailable):
            capacity.instances()
        capacity.terminate([*partial.ids, "i-0123456789abcdef0"])
        assert {one.state for one in capacity.instances()} == {"gone"}


def test_throttling_costs_one_error_per_round_and_ends(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, *(job(of, f"job-{k}") for k in range(5)))
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    from optimizer.controller.config import AwsSettings
    from optimizer.controller.providers.aws.calls import Caller

    caller = Caller(
        AwsSettings(calls_per_second=1000, call_burst=1000, patience_seconds=60.0),
        sleep=sleep,
        steady=lambda: now[0],
        seed=1,
    )
    with FakeAws(of) as fake:
        fake.fault(Fault("throttle", times=7))
        client = fake.client("ec2", "us-east-1")
        caller(client.describe_instances)
        assert caller.throttles == 7
        assert sum(slept) > 20.0
        assert len(slept) == 7, "between two errors all calls wait"
    del the_plan, begin


def test_a_plan_that_aws_cannot_carry_out_is_refused() -> None:
    of = market([[1] * 99])
    the_plan = plan(of, job(of))
    from optimizer.controller.config import AwsSettings

    with pytest.raises(InputError, match="no launch settings"):
        aws_provider("spotwise", AwsSettings(), the_plan)
    launch_settings = {"default": {"template": "x-template"}}
    queue = AwsSettings.model_validate({"queue_url": "http://q", "launch": launch_settings})
    with pytest.raises(InputError, match="queue_region"):
        aws_provider("spotwise", queue, the_plan)


def test_delays_and_duplicates_change_nothing(begin: Begin) -> None:
    """Describe calls that lag, messages that come twice and out of order: no duplicate, no orphan."""
    of = market(flapping(5, pools=3))
    the_plan = plan(of, job(of, policy="spot-when-available"), job(of, "gang", nodes=1, policy="greedy"))
    options = Options(
        consistency_seconds=20.0,
        boot_seconds=30.0,
        shutdown_seconds=30.0,
        duplicate_share=0.5,
        shuffle_events=True,
    )
    with FakeAws(of, options) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        while not run.controller.finished:
            run.controller.run_tick()
            held = {name: len(run.controller.inventory.live(name)) for name in ("job", "gang")}
            assert max(held.values()) <= 1
            fake.advance(600)
        fake.advance(600)
        for fleet, _ in run.controller.jobs:
            assert not fleet.missed.any()
        states = {one.state for one in run.controller.provider.capacity.instances()}
        assert states <= {"gone"}


def test_looks_between_ticks_leave_the_count_of_ticks_alone(begin: Begin) -> None:
    """A policy's memory counts ticks: whatever happens in between, it sees one look per tick."""
    of = market([[9] * 30, [9] * 30], spot=[[1.0], [1.1]])
    the_plan = plan(
        of,
        job(of, policy="planner", work_hours=2.0, deadline_hours=4.0),
        service(of, policy="spothedge-1", cold_start_minutes=0.0, demand={"source": "fixed", "instances": 2}),
    )
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        for _ in range(2):
            fake.advance(600)
            run.controller.run_tick()
        jobs, web = run.controller.jobs[0][0], run.controller.services[0][0]
        memory = {name: np.array(array) for name, array in {**jobs.memory, **web.memory}.items()}
        fake.advance(100)
        victim = run.controller.inventory.live("web")[0]
        fake.interrupt(victim.id)
        report = run.controller.run_tick()
        assert report.between
        assert report.outcome.launched >= 1, "the loss is made up for at once"
        assert len(run.controller.inventory.live("web")) >= 2
        assert len(run.controller.inventory.live("job")) == 1
        for name, array in {**jobs.memory, **web.memory}.items():
            np.testing.assert_array_equal(array, memory[name])
        assert web.ticks[0] == 2
        fake.advance(500)
        assert not run.controller.run_tick().between
        assert web.ticks[0] == 3


def test_an_instant_fleet_launches_like_run_instances(begin: Begin) -> None:
    of = market([[3, 3, 3, 3], [1, 1, 1, 1]])
    the_plan = plan(of, service(of, cold_start_minutes=0.0, demand={"source": "fixed", "instances": 4}))
    fleet_launch = {"default": {"template": TEMPLATE, "via": "fleet"}}
    with FakeAws(of) as fake:
        provider = on_fake(fake, the_plan, launch=fleet_launch)
        run = begin(the_plan, fake, provider=provider)
        run.controller.run_tick()
        assert run.controller.services[0][0].granted[0].tolist() == [2, 1, 0]
        assert len(fake.log.of("CreateFleet", acted=True)) == 2
        gang = launch(the_plan, "g" * 32, count=4, at_least=4)
        with pytest.raises(NoCapacity):
            provider.capacity.launch(gang)
        running = [one for one in provider.capacity.instances() if one.state in ("pending", "running")]
        assert len(running) == 3, "no part of a gang stays behind"
        fake.fault(Fault("lost_reply", action="CreateFleet", times=1))
        with pytest.raises(Unavailable):
            provider.capacity.launch(launch(the_plan, "h" * 32, spot=False))
        again = provider.capacity.launch(launch(the_plan, "h" * 32, spot=False))
        mine = [one.id for one in provider.capacity.instances() if one.token == "h" * 32]
        assert mine == list(again.ids)


@pytest.mark.parametrize(("script", "told"), [("exit 0", False), ("echo broken >&2; exit 3", True)])
def test_a_job_may_save_its_work_before_a_planned_move(
    begin: Begin, tmp_path: Path, script: str, told: bool
) -> None:
    of = market([[1] * 99])
    the_plan = plan(of, job(of, policy="on-demand"))
    told_of = "$SPOTWISE_WORKLOAD $SPOTWISE_INSTANCES $SPOTWISE_DESTINATION_REGION"
    command = f"echo {told_of} > {tmp_path}/saved; {script}"
    with FakeAws(of) as fake:
        hook = ("sh", "-c", command)
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan), checkpoint_hook=hook)
        run.controller.run_tick()
        (first,) = run.controller.inventory.live("job")
        fleet, _ = run.controller.jobs[0]
        run.controller.jobs[0] = (fleet, load_policy("spot-when-available").policy)
        fake.advance(600)
        run.controller.run_tick()
        assert (tmp_path / "saved").read_text().split() == ["job", first.id, "us-east-1"]
        (second,) = run.controller.inventory.live("job")
        assert second.option == "spot"
        assert ("checkpoint-hook" in run.kinds()) == told


def test_on_demand_that_runs_out_is_asked_of_the_next_zone(begin: Begin) -> None:
    of = market([[0] * 120, [0] * 120])
    the_plan = plan(
        of,
        job(of, policy="on-demand"),
        service(of, policy="on-demand", cold_start_minutes=0.0, demand={"source": "fixed", "instances": 2}),
    )
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        first, second = (pool.name for pool in the_plan.workloads[0].pools)
        fake.limit_on_demand(first, 0)
        run.controller.run_tick()
        assert [row.pool for row in run.controller.inventory.live("job")] == [second], "at once"
        assert not run.controller.inventory.live("web")
        fake.advance(600)
        run.controller.run_tick()
        assert [row.pool for row in run.controller.inventory.live("web")] == [second] * 2, "at the next tick"
        assert "no-on-demand" in run.kinds()


def test_no_capacity_at_all_is_told_and_tried_again_without_a_storm(begin: Begin) -> None:
    of = market([[0] * 120, [0] * 120])
    the_plan = plan(of, job(of, policy="on-demand"))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        for pool in the_plan.workloads[0].pools:
            fake.limit_on_demand(pool.name, 0)
        for _ in range(3):
            before = len(fake.log.calls)
            run.controller.run_tick()
            calls = [call for call in list(fake.log.calls)[before:] if call.action == "RunInstances"]
            assert 1 <= len(calls) <= 4
            fake.advance(600)
        for pool in the_plan.workloads[0].pools:
            fake.limit_on_demand(pool.name, None)
        run.controller.run_tick()
        assert len(run.controller.inventory.live("job")) == 1


def test_what_aws_repeats_of_a_request_is_not_told(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of))
    message = (
        "The request signature we calculated does not match. The Canonical String was 'POST / host:ec2 "
        "x-amz-security-token:FwoGZXIvYXdzEBYaDHqa0ap x-amz-date:20261124' Signature=deadbeef01"
    )
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        denied = Fault("error", code="SignatureDoesNotMatch", message=message, status=403)
        fake.fault(replace(denied, action="DescribeInstances", times=1))
        fake.fault(replace(denied, action="RunInstances"))
        run.controller.run_tick()
        fake.advance(600)
        run.controller.run_tick()
        text = json.dumps(run.journal.audit()) + repr(run.events)
        assert "SignatureDoesNotMatch" in text
        assert "x-amz-date" in text, "the rest is told"
        assert "FwoGZXIv" not in text
        assert "deadbeef01" not in text
