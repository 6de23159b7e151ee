"""EC2 instances on the fake, through the real boto3 client."""

from datetime import UTC, timedelta
from fractions import Fraction

import pytest
from botocore.exceptions import ClientError

from optimizer.fake_aws import FakeAws
from tests.optimizer.fake_aws.scene import (
    SPOT,
    START,
    ZONE_A,
    ZONE_B,
    MakeFake,
    code_of,
    instance_of,
    messages,
    run,
    small_market,
    states,
)


def test_spot_launches_succeed_within_capacity_only(fake: FakeAws) -> None:
    launched = run(fake, 2)
    with pytest.raises(ClientError) as caught:
        run(fake, 2)
    assert code_of(caught) == "InsufficientInstanceCapacity"
    assert ZONE_A in str(caught.value)
    launched += run(fake, 1)
    assert states(fake) == dict.fromkeys(launched, "running")
    assert fake.held()["aws/us-east-1a/m5.large"] == 3


def test_min_and_max_count_launch_as_many_as_there_are(fake: FakeAws) -> None:
    assert len(run(fake, MinCount=1, MaxCount=9)) == 3


def test_on_demand_is_granted_whatever_the_spot_capacity(fake: FakeAws) -> None:
    assert len(run(fake, 50, spot=False)) == 50
    assert "InstanceLifecycle" not in instance_of(fake, run(fake, spot=False)[0])


def test_on_demand_capacity_can_be_made_scarce(fake: FakeAws) -> None:
    (first,) = run(fake, spot=False)
    fake.limit_on_demand("aws/us-east-1a/m5.large", 2)
    with pytest.raises(ClientError) as caught:
        run(fake, 2, spot=False)
    assert code_of(caught) == "InsufficientInstanceCapacity"
    assert len(run(fake, spot=False, MinCount=1, MaxCount=5)) == 1
    run(fake, 3)
    fake.client("ec2").terminate_instances(InstanceIds=[first])
    assert len(run(fake, 1, spot=False)) == 1
    fake.limit_on_demand("aws/us-east-1a/m5.large", None)
    assert len(run(fake, 9, spot=False)) == 9


