"""The same calls against moto and against the fake: what both know, they must say alike."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws

from optimizer.fake_aws import FakeAws
from tests.optimizer.fake_aws.scene import small_market

REGION = "us-east-1"
MIX = {
    "LaunchTemplate": {
        "LaunchTemplateSpecification": {"LaunchTemplateName": "web", "Version": "$Latest"},
        "Overrides": [{"InstanceType": "m5.large"}],
    },
    "InstancesDistribution": {"OnDemandBaseCapacity": 1, "OnDemandPercentageAboveBaseCapacity": 0},
}


class Moto:
    """Clients of moto, made as `FakeAws.client` makes them."""

    def client(self, service: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]  # overloaded per service name in the stubs
            region_name=REGION,
            aws_access_key_id="fake",
            aws_secret_access_key="fake",
            config=Config(retries={"total_max_attempts": 1}),
        )


@pytest.fixture(params=["moto", "fake"])
def cloud(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "moto":
        with mock_aws():
            yield Moto()
    else:
        with FakeAws(small_market()) as fake:
            yield fake


def refusal(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def image(cloud: Any) -> str:
    if isinstance(cloud, Moto):  # moto runs images that it knows only
        return str(cloud.client("ec2").describe_images()["Images"][0]["ImageId"])
    return "ami-1"


def test_an_instance_from_launch_to_end(cloud: Any) -> None:
    ec2 = cloud.client("ec2")
    zone = {"AvailabilityZone": "us-east-1a"}
    request = {"ImageId": image(cloud), "InstanceType": "m5.large", "MinCount": 2, "MaxCount": 2}
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "job", "Value": "a"}]}]
    assert refusal(ec2.run_instances, **request, DryRun=True) == "DryRunOperation"
    spot = {"MarketType": "spot"}
    reply = ec2.run_instances(**request, Placement=zone, TagSpecifications=tags, InstanceMarketOptions=spot)
    assert [instance["State"]["Name"] for instance in reply["Instances"]] == ["pending"] * 2
    names = [instance["InstanceId"] for instance in reply["Instances"]]
    only = [{"Name": "tag:job", "Values": ["a"]}]
    (reservation,) = ec2.describe_instances(Filters=only)["Reservations"]
    assert reservation["ReservationId"] == reply["ReservationId"]
    shown = reservation["Instances"][0]
    assert {
        key: shown[key]
        for key in ("InstanceId", "InstanceType", "InstanceLifecycle", "Tags", "AmiLaunchIndex")
    } == {
        "InstanceId": names[0],
        "InstanceType": "m5.large",
        "InstanceLifecycle": "spot",
        "Tags": [{"Key": "job", "Value": "a"}],
        "AmiLaunchIndex": 0,
    }
    assert shown["Placement"]["AvailabilityZone"] == "us-east-1a"
    assert isinstance(shown["LaunchTime"], datetime)
    assert shown["State"] == {"Code": 16, "Name": "running"}
    ended = ec2.terminate_instances(InstanceIds=names[:1])["TerminatingInstances"]
    assert [(change["InstanceId"], change["PreviousState"]["Name"]) for change in ended] == [
        (names[0], "running")
    ]
    states = [
        instance["State"]["Name"] for instance in ec2.describe_instances()["Reservations"][0]["Instances"]
    ]
    assert states == ["terminated", "running"]
    for call in (ec2.describe_instances, ec2.terminate_instances):
        assert refusal(call, InstanceIds=[f"i-{1:017x}"]) == "InvalidInstanceID.NotFound"


def test_the_members_of_an_instance_are_known_to_both() -> None:
    def members(cloud: Any) -> set[str]:
        request = {"ImageId": image(cloud), "InstanceType": "m5.large", "MinCount": 1, "MaxCount": 1}
        (found,) = cloud.client("ec2").run_instances(**request)["Instances"]
        return set(found)

    with mock_aws():
        known = members(Moto())
    with FakeAws(small_market()) as fake:
        assert members(fake) <= known


def test_a_queue_from_sending_to_deleting(cloud: Any) -> None:
    sqs = cloud.client("sqs")
    url = sqs.create_queue(QueueName="q", Attributes={"VisibilityTimeout": "30"})["QueueUrl"]
    sent = sqs.send_message(QueueUrl=url, MessageBody="work")
    (message,) = sqs.receive_message(QueueUrl=url, AttributeNames=["ApproximateReceiveCount"])["Messages"]
    assert message["MessageId"] == sent["MessageId"]
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"]
    assert message["Attributes"] == {"ApproximateReceiveCount": "1"}
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    (again,) = sqs.receive_message(QueueUrl=url)["Messages"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
    counts = sqs.get_queue_attributes(
        QueueUrl=url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    assert set(counts.values()) == {"0"}
    assert refusal(sqs.get_queue_url, QueueName="none") == "AWS.SimpleQueueService.NonExistentQueue"
    assert refusal(sqs.receive_message, QueueUrl=url, MaxNumberOfMessages=11) == "InvalidParameterValue"


def test_a_group_and_its_launch_template(cloud: Any) -> None:
    ec2, scaling = cloud.client("ec2"), cloud.client("autoscaling")
    template = {"ImageId": image(cloud), "InstanceType": "m5.large"}
    made = ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=template)["LaunchTemplate"]
    assert (made["DefaultVersionNumber"], made["LatestVersionNumber"]) == (1, 1)
    assert (
        refusal(ec2.create_launch_template, LaunchTemplateName="web", LaunchTemplateData=template)
        == "InvalidLaunchTemplateName.AlreadyExistsException"
    )
    group = {"AutoScalingGroupName": "g", "MinSize": 0, "MaxSize": 4, "AvailabilityZones": ["us-east-1a"]}
    scaling.create_auto_scaling_group(**group, DesiredCapacity=2, MixedInstancesPolicy=MIX)
    scaling.set_desired_capacity(AutoScalingGroupName="g", DesiredCapacity=3)
    (shown,) = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["g"])["AutoScalingGroups"]
    assert (shown["MinSize"], shown["MaxSize"], shown["DesiredCapacity"]) == (0, 4, 3)
    assert [instance["LifecycleState"] for instance in shown["Instances"]] == ["InService"] * 3
    assert shown["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"] == [{"InstanceType": "m5.large"}]
    distribution = shown["MixedInstancesPolicy"]["InstancesDistribution"]
    assert distribution["OnDemandBaseCapacity"] == 1
    first = shown["Instances"][0]["InstanceId"]
    scaling.terminate_instance_in_auto_scaling_group(InstanceId=first, ShouldDecrementDesiredCapacity=True)
    (shown,) = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["g"])["AutoScalingGroups"]
    assert shown["DesiredCapacity"] == 2
    assert first not in [instance["InstanceId"] for instance in shown["Instances"]]
    assert scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["x"])["AutoScalingGroups"] == []


def test_who_am_i(cloud: Any) -> None:
    identity = cloud.client("sts").get_caller_identity()
    assert identity["Account"] == "123456789012"
    assert identity["Arn"].startswith("arn:aws:")
