"""Fetching price history: all pages, read-only, in the shape that the reader of CLI JSON takes."""

from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from botocore.client import BaseClient
from botocore.stub import Stubber

from optimizer.spot_price_history import ec2_client, fetch_history, write_history
from simulator.errors import InputError, SpotwiseError
from simulator.market.build import BuildOptions, build_market

START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)


@pytest.fixture
def client() -> BaseClient:
    made: BaseClient = boto3.client(
        "ec2", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )
    return made


def event(hour: int, price: str) -> dict[str, object]:
    return {
        "AvailabilityZone": "us-east-1a",
        "InstanceType": "m5.large",
        "ProductDescription": "Linux/UNIX",
        "SpotPrice": price,
        "Timestamp": datetime(2024, 1, 1, hour, tzinfo=UTC),
    }


REQUEST: dict[str, object] = {
    "InstanceTypes": ["m5.large"],
    "ProductDescriptions": ["Linux/UNIX"],
    "StartTime": START,
    "EndTime": END,
}


def test_all_pages_become_one_file_that_build_reads(client: BaseClient, tmp_path: Path) -> None:
    pages = []
    zones = {"Filters": [{"Name": "availability-zone", "Values": ["us-east-1a"]}]}
    with Stubber(client) as stub:
        stub.add_response(
            "describe_spot_price_history",
            {"SpotPriceHistory": [event(9, "0.05"), event(6, "0.04")], "NextToken": "more"},
            REQUEST | zones,
        )
        stub.add_response(
            "describe_spot_price_history",
            {"SpotPriceHistory": [event(6, "0.04"), event(3, "0.03")]},
            REQUEST | zones | {"NextToken": "more"},
        )
        events = fetch_history(
            client,
            instance_types=["m5.large"],
            zones=["us-east-1a"],
            products=["Linux/UNIX"],
            start=START,
            end=END,
            on_page=lambda: pages.append(1),
        )
        stub.assert_no_pending_responses()
    assert len(pages) == 2
    path = tmp_path / "deep" / "h.json"
    write_history(events, path)
    assert [file.name for file in path.parent.iterdir()] == ["h.json"]
    market = build_market([path], BuildOptions(tick_seconds=3600, on_demand_price=0.1))
    assert market.spot_price.tolist() == [[0.03, 0.03, 0.03, 0.04, 0.04, 0.04]]
    assert market.start == datetime(2024, 1, 1, 3, tzinfo=UTC)


def fetch(client: BaseClient) -> list[dict[str, str]]:
    return fetch_history(
        client, instance_types=["m5.large"], zones=[], products=["Linux/UNIX"], start=START, end=END
    )


def test_a_refusal_and_an_empty_answer_are_failures(client: BaseClient) -> None:
    with Stubber(client) as stub:
        stub.add_client_error("describe_spot_price_history", "UnauthorizedOperation", "no right to")
        with pytest.raises(SpotwiseError, match="UnauthorizedOperation"):
            fetch(client)
        stub.add_response("describe_spot_price_history", {"SpotPriceHistory": []}, REQUEST)
        with pytest.raises(SpotwiseError, match=r"AWS has no spot price of m5.large"):
            fetch(client)


def test_a_profile_that_does_not_exist_is_bad_input() -> None:
    with pytest.raises(InputError, match="profile 'nobody-here'"):
        ec2_client("us-east-1", "nobody-here")


def test_an_unwritable_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_history([], tmp_path / "file" / "h.json")
