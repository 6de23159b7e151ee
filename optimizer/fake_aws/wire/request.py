"""From an HTTP request to service, action and typed parameters. Nothing in a request is trusted."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from botocore.model import ListShape, MapShape, Shape, StructureShape
from botocore.utils import parse_timestamp

from optimizer.fake_aws.errors import AwsError, invalid, missing
from optimizer.fake_aws.wire.models import SERVICES, Operation

MOST_FIELDS = 20_000
MOST_LEVELS = 16
_SCOPE = re.compile(r"Credential=([^/,\s]+)/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNCHECKED_ENUMS = frozenset({"InstanceType", "QueueAttributeName"})
"""Markets have instance types that EC2 has not; receipts name attributes of messages as those of queues."""


@dataclass(frozen=True)
class HttpRequest:
    """One request as it came.

    Attributes:
        path: Path and query.
        headers: Header names in lower case.
        body: The body.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class RawCall:
    """Who asked what of which service, before the parameters are read.

    Attributes:
        service: Signing name of the service.
        region: Region in the signature; empty where there is none.
        access_key: Key id in the signature; empty where there is none.
        action: Name of the action.
        fields: Flat fields of the query protocol, or the JSON document.
    """

    service: str
    region: str
    access_key: str
    action: str
    fields: dict[str, Any]


def identify(request: HttpRequest) -> RawCall:
    """Read service, region and action; the signature itself is not checked.

    Raises:
        AwsError: The request is for no service of the fake, or cannot be read.
    """
    scope = _SCOPE.search(request.headers.get("authorization", ""))
    access_key, region, service = scope.groups() if scope else ("", "", "")
    target = request.headers.get("x-amz-target", "")
    if target:
        prefix, _, action = target.partition(".")
        return RawCall(
            service or {"AmazonSQS": "sqs"}.get(prefix, prefix),
            region,
            access_key,
            action,
            _json_document(request.body),
        )
    fields = _form(request)
    if not service:
        version = fields.get("Version", "")
        service = next((name for name, known in SERVICES.items() if known == version), "ec2")
    return RawCall(service, region, access_key, fields.pop("Action", ""), fields)


def _json_document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise AwsError("SerializationException", "The body is not a JSON object")
    return document


def _form(request: HttpRequest) -> dict[str, str]:
    query = request.path.partition("?")[2]
    try:
        text = "&".join(part for part in (query, request.body.decode("utf-8")) if part)
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise AwsError("MalformedQueryString", "The query string contains a syntax error") from None
    return dict(pairs)


def read_parameters(call: RawCall, model: Operation, protocol: str) -> dict[str, Any]:
    """The parameters of a call, typed as the service model says.

    Raises:
        AwsError: A parameter is unknown, missing or of a wrong type.
    """
    if model.input_shape is None:
        return {}
    if protocol == "json":
        value = _from_json(call.fields, model.input_shape, "")
    else:
        fields = {name: value for name, value in call.fields.items() if name != "Version"}
        value = _from_tree(_tree(fields), model.input_shape, "", protocol == "ec2")
    parameters: dict[str, Any] = value
    return parameters


