"""SQS on the fake, through the real boto3 client."""

import threading
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from optimizer.fake_aws import FakeAws, ScaledClock
from tests.optimizer.fake_aws.scene import MakeFake, code_of, messages, run, small_market


@pytest.fixture
def sqs(fake: FakeAws) -> Any:
    return fake.client("sqs")


@pytest.fixture
def url(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="mine", Attributes={"VisibilityTimeout": "60"})["QueueUrl"])


def receive(sqs: Any, url: str, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, **more).get(
        "Messages", []
    )
    return found


def test_a_message_is_hidden_after_receipt_and_comes_again_unless_deleted(
    fake: FakeAws, sqs: Any, url: str
) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="work <1> & more \u00e9")
    (first,) = receive(sqs, url, AttributeNames=["All"])
    assert first["Body"] == "work <1> & more \u00e9"
    assert receive(sqs, url) == []
    fake.advance(60)
    (second,) = receive(sqs, url, MessageSystemAttributeNames=["ApproximateReceiveCount"])
    assert second["Attributes"] == {"ApproximateReceiveCount": "2"}
    assert second["MessageId"] == first["MessageId"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"])
    fake.advance(600)
    assert receive(sqs, url) == []


def test_an_old_receipt_deletes_nothing(fake: FakeAws, sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="work")
    (first,) = receive(sqs, url)
    fake.advance(60)
    receive(sqs, url)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    fake.advance(60)
    assert len(receive(sqs, url)) == 1
    with pytest.raises(ClientError) as caught:
        sqs.delete_message(QueueUrl=url, ReceiptHandle="nonsense")
    assert code_of(caught) == "ReceiptHandleIsInvalid"


def test_visibility_can_be_changed(fake: FakeAws, sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="work")
    (message,) = receive(sqs, url)
    change = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
    sqs.change_message_visibility(**change, VisibilityTimeout=100)
    fake.advance(99)
    assert receive(sqs, url) == []
    fake.advance(1)
    (message,) = receive(sqs, url)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    (message,) = receive(sqs, url)
    fake.advance(60)
    with pytest.raises(ClientError) as caught:
        sqs.change_message_visibility(
            QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=100
        )
    assert code_of(caught) == "AWS.SimpleQueueService.MessageNotInflight"
    assert len(receive(sqs, url)) == 1


def test_visibility_of_several_can_be_changed_and_a_queue_has_a_default(
    fake: FakeAws, sqs: Any, url: str
) -> None:
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "10"})
    for _ in range(2):
        sqs.send_message(QueueUrl=url, MessageBody="work")
    entries = [
        {"Id": str(i), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 20 * i}
        for i, message in enumerate(receive(sqs, url))
    ]
    reply = sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)
    assert [done["Id"] for done in reply["Successful"]] == ["0", "1"]
    assert len(receive(sqs, url)) == 1
    fake.advance(10)
    assert len(receive(sqs, url)) == 1
    fake.advance(10)
    assert len(receive(sqs, url)) == 2
    with pytest.raises(ClientError) as caught:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "43201"})
    assert code_of(caught) == "InvalidAttributeValue"


def test_counts_tell_visible_flying_and_delayed(fake: FakeAws, sqs: Any, url: str) -> None:
    for _ in range(3):
        sqs.send_message(QueueUrl=url, MessageBody="work")
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=90)
    sqs.receive_message(QueueUrl=url)

    def counts() -> list[str]:
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        names = ("", "NotVisible", "Delayed")
        return [found[f"ApproximateNumberOfMessages{name}"] for name in names]

    assert counts() == ["2", "1", "1"]
    fake.advance(90)
    assert counts() == ["4", "0", "0"]
    sqs.purge_queue(QueueUrl=url)
    assert counts() == ["0", "0", "0"]


def test_batches_report_each_entry(sqs: Any, url: str) -> None:
    reply = sqs.send_message_batch(
        QueueUrl=url,
        Entries=[{"Id": "a", "MessageBody": "1"}, {"Id": "b", "MessageBody": "2", "DelaySeconds": 901}],
    )
    assert [done["Id"] for done in reply["Successful"]] == ["a"]
    assert [(failed["Id"], failed["Code"]) for failed in reply["Failed"]] == [("b", "InvalidParameterValue")]
    with pytest.raises(ClientError) as caught:
        sqs.delete_message_batch(
            QueueUrl=url, Entries=[{"Id": str(i), "ReceiptHandle": "x#1"} for i in range(11)]
        )
    assert code_of(caught) == "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"


def test_queues_are_made_once_and_deleted(sqs: Any, url: str) -> None:
    assert sqs.create_queue(QueueName="mine", Attributes={"VisibilityTimeout": "60"})["QueueUrl"] == url
    with pytest.raises(ClientError) as caught:
        sqs.create_queue(QueueName="mine", Attributes={"VisibilityTimeout": "61"})
    assert code_of(caught) == "QueueAlreadyExists"
    assert url in sqs.list_queues(QueueNamePrefix="mi")["QueueUrls"]
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.get_queue_url(QueueName="mine")


def test_every_region_has_its_own_notices(fake: FakeAws) -> None:
    (west,) = run(fake, zone="us-west-2a")
    fake.interrupt(west)
    assert messages(fake, "us-east-1") == []
    assert len(messages(fake, "us-west-2")) == 1


def test_doubled_and_shuffled_notices_lose_none(make_fake: MakeFake) -> None:
    fake = make_fake(duplicate_share=0.5, shuffle_events=True)
    names = [f"i-{number:017x}" for number in range(200)]
    for name in names:
        fake.publish("us-east-1", "EC2 Spot Instance Interruption Warning", name, {"instance-id": name})
    received = [event["detail"]["instance-id"] for event in messages(fake)]
    assert set(received) == set(names)
    assert 250 < len(received) < 350
    order = list(dict.fromkeys(received))
    assert order != names


def test_lost_notices_are_known_to_the_test_alone(make_fake: MakeFake) -> None:
    fake = make_fake(lost_share=0.5, duplicate_share=0.5)
    for number in range(200):
        fake.publish("us-east-1", "Test", f"i-{number:017x}", {"instance-id": f"i-{number:017x}"})
    sent = Counter({event.instance_id: event.copies for event in fake.events()})
    received = Counter(event["detail"]["instance-id"] for event in messages(fake))
    assert received == +sent
    assert len(sent) == 200
    assert 70 < len(received) < 130


def test_state_changes_are_events_on_request(make_fake: MakeFake) -> None:
    fake = make_fake(state_change_events=True, boot_seconds=30)
    (launched,) = run(fake)
    fake.advance(30)
    fake.client("ec2").terminate_instances(InstanceIds=[launched])
    fake.advance(1)
    seen = [event["detail"]["state"] for event in messages(fake)]
    assert seen == ["pending", "running", "terminated"]


def test_a_waiting_receive_returns_when_a_message_comes() -> None:
    with FakeAws(small_market(), clock=ScaledClock(datetime(2026, 1, 1, tzinfo=UTC))) as fake:
        sqs = fake.client("sqs")
        url = sqs.get_queue_url(QueueName="spotwise-notices")["QueueUrl"]
        sender = threading.Timer(0.2, fake.publish, ("us-east-1", "Test", "i-1", {}))
        sender.start()
        began = time.monotonic()
        assert len(receive(sqs, url, WaitTimeSeconds=20)) == 1
        assert time.monotonic() - began < 10
        sender.join()


def test_a_waiting_receive_does_not_wait_for_a_clock_that_stands(sqs: Any, url: str) -> None:
    assert receive(sqs, url, WaitTimeSeconds=20) == []
