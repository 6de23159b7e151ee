"""What the fake answers to requests that no well-behaved client sends, and where it listens."""

import json
import socket
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.fake_aws import FakeAws
from optimizer.fake_aws.api.call import matches
from simulator.errors import InputError
from simulator.market import Market, Pool
from tests.optimizer.fake_aws.scene import START, run, small_market, states

FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
EC2 = "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0"


def ask(
    fake: FakeAws, body: bytes | str, headers: dict[str, str] | None = None, path: str = "/"
) -> tuple[int, str]:
    """POST a raw body; status and text of the answer."""
    connection = HTTPConnection(urlsplit(fake.endpoint).netloc, timeout=10)
    try:
        connection.request("POST", path, body, {**FORM, "Authorization": EC2, **(headers or {})})
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def code(text: str) -> str:
    found = ElementTree.fromstring(text).iter("Code")  # noqa: S314 - our own server's reply
    return next(element.text or "" for element in found)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"Action": "LaunchRockets"}, "InvalidAction"),
        ({}, "InvalidAction"),
        ({"Action": "CreateVpc"}, "NotImplemented"),
        ({"Action": "RunInstances"}, "MissingParameter"),
        ({"Action": "RunInstances", "MinCount": "one", "MaxCount": "1"}, "InvalidParameterValue"),
        ({"Action": "RunInstances", "MinCount": "9" * 40, "MaxCount": "1"}, "InvalidParameterValue"),
        ({"Action": "RunInstances", "MinCount": "0", "MaxCount": "0"}, "InvalidParameterValue"),
        ({"Action": "RunInstances", "MinCount": "1", "MaxCount": "1", "Nonsense": "1"}, "UnknownParameter"),
        ({"Action": "DescribeInstances", "Filter.x.Name": "y"}, "InvalidParameterValue"),
        ({"Action": "DescribeInstances", "InstanceId": "i-1"}, "InvalidParameterValue"),
        (
            {"Action": "DescribeInstances", "InstanceId.1": "i-1", "InstanceId.1.x": "2"},
            "InvalidParameterValue",
        ),
        ({"Action": "DescribeInstances", "DryRun": "maybe"}, "InvalidParameterValue"),
        ({"Action": "DescribeInstances", "MaxResults": "-1"}, "InvalidParameterValue"),
        ({"Action": "DescribeInstances", "NextToken": "made up"}, "InvalidNextToken"),
        ({"Action": "DescribeInstances", "NextToken": "WzFd"}, "InvalidNextToken"),
        ({"Action": "DescribeSpotPriceHistory", "StartTime": "soon"}, "InvalidParameterValue"),
        ({"Action": "DescribeInstances", ".".join("a" * 50): "1"}, "InvalidParameterValue"),
        ({"Action": "CreateTags", "ResourceId.1": "i-1", "Tag.1.Key": "a\x00b"}, "InvalidParameterValue"),
        ({"Action": "CreateFleet", "Type": "sideways"}, "InvalidParameterValue"),
    ],
)
def test_unusable_requests_get_the_error_of_aws(fake: FakeAws, fields: dict[str, str], expected: str) -> None:
    status, text = ask(fake, urlencode({**fields, "Version": "2016-11-15"}))
    assert code(text) == expected
    assert status in (400, 501)


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"Action=Describe%ff", b"Action", b"&&&", b"a=1&" * 30_000, b"{}", b"<x/>"]
)
def test_unreadable_bodies_get_an_error_and_the_fake_lives_on(fake: FakeAws, body: bytes) -> None:
    status, text = ask(fake, body)
    assert (status, code(text) != "") == (400, True)
    assert len(run(fake)) == 1


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{", '{"QueueUrl": 7}', '{"QueueUrl": "x", "MaxNumberOfMessages": true}', "[" * 100_000],
)
def test_unreadable_documents_get_an_error_of_the_json_protocol(fake: FakeAws, body: str) -> None:
    headers = {"X-Amz-Target": "AmazonSQS.ReceiveMessage", "Content-Type": "application/x-amz-json-1.0"}
    headers["Authorization"] = EC2.replace("/ec2/", "/sqs/")
    status, text = ask(fake, body, headers)
    assert status == 400
    assert json.loads(text)["__type"].startswith("com.amazonaws.sqs#")


def test_services_and_regions_that_are_not_there_are_named(fake: FakeAws) -> None:
    _, text = ask(fake, "Action=ListUsers", {"Authorization": EC2.replace("/ec2/", "/iam/")})
    assert code(text) == "UnrecognizedClientException"
    _, text = ask(
        fake, "Action=DescribeInstances", {"Authorization": EC2.replace("/us-east-1/", "/mars-north-1/")}
    )
    assert "us-east-1, us-west-2" in text


def test_unsigned_requests_go_to_the_first_region(fake: FakeAws) -> None:
    (launched,) = run(fake)
    status, text = ask(fake, "Action=DescribeInstances&Version=2016-11-15", {"Authorization": ""})
    assert (status, launched in text) == (200, True)


def test_bodies_of_absurd_size_are_not_read(fake: FakeAws) -> None:
    for length, expected in (("99999999999", "413"), ("-1", "411"), ("x", "411")):
        with socket.create_connection(("127.0.0.1", urlsplit(fake.endpoint).port or 0), timeout=10) as raw:
            raw.sendall(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
            assert raw.recv(100).split()[1].decode() == expected


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    action=st.sampled_from(["RunInstances", "DescribeInstances", "CreateFleet", "CreateTags", "Nothing"]),
    fields=st.dictionaries(
        st.sampled_from(
            [
                "MinCount",
                "MaxCount",
                "ImageId",
                "InstanceType",
                "Filter.1.Name",
                "Filter.1.Value.1",
                "ClientToken",
                "TargetCapacitySpecification.TotalTargetCapacity",
                "LaunchTemplateConfigs.1.Overrides.1.InstanceType",
                "ResourceId.1",
                "Tag.1.Key",
                "NextToken",
                "DryRun",
            ]
        ),
        st.text(max_size=20) | st.integers(-(10**20), 10**20).map(str),
    ),
)
def test_whatever_is_asked_is_answered_as_aws_would(
    fake: FakeAws, action: str, fields: dict[str, str]
) -> None:
    body = urlencode({"Action": action, "Version": "2016-11-15", **fields}, errors="surrogatepass")
    status, text = ask(fake, body)
    assert status in (200, 400, 412, 500, 501)
    ElementTree.fromstring(text)  # noqa: S314 - our own server's reply; that it parses is the test
    assert all(state == "running" for state in states(fake).values())


@given(
    pattern=st.text("ab*?", max_size=8),
    text=st.text("ab", max_size=8),
)
def test_wildcards_match_as_in_a_shell(pattern: str, text: str) -> None:
    from fnmatch import fnmatchcase

    assert matches(pattern, text) == fnmatchcase(text, pattern)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "::", "example.com", ""])  # noqa: S104 - refused
