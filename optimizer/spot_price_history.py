"""Collecting AWS spot price history: one read-only call, all its pages, in the shape of the AWS CLI."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
from botocore.client import BaseClient
from botocore.config import Config

from simulator.errors import InputError, SpotwiseError
from simulator.whole_file import write_whole


def ec2_client(region: str, profile: str | None = None) -> BaseClient:
    """An EC2 client that waits out throttling.

    Raises:
        InputError: The region or profile is unusable.
    """
    try:
        session = boto3.Session(profile_name=profile, region_name=region)
        client: BaseClient = session.client(
            "ec2", config=Config(retries={"mode": "standard", "max_attempts": 8})
        )
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise InputError(
            f"AWS region {region!r}, profile {profile!r}: {error}; accepted: existing ones"
        ) from error
    return client


def fetch_history(
    client: BaseClient,
    *,
    instance_types: Sequence[str],
    zones: Sequence[str],
    products: Sequence[str],
    start: datetime,
    end: datetime,
    on_page: Callable[[], None] = lambda: None,
) -> list[dict[str, str]]:
    """All pages of `DescribeSpotPriceHistory`.

    AWS also returns the last change before `start`: the price in force then.

    Args:
        client: EC2 client of one region.
        instance_types: Instance types.
        zones: Availability zones; empty means all of the region.
        products: Product descriptions.
        start: Aware time from which on.
        end: Aware time until when.
        on_page: Called after each page, for progress.

    Returns:
        Events as the AWS CLI writes them, newest first as they came.

    Raises:
        SpotwiseError: AWS refused or could not be reached, or it has no event.
    """
    request: dict[str, Any] = {
        "InstanceTypes": list(instance_types),
        "ProductDescriptions": list(products),
        "StartTime": start,
        "EndTime": end,
    }
    if zones:
        request["Filters"] = [{"Name": "availability-zone", "Values": list(zones)}]
    events: list[dict[str, str]] = []
    try:
        for page in client.get_paginator("describe_spot_price_history").paginate(**request):
            for event in page.get("SpotPriceHistory", []):
                events.append(
                    {
                        "AvailabilityZone": event["AvailabilityZone"],
                        "InstanceType": event["InstanceType"],
                        "ProductDescription": event["ProductDescription"],
                        "SpotPrice": event["SpotPrice"],
                        "Timestamp": event["Timestamp"].astimezone(UTC).isoformat(),
                    }
                )
            on_page()
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise SpotwiseError(f"DescribeSpotPriceHistory failed: {error}") from error
    if not events:
        raise SpotwiseError(
            f"AWS has no spot price of {', '.join(instance_types)} ({', '.join(products)}) "
            f"from {start} to {end}; check types, zones and products"
        )
    return events


def write_history(events: Sequence[dict[str, str]], path: Path) -> None:
    """Write events to `path`, whole or not at all, as `aws ec2 describe-spot-price-history` prints them.

    Raises:
        InputError: The file cannot be written.
    """
    write_whole(path, json.dumps({"SpotPriceHistory": list(events)}, indent=4) + "\n")
