"""What one region of the cloud holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from optimizer.fake_aws.cloud.instances import Instance
from optimizer.fake_aws.cloud.queues import Queue


@dataclass(eq=False)
class Region:
    """What one region holds.

    Attributes:
        name: Its name.
        zones: Its zones.
        instances: By id, in the order of launch.
        queues: By name.
        templates: Launch templates by id.
        fleets: EC2 fleets by id.
        groups: Auto Scaling groups by name.
        tokens: What each client token stood for: fingerprint of the request, time, reply.
    """

    name: str
    zones: list[str]
    instances: dict[str, Instance] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    templates: dict[str, Any] = field(default_factory=dict)
    fleets: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)
    tokens: dict[tuple[str, str], tuple[str, int, dict[str, Any]]] = field(default_factory=dict)
