"""A stateful fake of EC2, Auto Scaling and SQS, for tests and rehearsals of anything that speaks to AWS."""

from optimizer.fake_aws.clock import Clock, ManualClock, ScaledClock
from optimizer.fake_aws.cloud.cloud import Bill
from optimizer.fake_aws.cloud.notices import Event
from optimizer.fake_aws.fake import FakeAws
from optimizer.fake_aws.faults import Fault
from optimizer.fake_aws.journal import Call, CallLog
from optimizer.fake_aws.limits import RateLimits
from optimizer.fake_aws.options import Options

__all__ = [
    "Bill",
    "Call",
    "CallLog",
    "Clock",
    "Event",
    "FakeAws",
    "Fault",
    "ManualClock",
    "Options",
    "RateLimits",
    "ScaledClock",
]
