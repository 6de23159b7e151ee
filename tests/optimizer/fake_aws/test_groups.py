"""Auto Scaling groups on the fake, through the real boto3 client."""

from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from optimizer.fake_aws import FakeAws
from optimizer.fake_aws.cloud.allocation import on_demand_units
from simulator.market import Market, Pool
from tests.optimizer.fake_aws.scene import (
    START,
    ZONE_A,
    ZONE_B,
    MakeFake,
    code_of,
    instance_of,
    run,
    small_market,
    states,
)


def make_group(fake: FakeAws, desired: int, *, zones: tuple[str, ...] = (ZONE_A, ZONE_B), **more: Any) -> Any:
    """Make a group named `web` with a mixed instances policy; the client."""
    mix = {
        "OnDemandBaseCapacity": more.pop("base", 0),
        "OnDemandPercentageAboveBaseCapacity": more.pop("percentage", 0),
        "SpotAllocationStrategy": more.pop("strategy", "price-capacity-optimized"),
    }
    types = more.pop("types", ("m5.large",))
    fake.client("ec2").create_launch_template(
        LaunchTemplateName="web", LaunchTemplateData={"ImageId": "ami-1", "InstanceType": types[0]}
    )
    client = fake.client("autoscaling")
    client.create_auto_scaling_group(
        AutoScalingGroupName="web",
        MinSize=more.pop("MinSize", 0),
        MaxSize=more.pop("MaxSize", 20),
        DesiredCapacity=desired,
        AvailabilityZones=list(zones),
        MixedInstancesPolicy={
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateName": "web", "Version": "$Latest"},
                "Overrides": [{"InstanceType": name} for name in types],
            },
            "InstancesDistribution": mix,
        },
        **more,
    )
    return client


def group(fake: FakeAws) -> dict[str, Any]:
    (found,) = fake.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=["web"])[
        "AutoScalingGroups"
    ]
    shown: dict[str, Any] = found
    return shown


def members(fake: FakeAws) -> list[str]:
    return [instance["InstanceId"] for instance in group(fake)["Instances"]]


def lifecycles(fake: FakeAws) -> Counter[str]:
    return Counter(instance_of(fake, name).get("InstanceLifecycle", "on-demand") for name in members(fake))


@pytest.mark.parametrize(
    ("desired", "base", "percentage", "on_demand"),
    [(4, 0, 0, 0), (4, 1, 0, 1), (4, 0, 50, 2), (3, 0, 50, 2), (5, 1, 25, 2), (4, 9, 0, 4), (4, 0, 100, 4)],
)
def test_launches_follow_the_mix(
    fake: FakeAws, desired: int, base: int, percentage: int, on_demand: int
) -> None:
    make_group(fake, desired, base=base, percentage=percentage)
    assert lifecycles(fake)["on-demand"] == on_demand
    assert len(members(fake)) == desired


@given(
    total=st.integers(0, 500),
    base=st.integers(0, 500),
    percentage=st.integers(0, 100),
    more=st.integers(0, 50),
)
def test_the_mix_is_monotonic_and_never_below_its_share(
    total: int, base: int, percentage: int, more: int
) -> None:
    units = on_demand_units(total, base, percentage)
    assert min(base, total) <= units <= total
    assert units >= (total - base) * percentage / 100 + base or total <= base
    assert units < max(total - base, 0) * percentage / 100 + min(base, total) + 1
    assert on_demand_units(total + more, base, percentage) >= units


def test_a_changed_mix_waits_for_future_launches(fake: FakeAws) -> None:
    client = make_group(fake, 2, base=2)
    before = members(fake)
    client.update_auto_scaling_group(
        AutoScalingGroupName="web",
        MixedInstancesPolicy={"InstancesDistribution": {"OnDemandBaseCapacity": 0}},
    )
    assert members(fake) == before
    assert lifecycles(fake) == {"on-demand": 2}
    client.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=3)
    assert lifecycles(fake) == {"on-demand": 2, "spot": 1}
    client.terminate_instance_in_auto_scaling_group(
        InstanceId=before[0], ShouldDecrementDesiredCapacity=False
    )
    fake.advance(30)
    assert lifecycles(fake) == {"on-demand": 1, "spot": 2}


