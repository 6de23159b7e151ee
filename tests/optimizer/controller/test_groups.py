"""Auto Scaling groups: the mix is reached, capacity never dips, the desired capacity is its owner's."""

from __future__ import annotations

from typing import Any

import pytest

from optimizer.controller.config import AwsSettings
from optimizer.controller.providers.aws import aws_provider
from optimizer.fake_aws import FakeAws, Fault
from optimizer.plan import Plan
from simulator.errors import InputError
from simulator.market import Market
from tests.optimizer.controller.scene import TEMPLATE, Begin, FakeClock, Run, market, on_fake, plan, service


def grouped(of: Market, policy: str = "even-spread", **fields: Any) -> Plan:
    demand = {"source": "group", "group": "web-group", "region": "us-east-1"}
    return plan(of, service(of, policy=policy, demand=demand, cold_start_minutes=0.0, **fields))


def make_group(fake: FakeAws, the_plan: Plan, desired: int, largest: int, percentage: int = 100) -> Any:
    """A group that is all on-demand, as its owner left it."""
    provider = on_fake(fake, the_plan)
    fake.client("autoscaling", "us-east-1").create_auto_scaling_group(
        AutoScalingGroupName="web-group",
        MinSize=0,
        MaxSize=largest,
        DesiredCapacity=desired,
        AvailabilityZones=sorted({pool.zone for one in the_plan.workloads for pool in one.pools}),
        MixedInstancesPolicy={
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateName": TEMPLATE, "Version": "$Latest"},
                "Overrides": [{"InstanceType": "m5.large"}],
            },
            "InstancesDistribution": {
                "OnDemandPercentageAboveBaseCapacity": percentage,
                "SpotAllocationStrategy": "price-capacity-optimized",
            },
        },
    )
    fake.advance(60)
    return provider


def state(fake: FakeAws) -> tuple[int, int, int]:
    """Desired capacity, members on-demand, members on spot."""
    client = fake.client("autoscaling", "us-east-1")
    (group,) = client.describe_auto_scaling_groups(AutoScalingGroupNames=["web-group"])["AutoScalingGroups"]
    ids = [one["InstanceId"] for one in group["Instances"] if one["LifecycleState"] == "InService"]
    spot = 0
    if ids:
        reply = fake.client("ec2", "us-east-1").describe_instances(InstanceIds=ids)
        spot = sum(
            one.get("InstanceLifecycle") == "spot"
            for reservation in reply["Reservations"]
            for one in reservation["Instances"]
        )
    return group["DesiredCapacity"], len(ids) - spot, spot


def run_ticks(run: Run, fake: FakeAws, ticks: int, lowest: int) -> list[tuple[int, int, int]]:
    seen = []
    for _ in range(ticks):
        run.controller.run_tick()
        seen.append(state(fake))
        fake.advance(600)
        _, on_demand, spot = state(fake)
        assert on_demand + spot >= lowest, "capacity never dips"
    return seen


def test_a_running_group_is_converted_to_the_mix_without_a_dip(begin: Begin) -> None:
    of = market([[20] * 200, [20] * 200])
    the_plan = grouped(of)
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=make_group(fake, the_plan, desired=5, largest=8))
        seen = run_ticks(run, fake, 16, lowest=5)
        assert seen[0][0] == 6, "one more than the demand, to begin with"
        assert state(fake) == (5, 0, 5)
        quiet = len(fake.log.calls)
        run.controller.run_tick()
        assert not [call for call in list(fake.log.calls)[quiet:] if call.mutating and call.service != "sqs"]


def test_a_floor_of_on_demand_is_kept_in_the_group(begin: Begin) -> None:
    of = market([[20] * 200])
    the_plan = grouped(of, on_demand_floor=2)
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=make_group(fake, the_plan, desired=4, largest=8))
        run_ticks(run, fake, 12, lowest=4)
        assert state(fake) == (4, 2, 2)


def test_spot_without_capacity_is_given_up_and_nothing_is_lost(begin: Begin) -> None:
    of = market([[0] * 200])
    the_plan = grouped(of)
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=make_group(fake, the_plan, desired=3, largest=6))
        seen = run_ticks(run, fake, 5, lowest=3)
        assert max(desired for desired, _, _ in seen) == 4
        assert state(fake)[0] == 3
        assert "group" in run.kinds()


def test_the_owner_scales_while_a_conversion_goes_on(begin: Begin) -> None:
    of = market([[30] * 200])
    the_plan = grouped(of)
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=make_group(fake, the_plan, desired=4, largest=20))
        run.controller.run_tick()
        assert state(fake)[0] == 5
        client = fake.client("autoscaling", "us-east-1")
        client.set_desired_capacity(AutoScalingGroupName="web-group", DesiredCapacity=9)
        fake.advance(600)
        run_ticks(run, fake, 14, lowest=4)
        assert state(fake) == (8, 0, 8), "its owner added four to the five"
        client.set_desired_capacity(AutoScalingGroupName="web-group", DesiredCapacity=2)
        fake.advance(600)
        run_ticks(run, fake, 4, lowest=2)
        assert state(fake) == (2, 0, 2)


def test_a_full_group_says_what_it_needs(begin: Begin) -> None:
    of = market([[30] * 200])
    the_plan = grouped(of)
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=make_group(fake, the_plan, desired=3, largest=3))
        run_ticks(run, fake, 3, lowest=3)
        assert any("raise its MaxSize" in message for _, _, message in run.events)


@pytest.mark.parametrize("kind", ["lost_reply", "throttle", "unreachable"])
def test_faults_on_the_way_neither_lose_nor_double_anything(begin: Begin, kind: Any) -> None:
    of = market([[30] * 300])
    the_plan = grouped(of)
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=make_group(fake, the_plan, desired=4, largest=9))
        for k in range(24):
            if k < 12:
                action = "UpdateAutoScalingGroup" if k % 2 else "TerminateInstanceInAutoScalingGroup"
                fake.fault(Fault(kind, action=action, times=1))
            run.controller.run_tick()
            fake.advance(600)
            desired, on_demand, spot = state(fake)
            assert 4 <= on_demand + spot <= 5
            assert 4 <= desired <= 5
        assert state(fake) == (4, 0, 4)


def test_a_restart_during_a_raise_goes_on(begin: Begin) -> None:
    of = market([[30] * 200])
    the_plan = grouped(of)
    with FakeAws(of) as fake:
        provider = make_group(fake, the_plan, desired=4, largest=9)
        for _ in range(14):
            run = begin(the_plan, fake, provider=provider)
            run.controller.run_tick()
            run.journal.close()
            fake.advance(600)
        assert state(fake) == (4, 0, 4)


def test_a_group_that_is_not_there_is_told_and_left_alone(begin: Begin) -> None:
    of = market([[30] * 200])
    the_plan = grouped(of)
    with FakeAws(of) as fake:
        provider = aws_provider(
            "spotwise",
            AwsSettings(patience_seconds=0.0),
            the_plan,
            make_client=fake.client,
            clock=FakeClock(fake),
        )
        run = begin(the_plan, fake, provider=provider)
        report = run.controller.run_tick()
        assert (report.held, report.outcome.launched) == ("", 0)
        assert report.again, "it may come"
        assert any("no group web-group" in message for _, _, message in run.events)


def test_a_cloud_without_groups_refuses_such_a_plan(begin: Begin) -> None:
    from optimizer.controller.providers.simulated import SimulatedCloud

    of = market([[30] * 200])
    with pytest.raises(InputError, match="no groups"):
        begin(grouped(of), None, provider=SimulatedCloud(of, grouped(of)).provider())
