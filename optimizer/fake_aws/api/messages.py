"""SQS: queues and their messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from optimizer.fake_aws.api.call import Action, Reply, Request, page
from optimizer.fake_aws.cloud.queues import Message, Queue
from optimizer.fake_aws.errors import AwsError

MOST_BYTES = 1_048_576
MOST_PER_CALL = 10
LONGEST_HIDE = 43_200
_DEFAULTS = {
    "VisibilityTimeout": "30",
    "DelaySeconds": "0",
    "ReceiveMessageWaitTimeSeconds": "0",
    "MessageRetentionPeriod": "345600",
    "MaximumMessageSize": str(MOST_BYTES),
}
_SETTABLE = frozenset(_DEFAULTS) | {"Policy", "SqsManagedSseEnabled", "KmsMasterKeyId"}


def _queue(request: Request) -> Queue:
    name = request.parameters["QueueUrl"].rstrip("/").rpartition("/")[2]
    queue = request.region.queues.get(name)
    if queue is None:
        raise AwsError("QueueDoesNotExist", "The specified queue does not exist.")
    return queue


def _url(request: Request, queue: Queue) -> str:
    return f"{request.endpoint}/{request.cloud.options.account}/{queue.name}"


def _seconds(queue: Queue, name: str) -> int:
    return int(queue.attributes.get(name, _DEFAULTS[name]))


def create_queue(request: Request) -> Reply:
    """Make a queue; one that is there with the same attributes is as good."""
    name, attributes = request.parameters["QueueName"], request.parameters.get("Attributes", {})
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name):
        raise AwsError(
            "InvalidParameterValue", "A queue name has 1 to 80 letters, digits, hyphens, underscores."
        )
    _check_attributes(attributes)
    queue = request.region.queues.get(name)
    if queue is None:
        queue = request.cloud.add_queue(request.region, name, dict(attributes))
        queue.tags.update(request.parameters.get("tags", {}))
    elif any(queue.attributes.get(key, _DEFAULTS.get(key)) != value for key, value in attributes.items()):
        raise AwsError("QueueNameExists", "A queue already exists with the same name and other attributes.")
    return {"QueueUrl": _url(request, queue)}


def _check_attributes(attributes: dict[str, str]) -> None:
    for name, value in attributes.items():
        if name not in _SETTABLE:
            raise AwsError("InvalidAttributeName", f"Unknown Attribute {name[:100]}.")
        if name in _DEFAULTS and not re.fullmatch(r"\d{1,7}", value):
            raise AwsError("InvalidAttributeValue", f"Invalid value for the parameter {name}.")
    if int(attributes.get("VisibilityTimeout", 0)) > LONGEST_HIDE:
        raise AwsError("InvalidAttributeValue", "Invalid value for the parameter VisibilityTimeout.")


def get_queue_url(request: Request) -> Reply:
    """The URL of a queue by name."""
    queue = request.region.queues.get(request.parameters["QueueName"])
    if queue is None:
        raise AwsError("QueueDoesNotExist", "The specified queue does not exist.")
    return {"QueueUrl": _url(request, queue)}


def list_queues(request: Request) -> Reply:
    """URLs of the queues whose name has a prefix."""
    prefix = request.parameters.get("QueueNamePrefix", "")
    queues = [queue for name, queue in request.region.queues.items() if name.startswith(prefix)]
    shown, token = page(queues, lambda queue: queue.name, request)
    return {"QueueUrls": [_url(request, queue) for queue in shown], "NextToken": token}


def delete_queue(request: Request) -> Reply:
    """Delete a queue and its messages."""
    del request.region.queues[_queue(request).name]
    return {}


def purge_queue(request: Request) -> Reply:
    """Delete all messages."""
    _queue(request).purge()
    return {}


def get_queue_attributes(request: Request) -> Reply:
    """Attributes by name, or all."""
    queue = _queue(request)
    visible, flying, delayed = queue.counts(request.cloud.now)
    account, region = request.cloud.options.account, request.region.name
    known = {
        **_DEFAULTS,
        **queue.attributes,
        "ApproximateNumberOfMessages": str(visible),
        "ApproximateNumberOfMessagesNotVisible": str(flying),
        "ApproximateNumberOfMessagesDelayed": str(delayed),
        "CreatedTimestamp": str(queue.created_ms // 1000),
        "LastModifiedTimestamp": str(queue.created_ms // 1000),
        "QueueArn": f"arn:aws:sqs:{region}:{account}:{queue.name}",
    }
    wanted = request.parameters.get("AttributeNames", [])
    return {"Attributes": {k: v for k, v in known.items() if k in wanted or "All" in wanted}}


def set_queue_attributes(request: Request) -> Reply:
    """Change attributes."""
    queue = _queue(request)
    _check_attributes(request.parameters["Attributes"])
    queue.attributes.update(request.parameters["Attributes"])
    return {}


def send_message(request: Request) -> Reply:
    """Put one message into a queue."""
    message = _send(request, _queue(request), request.parameters)
    return {"MessageId": message.id, "MD5OfMessageBody": message.md5}


def _send(request: Request, queue: Queue, entry: dict[str, Any]) -> Message:
    body, delay = entry["MessageBody"], entry.get("DelaySeconds", _seconds(queue, "DelaySeconds"))
    if not body or len(body.encode()) > MOST_BYTES:
        raise AwsError("InvalidMessageContents", f"A message has 1 to {MOST_BYTES} bytes.")
    if not 0 <= delay <= 900:
        raise AwsError(
            "InvalidParameterValue", f"Value {delay} for DelaySeconds is invalid; accepted: 0 to 900."
        )
    if entry.get("MessageAttributes"):
        raise AwsError("UnsupportedOperation", "The fake carries no message attributes.")
    return queue.send(body, request.cloud.now, delay_ms=delay * 1000)


def receive_message(request: Request) -> Reply:
    """Up to ten messages; waits for the first if asked to."""
    parameters, queue = request.parameters, _queue(request)
    most = parameters.get("MaxNumberOfMessages", 1)
    if not 1 <= most <= MOST_PER_CALL:
        raise AwsError(
            "InvalidParameterValue",
            f"Value {most} for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, "
            "if provided.",
        )
    hide = parameters.get("VisibilityTimeout", _seconds(queue, "VisibilityTimeout"))
    _check_hide(hide)
    wait = parameters.get("WaitTimeSeconds", _seconds(queue, "ReceiveMessageWaitTimeSeconds"))
    if not 0 <= wait <= 20:
        raise AwsError(
            "InvalidParameterValue", f"Value {wait} for WaitTimeSeconds is invalid; accepted: 0 to 20."
        )
    until = request.cloud.now + wait * 1000
    messages = queue.receive(most, request.cloud.now, hide * 1000)
    while not messages and request.cloud.now < until and request.wait(until - request.cloud.now):
        messages = queue.receive(most, request.cloud.now, hide * 1000)
    asked = {*parameters.get("AttributeNames", []), *parameters.get("MessageSystemAttributeNames", [])}
    return {"Messages": [_received(message, asked) for message in messages] or None}


def _check_hide(seconds: int) -> None:
    if not 0 <= seconds <= LONGEST_HIDE:
        raise AwsError(
            "InvalidParameterValue",
            f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Accepted: 0 to 43200.",
        )


def _received(message: Message, asked: set[str]) -> dict[str, Any]:
    known = {
        "ApproximateReceiveCount": str(message.receives),
        "SentTimestamp": str(message.sent_ms),
        "ApproximateFirstReceiveTimestamp": str(message.first_received_ms),
    }
    attributes = {k: v for k, v in known.items() if k in asked or "All" in asked}
    return {
        "MessageId": message.id,
        "ReceiptHandle": message.receipt,
        "MD5OfBody": message.md5,
        "Body": message.body,
        "Attributes": attributes or None,
    }


def delete_message(request: Request) -> Reply:
    """Delete one received message."""
    _delete(request, _queue(request), request.parameters)
    return {}


def _delete(request: Request, queue: Queue, entry: dict[str, Any]) -> Reply:
    if "#" not in entry["ReceiptHandle"]:
        raise AwsError("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
    queue.delete(entry["ReceiptHandle"])  # an old handle: SQS says nothing either, and may keep the message
    return {}


def change_message_visibility(request: Request) -> Reply:
    """Hide one received message for longer, or show it again."""
    _change(request, _queue(request), request.parameters)
    return {}


def _change(request: Request, queue: Queue, entry: dict[str, Any]) -> Reply:
    hide = entry.get("VisibilityTimeout", 0)
    _check_hide(hide)
    queue.change_visibility(entry["ReceiptHandle"], request.cloud.now, hide * 1000)
    return {}


def _batch(
    request: Request, act: Callable[[Request, Queue, dict[str, Any]], Reply]
) -> tuple[list[Reply], list[Reply]]:
    queue, entries = _queue(request), request.parameters["Entries"]
    if not entries:
        raise AwsError("EmptyBatchRequest", "There should be at least one entry in the request.")
    if len(entries) > MOST_PER_CALL:
        raise AwsError("TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10.")
    if len({entry["Id"] for entry in entries}) != len(entries):
        raise AwsError("BatchEntryIdsNotDistinct", "Two or more batch entries have the same Id.")
    done, failed = [], []
    for entry in entries:
        try:
            done.append({"Id": entry["Id"], **act(request, queue, entry)})
        except AwsError as error:
            failed.append(
                {"Id": entry["Id"], "SenderFault": True, "Code": error.code, "Message": error.message}
            )
    return done, failed


def send_message_batch(request: Request) -> Reply:
    """Put up to ten messages into a queue."""

    def send(request: Request, queue: Queue, entry: dict[str, Any]) -> Reply:
        message = _send(request, queue, entry)
        return {"MessageId": message.id, "MD5OfMessageBody": message.md5}

    done, failed = _batch(request, send)
    return {"Successful": done, "Failed": failed or None}


def delete_message_batch(request: Request) -> Reply:
    """Delete up to ten received messages."""
    done, failed = _batch(request, _delete)
    return {"Successful": done, "Failed": failed or None}


def change_message_visibility_batch(request: Request) -> Reply:
    """Hide up to ten received messages for longer, or show them again."""
    done, failed = _batch(request, _change)
    return {"Successful": done, "Failed": failed or None}


ACTIONS = {
    "CreateQueue": Action(create_queue, mutating=True),
    "GetQueueUrl": Action(get_queue_url),
    "ListQueues": Action(list_queues),
    "DeleteQueue": Action(delete_queue, mutating=True),
    "PurgeQueue": Action(purge_queue, mutating=True),
    "GetQueueAttributes": Action(get_queue_attributes),
    "SetQueueAttributes": Action(set_queue_attributes, mutating=True),
    "SendMessage": Action(send_message, mutating=True),
    "SendMessageBatch": Action(send_message_batch, mutating=True),
    "ReceiveMessage": Action(receive_message),
    "DeleteMessage": Action(delete_message, mutating=True),
    "DeleteMessageBatch": Action(delete_message_batch, mutating=True),
    "ChangeMessageVisibility": Action(change_message_visibility, mutating=True),
    "ChangeMessageVisibilityBatch": Action(change_message_visibility_batch, mutating=True),
}
