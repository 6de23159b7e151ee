"""`spotwise fake-aws` as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.optimizer.fake_aws.scene import ZONE_A, small_market


@pytest.fixture
def market(tmp_path: Path) -> Path:
    path = tmp_path / "market.npz"
    small_market().save(path)
    return path


def start(market: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "optimizer.cli", "fake-aws", "--market", str(market), "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def running(market: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = start(
        market, "--json", "--instant", "--clock", "manual", "--start-tick", "1", "--template", "mine"
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        told = json.loads(process.stdout.readline())
        assert told["queue_urls"]["us-west-2"] == f"{told['endpoint']}/123456789012/spotwise-notices"
        yield process, told["endpoint"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def client(endpoint: str, service: str) -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload]  # overloaded per service name in the stubs
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id="fake",
        aws_secret_access_key="fake",
        config=Config(retries={"total_max_attempts": 1}),
    )


def side_door(endpoint: str, name: str, document: Any = None, content_type: str = "application/json") -> Any:
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(f"{endpoint}/_fake/{name}", body, {"Content-Type": content_type})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - loopback
        return json.load(reply)


def test_the_process_serves_boto3_and_stops_when_told(running: tuple[subprocess.Popen[str], str]) -> None:
    process, endpoint = running
    ec2 = client(endpoint, "ec2")
    launched = ec2.run_instances(
        LaunchTemplate={"LaunchTemplateName": "mine"},
        InstanceType="m5.large",
        MinCount=3,
        MaxCount=3,
        Placement={"AvailabilityZone": ZONE_A},
        InstanceMarketOptions={"MarketType": "spot"},
    )["Instances"]
    side_door(endpoint, "advance", {"seconds": 600})  # into tick 2, which takes two of the three
    status = side_door(endpoint, "status")
    assert (status["tick"], status["spot_held"]) == (2, {"aws/us-east-1a/m5.large": 1})
    assert status["cost_usd"] == pytest.approx(3 * 0.1 / 6)
    left = launched[0]["InstanceId"]
    assert side_door(endpoint, "interrupt", {"youngest": 5}) == {"instance_ids": [left]}, "one is left"
    assert side_door(endpoint, "interrupt", {"youngest": 5}) == {"instance_ids": []}, "it is warned once"
    side_door(endpoint, "fault", {"kind": "unreachable", "action": "DescribeInstances", "times": 1})
    sqs = client(endpoint, "sqs")
    url = sqs.get_queue_url(QueueName="spotwise-notices")["QueueUrl"]
    notices = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert len(notices) == 3
    (call,) = side_door(endpoint, "calls?after=0")["calls"]
    assert (call["action"], call["acted"], call["access_key"]) == ("RunInstances", True, "fake")
    assert side_door(endpoint, "bill")["instances_usd"][left] == pytest.approx(0.1 / 6)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(output)["instances"] == 3


def test_the_side_door_refuses_what_it_cannot_use(running: tuple[subprocess.Popen[str], str]) -> None:
    _, endpoint = running
    for name, document, content_type in (
        ("advance", {"seconds": "soon"}, "application/json"),
        ("advance", [], "application/json"),
        ("fault", {"kind": "throttle", "colour": "red"}, "application/json"),
        ("fault", {"kind": "explosion"}, "application/json"),
        ("interrupt", {"instance_ids": ["i-1"]}, "application/json"),
        ("interrupt", {"youngest": 0}, "application/json"),
        ("clear-faults", {}, "text/plain"),
        ("nothing", {}, "application/json"),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            side_door(endpoint, name, document, content_type)
        with caught.value:
            assert caught.value.code in (400, 404)
            assert "error" in json.load(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--host", "0.0.0.0"), "accepted: 127.0.0.1 or ::1"),  # noqa: S104 - refused
        (("--start-tick", "4"), "accepted: 0 to 3"),
        (("--speed", "0"), "accepted: above 0"),
        (("--market", "nothing.npz"), "no such file"),
    ],
)
def test_bad_input_ends_with_a_message(market: Path, options: tuple[str, ...], expected: str) -> None:
    process = start(market, *options)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert expected in errors
    assert "Traceback" not in errors


def test_it_says_how_to_reach_it(market: Path) -> None:
    process = start(market)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert "AWS_ENDPOINT_URL=http://127.0.0.1:" in lines[1]
    assert "launch template: spotwise; notices: http://127.0.0.1:" in lines[3]
    assert "0 instances" in output
    assert process.returncode == 0
    assert "AWS_ENDPOINT_URL" not in os.environ
