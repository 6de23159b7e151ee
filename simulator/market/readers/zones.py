"""Names of zones and instance types: which provider and region a zone lies in, and what a type is sold as."""

from __future__ import annotations

import re

from simulator.market.market import Pool

_AWS_ZONE = re.compile(r"(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)(?:-[a-z]+-\d)?[a-z]")
_GCP_ZONE = re.compile(r"(?P<region>[a-z]+-[a-z]+\d+)-[a-z]")
_AWS_ZONE_ID = re.compile(
    r"(?P<area>us|eu|ap|ca|sa|me|af|il|mx|cn)(?P<gov>g?)(?P<side>ne|nw|se|sw|n|e|s|w|c)(?P<number>\d)"
    r"(?:-[a-z]+\d+)?-az\d+"
)
_SIDES = {
    "n": "north", "e": "east", "s": "south", "w": "west", "c": "central",
    "ne": "northeast", "nw": "northwest", "se": "southeast", "sw": "southwest",
}  # fmt: skip

SOLD_AS = {
    "v100": "p3.2xlarge",
    "v100_4": "p3.8xlarge",
    "v100_8": "p3.16xlarge",
    "k80": "p2.xlarge",
    "k80_8": "p2.8xlarge",
    "t4": "g4dn.xlarge",
    "a100_8": "p4d.24xlarge",
}
"""AWS instance type with the accelerators that traces are named after; only to find its prices."""


def provider_and_region(zone: str) -> tuple[str, str] | None:
    """The provider and region of a zone name or AWS zone ID, None if it looks like neither.

    `us-east-1a` → (aws, us-east-1); `use1-az1` → (aws, us-east-1); `us-central1-a` → (gcp, us-central1).
    """
    if match := _AWS_ZONE.fullmatch(zone):
        return "aws", match["region"]
    if match := _GCP_ZONE.fullmatch(zone):
        return "gcp", match["region"]
    if match := _AWS_ZONE_ID.fullmatch(zone):
        area = f"{match['area']}-gov" if match["gov"] else match["area"]
        return "aws", f"{area}-{_SIDES[match['side']]}-{match['number']}"
    return None


def is_zone_id(zone: str) -> bool:
    """Whether a zone is named by its AWS zone ID (`use1-az1`), which is the same place in every account."""
    return _AWS_ZONE_ID.fullmatch(zone) is not None


def sold_as(pool: Pool) -> str:
    """The instance type under which the provider lists the prices of `pool`."""
    return (
        SOLD_AS.get(pool.instance_type, pool.instance_type) if pool.provider == "aws" else pool.instance_type
    )
