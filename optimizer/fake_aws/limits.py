"""Request rates: token buckets per region and action, as AWS throttles API calls."""

from __future__ import annotations

from dataclasses import dataclass, field

from optimizer.fake_aws.errors import AwsError


@dataclass
class TokenBucket:
    """A bucket of `size` tokens, refilled by `refill` per second.

    Attributes:
        size: Most tokens.
        refill: Tokens per second.
        tokens: Tokens now.
        at_ms: When `tokens` was right.
    """

    size: float
    refill: float
    tokens: float
    at_ms: int

    def take(self, tokens: float, now: int) -> bool:
        """Take tokens; False, and none taken, if there are not enough."""
        self.tokens = min(self.size, self.tokens + self.refill * max(now - self.at_ms, 0) / 1000)
        self.at_ms = max(now, self.at_ms)
        if tokens > self.tokens:
            return False
        self.tokens -= tokens
        return True


READ, WRITE = (100.0, 20.0), (50.0, 5.0)
RESOURCES = {"RunInstances": (1000.0, 2.0), "TerminateInstances": (1000.0, 20.0)}
"""Instances that a call may be about, beside its rate: a bucket and its refill per second."""


@dataclass
class RateLimits:
    """Buckets of all actions; SQS and STS are not limited.

    Attributes:
        sizes: Bucket size and refill per second by action; others get `READ` or `WRITE`.
    """

    sizes: dict[str, tuple[float, float]] = field(
        default_factory=lambda: {"RunInstances": (5.0, 2.0), "TerminateInstances": (100.0, 5.0)}
    )
    _buckets: dict[tuple[str, str], TokenBucket] = field(default_factory=dict)

    def check_call(self, service: str, region: str, action: str, mutating: bool, now: int) -> None:
        """Take one token for a call.

        Raises:
            AwsError: There is none left.
        """
        if service in ("ec2", "autoscaling"):
            size = self.sizes.get(action, WRITE if mutating else READ)
            if not self._take(region, f"{service}:{action}", size, 1, now):
                raise throttled(service)

    def check_resources(self, region: str, action: str, instances: int, now: int) -> None:
        """Take one resource token per instance of a call.

        Raises:
            AwsError: There are not enough left.
        """
        if not self._take(region, f"{action} resources", RESOURCES[action], instances, now):
            raise throttled("ec2")

    def _take(self, region: str, name: str, size: tuple[float, float], tokens: float, now: int) -> bool:
        bucket = self._buckets.setdefault((region, name), TokenBucket(size[0], size[1], size[0], now))
        return bucket.take(tokens, now)


def throttled(service: str) -> AwsError:
    """What a service says above its request rate."""
    if service == "ec2":
        return AwsError("RequestLimitExceeded", "Request limit exceeded.", 503)
    if service == "sqs":
        return AwsError("RequestThrottled", "The request was denied due to request throttling.")
    return AwsError("Throttling", "Rate exceeded")