def test_an_update_keeps_what_it_does_not_name(fake: FakeAws) -> None:
    client = make_group(fake, 2, base=1, percentage=40)
    client.update_auto_scaling_group(
        AutoScalingGroupName="web",
        MixedInstancesPolicy={"InstancesDistribution": {"OnDemandBaseCapacity": 3}},
    )
    policy = group(fake)["MixedInstancesPolicy"]
    assert policy["InstancesDistribution"]["OnDemandBaseCapacity"] == 3
    assert policy["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == 40
    assert policy["LaunchTemplate"]["Overrides"] == [{"InstanceType": "m5.large"}]


def test_scale_in_restores_the_mix_and_spares_the_protected(fake: FakeAws) -> None:
    client = make_group(fake, 4, percentage=50)
    spot = [name for name in members(fake) if "InstanceLifecycle" in instance_of(fake, name)]
    client.set_instance_protection(
        AutoScalingGroupName="web", InstanceIds=spot[:1], ProtectedFromScaleIn=True
    )
    client.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=2)
    assert lifecycles(fake) == {"on-demand": 1, "spot": 1}
    client.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=0)
    assert members(fake) == spot[:1]


def test_bounds_are_respected(fake: FakeAws) -> None:
    client = make_group(fake, 2, MinSize=1, MaxSize=3)
    for wanted in (0, 4):
        with pytest.raises(ClientError) as caught:
            client.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=wanted)
        assert code_of(caught) == "ValidationError"
    with pytest.raises(ClientError) as caught:
        client.update_auto_scaling_group(AutoScalingGroupName="web", DesiredCapacity=4)
    assert code_of(caught) == "ValidationError"
    client.update_auto_scaling_group(AutoScalingGroupName="web", MaxSize=1)
    assert group(fake)["DesiredCapacity"] == len(members(fake)) == 1
    client.update_auto_scaling_group(AutoScalingGroupName="web", MinSize=2, MaxSize=5)
    assert group(fake)["DesiredCapacity"] == len(members(fake)) == 2


def test_zones_are_balanced_as_far_as_capacity_goes(fake: FakeAws) -> None:
    make_group(fake, 5)
    zones = Counter(instance["AvailabilityZone"] for instance in group(fake)["Instances"])
    assert zones == {ZONE_A: 3, ZONE_B: 2}


def test_a_shortage_is_reported_per_pool_and_healed_when_capacity_returns(make_fake: MakeFake) -> None:
    fake = make_fake(small_market(spot_capacity=[[0, 2, 2, 2], [1, 1, 1, 1], [9] * 4]))
    client = make_group(fake, 3)
    assert len(members(fake)) == 1
    failed = [
        activity
        for activity in client.describe_scaling_activities(AutoScalingGroupName="web")["Activities"]
        if activity["StatusCode"] == "Failed"
    ]
    assert {zone for zone in (ZONE_A, ZONE_B) for a in failed if zone in a["StatusMessage"]} == {
        ZONE_A,
        ZONE_B,
    }
    assert all("InsufficientInstanceCapacity" in activity["StatusMessage"] for activity in failed)
    fake.advance(600 + 30)
    assert len(members(fake)) == 3


def test_an_interrupted_instance_is_replaced(fake: FakeAws) -> None:
    make_group(fake, 3, zones=(ZONE_A, ZONE_B))
    taken = members(fake)[0]
    fake.interrupt(taken)
    fake.advance(120)
    assert taken not in [name for name, state in states(fake).items() if state == "running"]
    assert len(members(fake)) == 2
    fake.advance(30)
    assert len(members(fake)) == 3


def test_capacity_rebalancing_replaces_before_the_old_one_goes(make_fake: MakeFake) -> None:
    fake = make_fake(boot_seconds=40)
    make_group(fake, 2, zones=(ZONE_A, ZONE_B), CapacityRebalance=True)
    old = members(fake)
    fake.interrupt(old[0])
    assert len(members(fake)) == 3
    assert states(fake)[old[0]] == "pending"
    fake.advance(40)
    assert states(fake)[old[0]] == "terminated"
    assert len(members(fake)) == 2
    fake.advance(600)
    assert len(members(fake)) == 2


