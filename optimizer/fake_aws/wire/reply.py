"""From a reply as plain dictionaries to the bytes that a client of the service expects."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from botocore.model import ListShape, MapShape, Shape, StructureShape

from optimizer.fake_aws.errors import AwsError
from optimizer.fake_aws.wire.models import Operation

_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
QUERY_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
    **{
        code: f"AWS.SimpleQueueService.{code}"
        for code in (
            "BatchEntryIdsNotDistinct",
            "EmptyBatchRequest",
            "MessageNotInflight",
            "TooManyEntriesInBatchRequest",
            "UnsupportedOperation",
        )
    },
}
"""What SQS called its errors before it spoke JSON; clients still show these codes."""


@dataclass(frozen=True)
class HttpReply:
    """One reply: status, headers and body."""

    status: int
    headers: dict[str, str]
    body: bytes


def render_reply(value: Mapping[str, Any], model: Operation, protocol: str, request_id: str) -> HttpReply:
    """Write a reply.

    Raises:
        KeyError: The reply has a member that the service's model has not.
    """
    shape = model.output_shape
    if protocol == "json":
        document = _json(value, shape) if shape is not None else {}
        return HttpReply(200, _json_headers(request_id), json.dumps(document).encode())
    body = "".join(_members(value, shape)) if isinstance(shape, StructureShape) else ""
    namespace = model.metadata["xmlNamespace"]
    if protocol == "ec2":
        inner = f"<requestId>{request_id}</requestId>{body}"
    else:
        wrapper = shape.serialization.get("resultWrapper") if shape is not None else None
        inner = f"<{wrapper}>{body}</{wrapper}>" if wrapper else body
        inner += f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
    name = f"{model.name}Response"
    text = f'{_XML}<{name} xmlns="{namespace}">{inner}</{name}>'
    return HttpReply(200, _xml_headers(request_id), text.encode())


def render_error(error: AwsError, protocol: str, request_id: str) -> HttpReply:
    """Write an error as the service would."""
    if protocol == "json":
        headers = _json_headers(request_id)
        headers["x-amzn-query-error"] = f"{QUERY_CODES.get(error.code, error.code)};Sender"
        document = {"__type": f"com.amazonaws.sqs#{error.code}", "message": error.message}
        return HttpReply(error.status, headers, json.dumps(document).encode())
    code, message = escape(error.code), escape(error.message)
    inner = f"<Code>{code}</Code><Message>{message}</Message>"
    if protocol == "ec2":
        text = (
            f"{_XML}<Response><Errors><Error>{inner}</Error></Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        )
    else:
        side = "Sender" if error.status < 500 else "Receiver"
        text = (
            f"{_XML}<ErrorResponse><Error><Type>{side}</Type>{inner}</Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    return HttpReply(error.status, _xml_headers(request_id), text.encode())


def _json_headers(request_id: str) -> dict[str, str]:
    return {"Content-Type": "application/x-amz-json-1.0", "x-amzn-RequestId": request_id}


def _xml_headers(request_id: str) -> dict[str, str]:
    return {"Content-Type": "text/xml;charset=UTF-8", "x-amzn-RequestId": request_id}


def _members(value: Mapping[str, Any], shape: StructureShape) -> list[str]:
    parts = []
    for name, member in value.items():
        if member is None:
            continue
        inside = shape.members[name]
        parts.append(_element(str(inside.serialization.get("name", name)), member, inside))
    return parts


def _element(name: str, value: Any, shape: Shape) -> str:
    if isinstance(shape, StructureShape):
        return f"<{name}>{''.join(_members(value, shape))}</{name}>"
    if isinstance(shape, ListShape):
        inner = str(shape.member.serialization.get("name", "member"))
        if shape.serialization.get("flattened"):
            return "".join(_element(name, item, shape.member) for item in value)
        return f"<{name}>{''.join(_element(inner, item, shape.member) for item in value)}</{name}>"
    return f"<{name}>{escape(_text(value))}</{name}>"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)


def _json(value: Any, shape: Shape) -> Any:
    if isinstance(shape, StructureShape):
        return {
            name: _json(member, shape.members[name]) for name, member in value.items() if member is not None
        }
    if isinstance(shape, ListShape):
        return [_json(item, shape.member) for item in value]
    if isinstance(shape, MapShape):
        return {key: _json(item, shape.value) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.timestamp() if isinstance(value, datetime) else value
