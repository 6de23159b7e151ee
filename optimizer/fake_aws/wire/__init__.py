"""The wire formats of AWS, read and written by the service models that botocore ships."""

from optimizer.fake_aws.wire.models import Operation, operation, protocol
from optimizer.fake_aws.wire.reply import render_error, render_reply
from optimizer.fake_aws.wire.request import HttpRequest, RawCall, identify, read_parameters

__all__ = [
    "HttpRequest",
    "Operation",
    "RawCall",
    "identify",
    "operation",
    "protocol",
    "read_parameters",
    "render_error",
    "render_reply",
]