def test_a_single_instance_leaves_with_or_without_replacement(fake: FakeAws) -> None:
    client = make_group(fake, 3)
    one, two, three = members(fake)
    client.terminate_instance_in_auto_scaling_group(InstanceId=one, ShouldDecrementDesiredCapacity=True)
    fake.advance(60)
    assert (group(fake)["DesiredCapacity"], members(fake)) == (2, [two, three])
    client.terminate_instance_in_auto_scaling_group(InstanceId=two, ShouldDecrementDesiredCapacity=False)
    fake.advance(60)
    assert group(fake)["DesiredCapacity"] == len(members(fake)) == 2
    assert two not in members(fake)


def test_decrement_stops_at_the_smallest_size(fake: FakeAws) -> None:
    client = make_group(fake, 1, MinSize=1)
    with pytest.raises(ClientError) as caught:
        client.terminate_instance_in_auto_scaling_group(
            InstanceId=members(fake)[0], ShouldDecrementDesiredCapacity=True
        )
    assert code_of(caught) == "ValidationError"
    assert len(members(fake)) == 1


def test_instances_can_join_and_leave(fake: FakeAws) -> None:
    client = make_group(fake, 1)
    (single,) = run(fake, spot=False)
    client.attach_instances(AutoScalingGroupName="web", InstanceIds=[single])
    assert single in members(fake)
    assert group(fake)["DesiredCapacity"] == 2
    client.detach_instances(
        AutoScalingGroupName="web", InstanceIds=[single], ShouldDecrementDesiredCapacity=True
    )
    assert single not in members(fake)
    assert states(fake)[single] == "running"


def test_an_unhealthy_instance_is_replaced(fake: FakeAws) -> None:
    client = make_group(fake, 2)
    sick, well = members(fake)
    client.set_instance_health(InstanceId=sick, HealthStatus="Unhealthy")
    fake.advance(30)
    shown = client.describe_auto_scaling_instances()["AutoScalingInstances"]
    assert [instance["AutoScalingGroupName"] for instance in shown] == ["web", "web"]
    assert sick not in [instance["InstanceId"] for instance in shown]
    assert well in [instance["InstanceId"] for instance in shown]


def test_weights_count_units(fake: FakeAws) -> None:
    client = make_group(fake, 0)
    client.update_auto_scaling_group(
        AutoScalingGroupName="web",
        DesiredCapacity=5,
        MixedInstancesPolicy={
            "LaunchTemplate": {"Overrides": [{"InstanceType": "m5.large", "WeightedCapacity": "2"}]},
            "InstancesDistribution": {"OnDemandBaseCapacity": 2},
        },
    )
    assert lifecycles(fake) == {"on-demand": 1, "spot": 2}
    for desired, expected in (
        (5, {"on-demand": 1, "spot": 2}),
        (4, {"on-demand": 1, "spot": 1}),
        (2, {"on-demand": 1}),
    ):
        client.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=desired)
        assert lifecycles(fake) == expected


def test_suspended_processes_do_nothing(fake: FakeAws) -> None:
    client = make_group(fake, 1)
    client.suspend_processes(AutoScalingGroupName="web", ScalingProcesses=["Launch", "Terminate"])
    client.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=3)
    assert len(members(fake)) == 1
    client.resume_processes(AutoScalingGroupName="web")
    assert len(members(fake)) == 3


def test_groups_go_only_with_force_while_they_hold_instances(fake: FakeAws) -> None:
    client = make_group(fake, 2)
    with pytest.raises(ClientError) as caught:
        client.delete_auto_scaling_group(AutoScalingGroupName="web")
    assert code_of(caught) == "ResourceInUse"
    client.delete_auto_scaling_group(AutoScalingGroupName="web", ForceDelete=True)
    assert set(states(fake).values()) == {"terminated"}
    assert client.describe_auto_scaling_groups()["AutoScalingGroups"] == []
    fake.advance(600)
    assert set(states(fake).values()) == {"terminated"}


def test_tags_reach_the_instances(fake: FakeAws) -> None:
    tag = {"Key": "workload", "Value": "web", "PropagateAtLaunch": True}
    make_group(fake, 1, Tags=[tag, {"Key": "own", "Value": "x", "PropagateAtLaunch": False}])
    shown = {tag["Key"]: tag["Value"] for tag in instance_of(fake, members(fake)[0])["Tags"]}
    assert shown == {"workload": "web", "aws:autoscaling:groupName": "web"}
    found = fake.client("autoscaling").describe_auto_scaling_groups(
        Filters=[{"Name": "tag:own", "Values": ["x"]}]
    )
    assert len(found["AutoScalingGroups"]) == 1


