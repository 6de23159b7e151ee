"""Errors in the shape in which AWS reports them."""

from __future__ import annotations


class AwsError(Exception):
    """A refusal that the client sees as `botocore.exceptions.ClientError`.

    Attributes:
        code: The error code, for example `InsufficientInstanceCapacity`.
        message: The text beside it.
        status: HTTP status; a client retries 5xx, and throttling codes of any status.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


def invalid(message: str) -> AwsError:
    """A parameter whose value cannot be used."""
    return AwsError("InvalidParameterValue", message)


def missing(name: str) -> AwsError:
    """A parameter that must be there."""
    return AwsError("MissingParameter", f"The request must contain the parameter {name}")
