"""A small market, and how tests talk to a fake AWS on top of it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from optimizer.fake_aws import FakeAws
from simulator.market import Market, Pool

START = datetime(2026, 1, 1, tzinfo=UTC)
ZONE_A, ZONE_B, ZONE_C = "us-east-1a", "us-east-1b", "us-west-2a"


def small_market(**changes: Any) -> Market:
    """Three pools over four ticks of 600 s; the first loses two of its three instances at tick 2."""
    given = {
        "spot_price": [[0.1, 0.1, 0.2, 0.2], [0.3, 0.3, 0.3, 0.3], [0.5] * 4],
        "spot_capacity": [[3, 3, 1, 3], [2, 2, 2, 2], [9, 9, 9, 9]],
        "on_demand_price": [1.0, 1.0, 2.0],
        **changes,
    }
    pools = [
        Pool("aws", "us-east-1", ZONE_A, "m5.large"),
        Pool("aws", "us-east-1", ZONE_B, "m5.large"),
        Pool("aws", "us-west-2", ZONE_C, "c5.large"),
    ]
    return Market.build(pools, tick_seconds=600, start=START, **given)


MakeFake = Callable[..., FakeAws]

SPOT = {"MarketType": "spot"}


def run(fake: FakeAws, count: int = 1, zone: str = ZONE_A, *, spot: bool = True, **more: Any) -> list[str]:
    """Launch instances through boto3; their ids."""
    region = zone[:-1]
    request: dict[str, Any] = {
        "ImageId": "ami-1",
        "InstanceType": "c5.large" if zone == ZONE_C else "m5.large",
        "MinCount": count,
        "MaxCount": count,
        "Placement": {"AvailabilityZone": zone},
        **({"InstanceMarketOptions": SPOT} if spot else {}),
        **more,
    }
    reply = fake.client("ec2", region).run_instances(**request)
    return [instance["InstanceId"] for instance in reply["Instances"]]


def states(fake: FakeAws, region: str = "us-east-1", **request: Any) -> dict[str, str]:
    """State by instance id, as `describe_instances` shows it."""
    reply = fake.client("ec2", region).describe_instances(**request)
    return {
        instance["InstanceId"]: instance["State"]["Name"]
        for reservation in reply["Reservations"]
        for instance in reservation["Instances"]
    }


def instance_of(fake: FakeAws, name: str, region: str = "us-east-1") -> dict[str, Any]:
    """One instance as `describe_instances` shows it."""
    reply = fake.client("ec2", region).describe_instances(InstanceIds=[name])
    ((instance,),) = (reservation["Instances"] for reservation in reply["Reservations"])
    found: dict[str, Any] = instance
    return found


def messages(fake: FakeAws, region: str = "us-east-1") -> list[dict[str, Any]]:
    """Receive and delete everything in the notice queue; the events."""
    sqs = fake.client("sqs", region)
    url = sqs.get_queue_url(QueueName="spotwise-notices")["QueueUrl"]
    found: list[dict[str, Any]] = []
    while batch := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        found += [json.loads(message["Body"]) for message in batch]
        entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(batch)]
        sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    return found


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> str:
    """The AWS error code of a refused call."""
    return str(caught.value.response["Error"]["Code"])