def test_tags_of_groups_can_be_changed(fake: FakeAws) -> None:
    client = make_group(fake, 1)
    tag = {"ResourceId": "web", "ResourceType": "auto-scaling-group", "Key": "k"}
    client.create_or_update_tags(Tags=[{**tag, "Value": "v", "PropagateAtLaunch": True}])
    (shown,) = client.describe_tags(Filters=[{"Name": "key", "Values": ["k"]}])["Tags"]
    assert (shown["Value"], shown["PropagateAtLaunch"]) == ("v", True)
    client.delete_tags(Tags=[tag])
    assert client.describe_tags()["Tags"] == []
    with pytest.raises(ClientError) as caught:
        client.create_or_update_tags(Tags=[{**tag, "ResourceId": "nothing"}])
    assert code_of(caught) == "ValidationError"


def test_describe_calls_of_groups_lag_behind(make_fake: MakeFake) -> None:
    fake = make_fake(consistency_seconds=5)
    client = make_group(fake, 1)
    assert client.describe_auto_scaling_groups()["AutoScalingGroups"] == []
    fake.advance(5)
    client.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=2)
    assert (group(fake)["DesiredCapacity"], len(members(fake))) == (1, 1)
    fake.advance(5)
    assert (group(fake)["DesiredCapacity"], len(members(fake))) == (2, 2)


def test_groups_come_in_pages(fake: FakeAws) -> None:
    client = make_group(fake, 0)
    for number in range(6):
        client.create_auto_scaling_group(
            AutoScalingGroupName=f"more-{number}",
            MinSize=0,
            MaxSize=1,
            AvailabilityZones=[ZONE_A],
            LaunchTemplate={"LaunchTemplateName": "web"},
        )
    pages = client.get_paginator("describe_auto_scaling_groups").paginate(PaginationConfig={"PageSize": 2})
    names = [found["AutoScalingGroupName"] for page in pages for found in page["AutoScalingGroups"]]
    assert names == [f"more-{number}" for number in range(6)] + ["web"]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("lowest-price", {"a.small": 3, "b.small": 3}),
        ("capacity-optimized", {"c.small": 5, "b.small": 1}),
        ("capacity-optimized-prioritized", {"a.small": 4, "b.small": 2}),
        ("price-capacity-optimized", {"c.small": 6}),
    ],
)
def test_strategies_choose_their_pools(make_fake: MakeFake, strategy: str, expected: dict[str, int]) -> None:
    types = ("a.small", "b.small", "c.small")
    market = Market.build(
        [Pool("aws", "us-east-1", ZONE_A, name) for name in types],
        tick_seconds=600,
        start=START,
        spot_price=[0.1, 0.2, 0.3],
        spot_capacity=[[4], [5], [9]],
        on_demand_price=1.0,
    )
    fake = make_fake(market)
    make_group(fake, 6, zones=(ZONE_A,), types=types, strategy=strategy)
    assert Counter(instance["InstanceType"] for instance in group(fake)["Instances"]) == expected


def test_impossible_groups_are_refused(fake: FakeAws) -> None:
    client = make_group(fake, 0)
    base = {"AutoScalingGroupName": "bad", "MinSize": 0, "MaxSize": 1, "AvailabilityZones": [ZONE_A]}
    template = {"LaunchTemplate": {"LaunchTemplateName": "web"}}
    for change in (
        {},
        {**template, "MinSize": 2},
        {**template, "DesiredCapacity": 2},
        {**template, "AvailabilityZones": ["us-east-1z"]},
        {"LaunchTemplate": {"LaunchTemplateName": "nothing"}},
        {"LaunchConfigurationName": "old"},
    ):
        with pytest.raises(ClientError) as caught:
            client.create_auto_scaling_group(**{**base, **change})
        assert code_of(caught) == "ValidationError"
    with pytest.raises(ClientError) as caught:
        client.create_auto_scaling_group(**{**base, **template, "AutoScalingGroupName": "web"})
    assert code_of(caught) == "AlreadyExists"
    with pytest.raises(ClientError) as caught:
        client.set_desired_capacity(AutoScalingGroupName="nothing", DesiredCapacity=1)
    assert code_of(caught) == "ValidationError"