def test_a_terminated_instance_gives_its_capacity_back(fake: FakeAws) -> None:
    launched = run(fake, 3)
    reply = fake.client("ec2").terminate_instances(InstanceIds=launched[:1])
    (change,) = reply["TerminatingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "shutting-down")
    assert len(run(fake, 1)) == 1
    shown = instance_of(fake, launched[0])
    assert shown["State"]["Name"] == "terminated"
    assert shown["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert shown["StateTransitionReason"] == "User initiated (2026-01-01 00:00:00 GMT)"


def test_a_zone_is_chosen_where_none_is_given(fake: FakeAws) -> None:
    launched = run(fake, 3, Placement={})
    launched += run(fake, 2, Placement={})
    zones = [instance_of(fake, name)["Placement"]["AvailabilityZone"] for name in launched]
    assert sorted(zones) == [ZONE_A] * 3 + [ZONE_B] * 2


def test_a_subnet_names_its_zone(fake: FakeAws) -> None:
    subnets = fake.client("ec2").describe_subnets()["Subnets"]
    (subnet,) = (s["SubnetId"] for s in subnets if s["AvailabilityZone"] == ZONE_B)
    (launched,) = run(fake, Placement={}, SubnetId=subnet)
    assert instance_of(fake, launched)["Placement"]["AvailabilityZone"] == ZONE_B


def test_the_youngest_are_warned_and_then_taken_when_capacity_goes(fake: FakeAws) -> None:
    eldest, *others = (run(fake)[0] for _ in range(3))
    fake.advance(2 * 600 - 121)
    assert messages(fake) == []
    fake.advance(1)
    warned = {m["detail"]["instance-id"] for m in messages(fake)}
    assert warned == set(others)
    assert set(states(fake).values()) == {"running"}
    fake.advance(120)
    assert states(fake) == {eldest: "running", **dict.fromkeys(others, "terminated")}
    shown = instance_of(fake, others[0])
    assert shown["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert shown["StateTransitionReason"] == "Service initiated (2026-01-01 00:20:00 GMT)"


def test_the_warning_has_the_form_of_eventbridge(fake: FakeAws) -> None:
    (launched,) = run(fake)
    fake.interrupt(launched)
    (event,) = messages(fake)
    assert event["detail-type"] == "EC2 Spot Instance Interruption Warning"
    assert event["source"] == "aws.ec2"
    assert event["detail"] == {"instance-id": launched, "instance-action": "terminate"}
    assert (event["region"], event["time"]) == ("us-east-1", "2026-01-01T00:00:00Z")
    assert event["resources"] == [f"arn:aws:ec2:{ZONE_A}:instance/{launched}"]
    fake.advance(119)
    assert states(fake) == {launched: "running"}
    fake.advance(1)
    assert states(fake) == {launched: "terminated"}


def test_a_launch_into_capacity_that_is_about_to_go_is_warned_at_once(fake: FakeAws) -> None:
    fake.advance(2 * 600 - 60)
    run(fake, 3)
    assert len(messages(fake)) == 2
    fake.advance(60)
    assert sorted(states(fake).values()) == ["running", "terminated", "terminated"]


def test_without_notice_the_warning_comes_with_the_interruption(make_fake: MakeFake) -> None:
    fake = make_fake(notice_seconds=0)
    run(fake, 3)
    fake.advance(2 * 600 - 1)
    assert messages(fake) == []
    fake.advance(1)
    assert len(messages(fake)) == 2
    assert sorted(states(fake).values()) == ["running", "terminated", "terminated"]


def test_a_price_above_the_highest_price_to_pay_interrupts(fake: FakeAws) -> None:
    dear = {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.15"}}
    (launched,) = run(fake, InstanceMarketOptions=dear)
    fake.advance(2 * 600)
    assert states(fake) == {launched: "terminated"}
    with pytest.raises(ClientError) as caught:
        run(fake, InstanceMarketOptions=dear)
    assert code_of(caught) == "SpotMaxPriceTooLow"


def test_the_bill_is_the_sum_of_prices_over_time(fake: FakeAws) -> None:
    (spot,) = run(fake)
    (on_demand,) = run(fake, spot=False)
    fake.advance(2 * 600 + 90)  # two ticks at 0.1 and 90 s at 0.2
    fake.client("ec2").terminate_instances(InstanceIds=[on_demand])
    fake.advance(10_000)
    bill = fake.bill()
    assert bill.instances[on_demand] == Fraction(1290, 3600)
    spot_seconds = 1200 * Fraction(1, 10) + (90 + 10_000) * Fraction(2, 10)
    assert bill.instances[spot] == spot_seconds / 3600
    assert bill.total == sum(bill.instances.values())


def test_instances_of_the_past_stay_on_the_bill(fake: FakeAws) -> None:
    (launched,) = run(fake)
    fake.advance(600)
    fake.client("ec2").terminate_instances(InstanceIds=[launched])
    fake.advance(3601)
    assert states(fake) == {}
    assert fake.bill().instances == {launched: Fraction(1, 60)}


def test_the_same_token_and_parameters_launch_once(fake: FakeAws) -> None:
    first, again = (run(fake, 2, ClientToken="t-1") for _ in range(2))
    assert first == again == list(states(fake))
    with pytest.raises(ClientError) as caught:
        run(fake, 1, ClientToken="t-1")
    assert code_of(caught) == "IdempotentParameterMismatch"


def test_a_launch_that_failed_may_be_tried_again_with_its_token(fake: FakeAws) -> None:
    others = run(fake, 3)
    with pytest.raises(ClientError):
        run(fake, ClientToken="t-1")
    fake.client("ec2").terminate_instances(InstanceIds=others)
    assert len(run(fake, ClientToken="t-1")) == 1


def test_a_dry_run_launches_nothing(fake: FakeAws) -> None:
    with pytest.raises(ClientError) as caught:
        run(fake, DryRun=True)
    assert code_of(caught) == "DryRunOperation"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert states(fake) == {}


def test_terminating_an_unknown_instance_touches_none(fake: FakeAws) -> None:
    (launched,) = run(fake)
    with pytest.raises(ClientError) as caught:
        fake.client("ec2").terminate_instances(InstanceIds=[launched, f"i-{0:017x}"])
    assert code_of(caught) == "InvalidInstanceID.NotFound"
    with pytest.raises(ClientError) as caught:
        fake.client("ec2").terminate_instances(InstanceIds=["i-1 or 1=1"])
    assert code_of(caught) == "InvalidInstanceID.Malformed"
    assert states(fake) == {launched: "running"}


def test_filters_select_by_tag_state_and_wildcard(fake: FakeAws) -> None:
    def tagged(value: str) -> list[dict[str, object]]:
        return [{"ResourceType": "instance", "Tags": [{"Key": "spotwise:workload", "Value": value}]}]

    (web,) = run(fake, TagSpecifications=tagged("web <1> & more"))
    (batch,) = run(fake, TagSpecifications=tagged("batch"), spot=False)
    for name, values, expected in (
        ("tag:spotwise:workload", ["web*"], {web}),
        ("tag:spotwise:workload", ["b?tch"], {batch}),
        ("tag:spotwise:workload", ["nothing", "batch"], {batch}),
        ("tag-key", ["spotwise:*"], {web, batch}),
        ("instance-lifecycle", ["spot"], {web}),
        ("instance-state-name", ["terminated"], set()),
        ("availability-zone", [ZONE_B], set()),
    ):
        assert set(states(fake, Filters=[{"Name": name, "Values": values}])) == expected
    with pytest.raises(ClientError) as caught:
        states(fake, Filters=[{"Name": "no-such-filter", "Values": ["x"]}])
    assert code_of(caught) == "InvalidParameterValue"
    assert instance_of(fake, web)["Tags"] == [{"Key": "spotwise:workload", "Value": "web <1> & more"}]


def test_tags_can_be_set_and_removed_later(fake: FakeAws) -> None:
    ec2 = fake.client("ec2")
    (launched,) = run(fake)
    ec2.create_tags(Resources=[launched], Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    ec2.delete_tags(Resources=[launched], Tags=[{"Key": "a"}, {"Key": "b", "Value": "other"}])
    (tag,) = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [launched]}])["Tags"]
    assert (tag["Key"], tag["Value"], tag["ResourceType"]) == ("b", "2", "instance")
    with pytest.raises(ClientError) as caught:
        ec2.create_tags(Resources=[launched, "i-nothing"], Tags=[{"Key": "c", "Value": "3"}])
    assert code_of(caught) == "InvalidID"
    assert len(instance_of(fake, launched)["Tags"]) == 1


def test_pages_leave_nothing_out_when_instances_go_between_them(fake: FakeAws) -> None:
    launched = run(fake, 12, spot=False)
    ec2 = fake.client("ec2")
    pages = [ec2.describe_instances(MaxResults=5)]
    ec2.terminate_instances(InstanceIds=launched[:5])
    fake.advance(3601)
    while token := pages[-1].get("NextToken"):
        pages.append(ec2.describe_instances(MaxResults=5, NextToken=token))
    found = [i["InstanceId"] for page in pages for r in page["Reservations"] for i in r["Instances"]]
    assert found == launched
    assert len(pages) == 3


def test_boot_and_shutdown_take_their_time(make_fake: MakeFake) -> None:
    fake = make_fake(boot_seconds=30, shutdown_seconds=20)
    (launched,) = run(fake)
    assert states(fake) == {launched: "pending"}
    fake.advance(30)
    assert states(fake) == {launched: "running"}
    fake.client("ec2").terminate_instances(InstanceIds=[launched])
    assert states(fake) == {launched: "shutting-down"}
    fake.advance(20)
    assert states(fake) == {launched: "terminated"}


def test_status_shows_running_instances_unless_asked_for_all(make_fake: MakeFake) -> None:
    fake = make_fake(boot_seconds=30)
    ec2 = fake.client("ec2")
    (launched,) = run(fake)
    assert ec2.describe_instance_status()["InstanceStatuses"] == []
    (status,) = ec2.describe_instance_status(IncludeAllInstances=True)["InstanceStatuses"]
    assert (status["InstanceState"]["Name"], status["InstanceStatus"]["Status"]) == (
        "pending",
        "initializing",
    )
    fake.advance(30)
    (status,) = ec2.describe_instance_status(InstanceIds=[launched])["InstanceStatuses"]
    assert (status["InstanceState"]["Name"], status["InstanceStatus"]["Status"]) == ("running", "ok")


def test_describe_calls_lag_behind(make_fake: MakeFake) -> None:
    fake = make_fake(consistency_seconds=5)
    (launched,) = run(fake)
    assert states(fake) == {}
    with pytest.raises(ClientError) as caught:
        states(fake, InstanceIds=[launched])
    assert code_of(caught) == "InvalidInstanceID.NotFound"
    fake.advance(5)
    assert states(fake) == {launched: "running"}
    fake.client("ec2").terminate_instances(InstanceIds=[launched])
    assert states(fake) == {launched: "running"}
    fake.advance(5)
    assert states(fake) == {launched: "terminated"}


def test_regions_are_apart(fake: FakeAws) -> None:
    run(fake, 2)
    (west,) = run(fake, zone="us-west-2a")
    assert list(states(fake, "us-west-2")) == [west]
    with pytest.raises(ClientError) as caught:
        fake.client("ec2", "us-west-2").terminate_instances(InstanceIds=list(states(fake)))
    assert code_of(caught) == "InvalidInstanceID.NotFound"
    with pytest.raises(ClientError) as caught:
        fake.client("ec2", "eu-nowhere-9").describe_instances()
    assert "us-east-1, us-west-2" in str(caught.value)


def test_spot_requests_say_why_an_instance_ended(fake: FakeAws) -> None:
    taken, ended, running = run(fake, 3)
    fake.interrupt(taken)
    fake.client("ec2").terminate_instances(InstanceIds=[ended])

    def statuses() -> dict[str, str]:
        requests = fake.client("ec2").describe_spot_instance_requests()["SpotInstanceRequests"]
        return {request["InstanceId"]: request["Status"]["Code"] for request in requests}

    assert statuses()[taken] == "marked-for-termination"
    fake.advance(120)
    assert statuses() == {
        taken: "instance-terminated-no-capacity",
        ended: "instance-terminated-by-user",
        running: "fulfilled",
    }


def test_prices_come_as_changes_newest_first_with_the_one_in_force(fake: FakeAws) -> None:
    fake.advance(4 * 600 - 1)
    ec2 = fake.client("ec2")
    request = {
        "InstanceTypes": ["m5.large"],
        "ProductDescriptions": ["Linux/UNIX"],
        "AvailabilityZone": ZONE_A,
    }
    history = ec2.describe_spot_price_history(StartTime=START, **request)["SpotPriceHistory"]
    assert [(event["SpotPrice"], event["Timestamp"].astimezone(UTC) - START) for event in history] == [
        ("0.200000", timedelta(seconds=1200)),
        ("0.100000", timedelta(0)),
    ]
    in_force = ec2.describe_spot_price_history(StartTime=START + timedelta(seconds=700), **request)
    assert [event["SpotPrice"] for event in in_force["SpotPriceHistory"]] == ["0.200000", "0.100000"]
    now = ec2.describe_spot_price_history(StartTime=START + timedelta(seconds=2000), **request)
    assert [event["SpotPrice"] for event in now["SpotPriceHistory"]] == ["0.200000"]


def test_prices_of_the_future_are_not_told(fake: FakeAws) -> None:
    far = START + timedelta(days=1)
    history = fake.client("ec2").describe_spot_price_history(StartTime=START, EndTime=far)["SpotPriceHistory"]
    assert {event["SpotPrice"] for event in history} == {"0.100000", "0.300000"}


def test_prices_keep_every_digit_of_the_market(make_fake: MakeFake) -> None:
    fake = make_fake(small_market(spot_price=0.1 + 0.2))
    history = fake.client("ec2").describe_spot_price_history()["SpotPriceHistory"]
    assert {float(event["SpotPrice"]) for event in history} == {0.1 + 0.2}


def test_prices_come_in_pages(fake: FakeAws) -> None:
    fake.advance(4 * 600 - 1)
    pages = fake.client("ec2").get_paginator("describe_spot_price_history")
    events = [
        (event["Timestamp"], event["AvailabilityZone"])
        for page in pages.paginate(StartTime=START, MaxResults=1)
        for event in page["SpotPriceHistory"]
    ]
    assert len(events) == len(set(events)) == 3
    assert [at for at, _ in events] == sorted((at for at, _ in events), reverse=True)


def test_placement_scores_follow_the_free_capacity(fake: FakeAws) -> None:
    ec2 = fake.client("ec2")

    def scores() -> dict[str, int]:
        found = ec2.get_spot_placement_scores(
            InstanceTypes=["m5.large"], TargetCapacity=3, SingleAvailabilityZone=True
        )["SpotPlacementScores"]
        return {score["AvailabilityZoneId"]: score["Score"] for score in found}

    assert scores() == {ZONE_A: 10, ZONE_B: 7}
    run(fake, 3)
    assert scores() == {ZONE_A: 1, ZONE_B: 7}


def test_rebalance_recommendations_keep_their_precision_and_recall(make_fake: MakeFake) -> None:
    ticks, many = 60, 40
    capacity = [[many if tick % 2 == 0 else many - 4 for tick in range(ticks)]] * 3
    fake = make_fake(
        small_market(spot_capacity=capacity, spot_price=0.1),
        rebalance_recall=0.5,
        rebalance_precision=0.25,
    )
    for tick in range(ticks):
        if tick % 2 == 0:
            launched = run(fake, MinCount=1, MaxCount=many)
        fake.advance(600)
        if tick % 2 == 1:
            fake.client("ec2").terminate_instances(InstanceIds=launched)
    kinds: dict[str, set[str]] = {"taken": set(), "recommended": set()}
    for event in fake.events():
        kinds["recommended" if "Rebalance" in event.kind else "taken"].add(event.instance_id)
    right = kinds["taken"] & kinds["recommended"]
    assert len(kinds["taken"]) == 4 * ticks // 2
    assert len(right) / len(kinds["taken"]) == pytest.approx(0.5, abs=0.15)
    assert len(right) / len(kinds["recommended"]) == pytest.approx(0.25, abs=0.15)


def test_unmodelled_requests_are_refused_and_not_misread(fake: FakeAws) -> None:
    for market in (
        {**SPOT, "SpotOptions": {"SpotInstanceType": "persistent"}},
        {**SPOT, "SpotOptions": {"InstanceInterruptionBehavior": "stop"}},
    ):
        with pytest.raises(ClientError) as caught:
            run(fake, InstanceMarketOptions=market)
        assert code_of(caught) == "Unsupported"
    with pytest.raises(ClientError) as caught:
        run(fake, InstanceType="c5.large")
    assert code_of(caught) == "InvalidParameterValue"
