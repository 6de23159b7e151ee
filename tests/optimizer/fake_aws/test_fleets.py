"""EC2 fleets on the fake, through the real boto3 client."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from optimizer.fake_aws import FakeAws
from tests.optimizer.fake_aws.scene import (
    START,
    ZONE_A,
    ZONE_B,
    MakeFake,
    code_of,
    instance_of,
    small_market,
    states,
)


def make_fleet(
    fake: FakeAws, total: int, *, kind: str = "instant", on_demand: int = 0, **more: Any
) -> dict[str, Any]:
    """Ask for a fleet over both zones; the reply."""
    ec2 = fake.client("ec2")
    if not ec2.describe_launch_templates()["LaunchTemplates"]:
        ec2.create_launch_template(LaunchTemplateName="job", LaunchTemplateData={"ImageId": "ami-1"})
    overrides = more.pop(
        "overrides", [{"InstanceType": "m5.large", "AvailabilityZone": zone} for zone in (ZONE_A, ZONE_B)]
    )
    request: dict[str, Any] = {
        "Type": kind,
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": "job", "Version": "$Default"},
                "Overrides": overrides,
            }
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": total,
            "OnDemandTargetCapacity": on_demand,
            "DefaultTargetCapacityType": "spot",
        },
        "SpotOptions": {"AllocationStrategy": "price-capacity-optimized"},
        **more,
    }
    reply: dict[str, Any] = ec2.create_fleet(**request)
    return reply


def described(fake: FakeAws, fleet_id: str) -> dict[str, Any]:
    (fleet,) = fake.client("ec2").describe_fleets(FleetIds=[fleet_id])["Fleets"]
    found: dict[str, Any] = fleet
    return found


def active(fake: FakeAws, fleet_id: str) -> list[str]:
    reply = fake.client("ec2").describe_fleet_instances(FleetId=fleet_id)
    return [instance["InstanceId"] for instance in reply["ActiveInstances"]]


def test_an_instant_fleet_says_what_it_got(fake: FakeAws) -> None:
    reply = make_fleet(fake, 4, on_demand=1)
    assert reply["Errors"] == []
    counts = {
        (found["Lifecycle"], found["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"]): len(
            found["InstanceIds"]
        )
        for found in reply["Instances"]
    }
    assert counts == {("on-demand", ZONE_A): 1, ("spot", ZONE_A): 3}
    shown = instance_of(fake, reply["Instances"][0]["InstanceIds"][0])
    assert {"Key": "aws:ec2:fleet-id", "Value": reply["FleetId"]} in shown["Tags"]


def test_an_instant_fleet_names_the_pools_that_had_nothing(fake: FakeAws) -> None:
    reply = make_fleet(fake, 9)
    assert sum(len(found["InstanceIds"]) for found in reply["Instances"]) == 5
    errors = {
        error["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"]: error["ErrorCode"]
        for error in reply["Errors"]
    }
    assert errors == dict.fromkeys((ZONE_A, ZONE_B), "InsufficientInstanceCapacity")
    assert {error["Lifecycle"] for error in reply["Errors"]} == {"spot"}
    assert described(fake, reply["FleetId"])["Errors"] == reply["Errors"]


def test_a_pool_that_is_not_there_is_an_error_of_its_own(fake: FakeAws) -> None:
    overrides = [
        {"InstanceType": "c5.large", "AvailabilityZone": ZONE_A},
        {"InstanceType": "m5.large", "AvailabilityZone": ZONE_B},
    ]
    reply = make_fleet(fake, 1, overrides=overrides)
    (error,) = reply["Errors"]
    assert error["ErrorCode"] == "InvalidFleetConfiguration"
    assert error["LaunchTemplateAndOverrides"]["Overrides"]["InstanceType"] == "c5.large"
    assert [found["InstanceType"] for found in reply["Instances"]] == ["m5.large"]


def test_nothing_is_kept_below_the_smallest_capacity_to_take(fake: FakeAws) -> None:
    options = {"AllocationStrategy": "lowest-price", "MinTargetCapacity": 6, "SingleInstanceType": False}
    reply = make_fleet(fake, 9, SpotOptions=options)
    assert reply["Instances"] == []
    assert fake.bill().total == 0
    assert set(fake.held().values()) == {0}


def test_an_instant_fleet_does_not_heal(fake: FakeAws) -> None:
    reply = make_fleet(fake, 1)
    (launched,) = reply["Instances"][0]["InstanceIds"]
    fake.interrupt(launched)
    fake.advance(600)
    assert states(fake) == {launched: "terminated"}


def test_a_fleet_that_is_requested_launches_once_and_says_nothing(fake: FakeAws) -> None:
    reply = make_fleet(fake, 2, kind="request")
    assert "Instances" not in reply
    launched = active(fake, reply["FleetId"])
    assert len(launched) == 2
    fake.interrupt(*launched)
    fake.advance(1200)
    assert active(fake, reply["FleetId"]) == []


def test_weights_count_units(fake: FakeAws) -> None:
    overrides = [{"InstanceType": "m5.large", "AvailabilityZone": ZONE_A, "WeightedCapacity": 2.0}]
    reply = make_fleet(fake, 5, overrides=overrides)
    assert len(reply["Instances"][0]["InstanceIds"]) == 3
    assert described(fake, reply["FleetId"])["FulfilledCapacity"] == 6


def test_the_same_token_makes_one_fleet(fake: FakeAws) -> None:
    first, again = (make_fleet(fake, 2, ClientToken="f-1") for _ in range(2))
    assert first["FleetId"] == again["FleetId"]
    assert first["Instances"] == again["Instances"]
    assert len(states(fake)) == 2
    with pytest.raises(ClientError) as caught:
        make_fleet(fake, 3, ClientToken="f-1")
    assert code_of(caught) == "IdempotentParameterMismatch"
    with pytest.raises(ClientError) as caught:
        make_fleet(fake, 3, DryRun=True)
    assert code_of(caught) == "DryRunOperation"
    assert len(states(fake)) == 2


def test_a_maintained_fleet_heals(fake: FakeAws) -> None:
    fleet = make_fleet(fake, 3, kind="maintain", on_demand=1)["FleetId"]
    one, *_ = before = active(fake, fleet)
    fake.client("ec2").terminate_instances(InstanceIds=[one])
    assert len(active(fake, fleet)) == 2
    fake.advance(30)
    after = active(fake, fleet)
    assert len(after) == 3
    assert len(set(before) & set(after)) == 2
    assert described(fake, fleet)["FulfilledOnDemandCapacity"] == 1


def test_a_maintained_fleet_waits_for_capacity(make_fake: MakeFake) -> None:
    fake = make_fake(small_market(spot_capacity=[[0, 9, 9, 9], [0, 0, 0, 0], [9] * 4]))
    fleet = make_fleet(fake, 3, kind="maintain")["FleetId"]
    assert described(fake, fleet)["ActivityStatus"] == "error"
    assert {error["ErrorCode"] for error in described(fake, fleet)["Errors"]} == {
        "InsufficientInstanceCapacity"
    }
    fake.advance(630)
    assert described(fake, fleet)["ActivityStatus"] == "fulfilled"
    history = fake.client("ec2").describe_fleet_history(
        FleetId=fleet, StartTime=START + timedelta(seconds=600)
    )
    assert Counter(record["EventType"] for record in history["HistoryRecords"])["instance-change"] == 3


def test_a_target_can_be_changed(fake: FakeAws) -> None:
    ec2 = fake.client("ec2")
    fleet = make_fleet(fake, 4, kind="maintain")["FleetId"]
    ec2.modify_fleet(FleetId=fleet, TargetCapacitySpecification={"TotalTargetCapacity": 2})
    assert len(active(fake, fleet)) == 2
    ec2.modify_fleet(
        FleetId=fleet,
        ExcessCapacityTerminationPolicy="no-termination",
        TargetCapacitySpecification={"TotalTargetCapacity": 1},
    )
    assert len(active(fake, fleet)) == 2
    instant = make_fleet(fake, 1)["FleetId"]
    with pytest.raises(ClientError) as caught:
        ec2.modify_fleet(FleetId=instant, TargetCapacitySpecification={"TotalTargetCapacity": 2})
    assert code_of(caught) == "InvalidFleetState"


def test_capacity_rebalancing_is_for_maintained_fleets(fake: FakeAws) -> None:
    options = {
        "AllocationStrategy": "lowest-price",
        "MaintenanceStrategies": {"CapacityRebalance": {"ReplacementStrategy": "launch"}},
    }
    with pytest.raises(ClientError) as caught:
        make_fleet(fake, 1, SpotOptions=options)
    assert code_of(caught) == "InvalidParameterValue"
    fleet = make_fleet(fake, 1, kind="maintain", SpotOptions=options)["FleetId"]
    fake.interrupt(*active(fake, fleet))
    assert len(active(fake, fleet)) == 2
    fake.advance(300)
    assert len(active(fake, fleet)) == 1


def test_replacements_do_not_chase_each_other_into_a_pool_that_goes(make_fake: MakeFake) -> None:
    fake = make_fake(small_market(spot_capacity=[[10**6] * 2 + [0] * 2, [0] * 4, [0] * 4]))
    options = {
        "AllocationStrategy": "lowest-price",
        "MaintenanceStrategies": {"CapacityRebalance": {"ReplacementStrategy": "launch"}},
    }
    fleet = make_fleet(fake, 3, kind="maintain", SpotOptions=options)["FleetId"]
    fake.advance(1199)
    warned = [event.instance_id for event in fake.events()]
    assert sorted(warned) == sorted(active(fake, fleet))
    fake.advance(1)
    assert active(fake, fleet) == []


def test_deleting_a_fleet_ends_its_instances_or_lets_them_go(fake: FakeAws) -> None:
    ec2 = fake.client("ec2")
    one, two, three = (
        make_fleet(fake, 1, kind=kind)["FleetId"] for kind in ("maintain", "maintain", "instant")
    )
    kept = active(fake, two)
    ec2.delete_fleets(FleetIds=[one], TerminateInstances=True)
    reply = ec2.delete_fleets(FleetIds=[two, three, "fleet-nothing"], TerminateInstances=False)
    assert [found["FleetId"] for found in reply["SuccessfulFleetDeletions"]] == [two]
    assert [found["FleetId"] for found in reply["UnsuccessfulFleetDeletions"]] == [three, "fleet-nothing"]
    fake.advance(60)
    assert kept[0] in [name for name, state in states(fake).items() if state == "running"]
    assert Counter(states(fake).values()) == {"running": 2, "terminated": 1}


def test_fleets_that_are_over_are_forgotten(fake: FakeAws) -> None:
    ec2 = fake.client("ec2")
    instant, empty = make_fleet(fake, 1), make_fleet(fake, 0)
    fake.advance(3601)
    assert [found["FleetId"] for found in ec2.describe_fleets()["Fleets"]] == [instant["FleetId"]]
    with pytest.raises(ClientError) as caught:
        described(fake, empty["FleetId"])
    assert code_of(caught) == "InvalidFleetId.NotFound"
    ec2.terminate_instances(InstanceIds=instant["Instances"][0]["InstanceIds"])
    fake.advance(3601)
    assert ec2.describe_fleets()["Fleets"] == []


def test_templates_have_versions(fake: FakeAws) -> None:
    ec2 = fake.client("ec2")
    make_fleet(fake, 0)
    ec2.create_launch_template_version(
        LaunchTemplateName="job", SourceVersion="1", LaunchTemplateData={"InstanceType": "m5.large"}
    )
    (old, new) = ec2.describe_launch_template_versions(LaunchTemplateName="job")["LaunchTemplateVersions"]
    assert (old["DefaultVersion"], new["DefaultVersion"]) == (True, False)
    assert new["LaunchTemplateData"] == {"ImageId": "ami-1", "InstanceType": "m5.large"}
    ec2.modify_launch_template(LaunchTemplateName="job", DefaultVersion="2")
    reply = ec2.run_instances(LaunchTemplate={"LaunchTemplateName": "job"}, MinCount=1, MaxCount=1)
    assert reply["Instances"][0]["InstanceType"] == "m5.large"
    with pytest.raises(ClientError) as caught:
        ec2.create_launch_template(LaunchTemplateName="job", LaunchTemplateData={"ImageId": "ami-2"})
    assert code_of(caught) == "InvalidLaunchTemplateName.AlreadyExistsException"
    ec2.delete_launch_template(LaunchTemplateName="job")
    with pytest.raises(ClientError) as caught:
        ec2.run_instances(LaunchTemplate={"LaunchTemplateName": "job"}, MinCount=1, MaxCount=1)
    assert code_of(caught) == "InvalidLaunchTemplateName.NotFoundException"


def test_unmodelled_options_are_refused(fake: FakeAws) -> None:
    for more in (
        {"SpotOptions": {"SingleInstanceType": True}},
        {"SpotOptions": {"MaxTotalPrice": "1"}},
        {"OnDemandOptions": {"SingleAvailabilityZone": True}},
        {"overrides": [{"InstanceRequirements": {"VCpuCount": {"Min": 1}, "MemoryMiB": {"Min": 1}}}]},
    ):
        with pytest.raises(ClientError) as caught:
            make_fleet(fake, 1, **more)
        assert code_of(caught) == "Unsupported"