def test_it_listens_on_this_machine_only(host: str) -> None:
    with pytest.raises(InputError, match=r"accepted: 127.0.0.1 or ::1"):
        FakeAws(small_market(), host=host)


def test_a_port_that_is_taken_is_named(fake: FakeAws) -> None:
    port = urlsplit(fake.endpoint).port or 0
    with pytest.raises(InputError, match=f"port {port} cannot be had"):
        FakeAws(small_market(), port=port)
    with pytest.raises(InputError, match="port 70000"):
        FakeAws(small_market(), port=70_000)


def test_markets_that_aws_could_not_have_are_refused() -> None:
    one = Pool("aws", "us-east-1", "us-east-1a", "m5.large")
    for other in (
        Pool("gcp", "us-east-1", "us-east-1a", "m5.large"),
        Pool("aws", "us-east-2", "us-east-1a", "c5.large"),
    ):
        market = Market.build(
            [one, other],
            tick_seconds=60,
            start=START,
            spot_price=0.1,
            spot_capacity=[[1], [1]],
            on_demand_price=1.0,
        )
        with pytest.raises(InputError, match="accepted"):
            FakeAws(market)


def test_the_caller_is_who_signed(fake: FakeAws) -> None:
    identity = fake.client("sts").get_caller_identity()
    assert identity["Arn"] == "arn:aws:iam::123456789012:user/fake"


def test_places_are_those_of_the_market(fake: FakeAws) -> None:
    ec2 = fake.client("ec2")
    assert [region["RegionName"] for region in ec2.describe_regions()["Regions"]] == [
        "us-east-1",
        "us-west-2",
    ]
    zones = ec2.describe_availability_zones()["AvailabilityZones"]
    assert [zone["ZoneName"] for zone in zones] == ["us-east-1a", "us-east-1b"]
    offerings = ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["m5.*"]}]
    )["InstanceTypeOfferings"]
    assert {offer["Location"] for offer in offerings} == {"us-east-1a", "us-east-1b"}