def _tree(fields: Mapping[str, str]) -> dict[str, Any]:
    """`A.1.B=x` as nested dictionaries `{A: {1: {B: x}}}`."""
    root: dict[str, Any] = {}
    for name, value in fields.items():
        parts = name.split(".")
        if len(parts) > MOST_LEVELS:
            raise invalid(f"The parameter {name[:100]} is nested too deep")
        node = root
        for part in parts[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise invalid(f"The parameter {name[:100]} is given both as a value and as a structure")
        if isinstance(node.get(parts[-1]), dict):
            raise invalid(f"The parameter {name[:100]} is given both as a value and as a structure")
        node[parts[-1]] = value
    return root


def _from_tree(node: Any, shape: Shape, where: str, ec2: bool) -> Any:
    if isinstance(shape, StructureShape):
        if not isinstance(node, dict):
            raise invalid(f"Value for parameter {where} is invalid. A structure is expected.")
        names = {_query_name(member, name, ec2): name for name, member in shape.members.items()}
        found = {}
        for key, value in node.items():
            if key not in names:
                at = f"{where}.{key}" if where else key
                raise AwsError("UnknownParameter", f"The parameter {at[:200]} is not recognized")
            name = names[key]
            at = f"{where}.{key}" if where else key
            found[name] = _from_tree(value, shape.members[name], at, ec2)
        return _complete(found, shape, where)
    if isinstance(shape, ListShape):
        return _list(node, shape, where, ec2)
    if not isinstance(node, str):
        raise invalid(f"Value for parameter {where} is invalid. A single value is expected.")
    return _scalar(node, shape, where)


def _list(node: Any, shape: ListShape, where: str, ec2: bool) -> list[Any]:
    if node == "":
        return []
    if not ec2 and not shape.serialization.get("flattened") and isinstance(node, dict):
        node = node.get(shape.member.serialization.get("name", "member"))
    if not isinstance(node, dict) or not all(key.isascii() and key.isdigit() for key in node):
        raise invalid(f"Value for parameter {where} is invalid. A numbered list is expected.")
    return [
        _from_tree(node[key], shape.member, f"{where}.{key}", ec2)
        for key in sorted(node, key=lambda key: int(key[:9]))
    ]


def _query_name(shape: Shape, default: str, ec2: bool) -> str:
    if ec2 and "queryName" in shape.serialization:
        return str(shape.serialization["queryName"])
    name = str(shape.serialization.get("name", default))
    return name[:1].upper() + name[1:] if ec2 else name


def _complete(found: dict[str, Any], shape: StructureShape, where: str) -> dict[str, Any]:
    for name in shape.required_members:
        if name not in found:
            raise missing(f"{where}.{name}" if where else name)
    return found


def _from_json(value: Any, shape: Shape, where: str) -> Any:
    if isinstance(shape, StructureShape):
        if not isinstance(value, dict):
            raise invalid(f"Value for parameter {where} is invalid. A structure is expected.")
        found = {
            name: _from_json(value[name], member, name)
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
        return _complete(found, shape, where)
    if isinstance(shape, ListShape):
        if not isinstance(value, list):
            raise invalid(f"Value for parameter {where} is invalid. A list is expected.")
        return [_from_json(item, shape.member, where) for item in value]
    if isinstance(shape, MapShape):
        if not isinstance(value, dict):
            raise invalid(f"Value for parameter {where} is invalid. A map is expected.")
        return {key: _from_json(item, shape.value, f"{where}.{key[:50]}") for key, item in value.items()}
    if shape.type_name == "string":
        if not isinstance(value, str):
            raise invalid(f"Value for parameter {where} is invalid. A string is expected.")
        return _scalar(value, shape, where)
    if isinstance(value, bool) != (shape.type_name == "boolean") or not isinstance(value, (int, float, str)):
        raise invalid(f"Value for parameter {where} is invalid. {shape.type_name} is expected.")
    return value if isinstance(value, bool) else _scalar(str(value), shape, where)


def _scalar(text: str, shape: Shape, where: str) -> Any:
    kind = shape.type_name
    if _NOT_XML.search(text):
        raise invalid(f"Value for parameter {where} is invalid. It has characters that are not allowed.")
    try:
        match kind:
            case "integer" | "long":
                if not re.fullmatch(r"[+-]?\d{1,18}", text):
                    raise ValueError
                return _within(int(text), shape, where)
            case "float" | "double":
                number = float(text)
                if not math.isfinite(number):
                    raise ValueError
                return _within(number, shape, where)
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
            case "timestamp":
                return _moment(text)
            case "blob":
                return base64.b64decode(text, validate=True)
    except (ValueError, KeyError, OverflowError, binascii.Error):
        raise invalid(f"Value ({text[:100]}) for parameter {where} is invalid. {kind} is expected.") from None
    enum = getattr(shape, "enum", None)
    if enum and shape.name not in _UNCHECKED_ENUMS and text not in enum:
        raise invalid(
            f"Value ({text[:100]}) for parameter {where} is invalid. Accepted: {', '.join(enum[:20])}"
        )
    return text


def _within(number: float, shape: Shape, where: str) -> float:
    lowest, highest = shape.metadata.get("min"), shape.metadata.get("max")
    if (lowest is not None and number < lowest) or (highest is not None and number > highest):
        raise invalid(
            f"Value ({number}) for parameter {where} is invalid. Accepted: {lowest} to {highest or 'any'}"
        )
    return number


def _moment(text: str) -> datetime:
    found: datetime = parse_timestamp(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
