"""Which actions each service has, and the shapes of their requests and replies."""

from __future__ import annotations

from functools import cache

import botocore.session
from botocore.model import OperationModel, ServiceModel

from optimizer.fake_aws.errors import AwsError

Operation = OperationModel

SERVICES = {"ec2": "2016-11-15", "autoscaling": "2011-01-01", "sqs": "2012-11-05", "sts": "2011-06-15"}
"""Services of the fake by signing name, with the version of the query protocol."""


@cache
def _model(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


def protocol(service: str) -> str:
    """`ec2`, `query` or `json`."""
    return str(_model(service).metadata["protocol"])


@cache
def _known(service: str) -> frozenset[str]:
    return frozenset(_model(service).operation_names)


@cache
def _operation(service: str, action: str) -> Operation:
    return _model(service).operation_model(action)


def operation(service: str, action: str) -> Operation:
    """The model of one action.

    Raises:
        AwsError: `InvalidAction`, the service has no such action.
    """
    if action not in _known(service):
        raise AwsError("InvalidAction", f"The action {action[:100]} is not valid for this web service.")
    return _operation(service, action)
