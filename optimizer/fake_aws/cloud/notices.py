"""Events about instances, in the form of EventBridge, on their way to the notice queues."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optimizer.fake_aws.clock import moment
from optimizer.fake_aws.cloud.instances import Instance
from optimizer.fake_aws.cloud.schedule import WARN

if TYPE_CHECKING:
    from optimizer.fake_aws.cloud.cloud import Cloud


@dataclass(frozen=True)
class Event:
    """One event that the cloud published.

    Attributes:
        at: When.
        region: Where.
        kind: `detail-type` of the event.
        instance_id: The instance that it is about.
        body: The event as queues got it.
        copies: How often it was delivered: 0 if it was lost, 2 if it was doubled.
    """

    at: datetime
    region: str
    kind: str
    instance_id: str
    body: dict[str, Any]
    copies: int


class Notices:
    """Publishes events.

    Attributes:
        events: Every event published, in order.
    """

    def __init__(self, cloud: Cloud, limit: int | None) -> None:
        self._cloud = cloud
        self.events: deque[Event] = deque(maxlen=limit)

    def announce_state(self, instance: Instance, delay_ms: int, state: str) -> None:
        """Tell, if the options ask for it, that an instance got into a state, if it is so after a delay."""
        if not self._cloud.options.state_change_events:
            return
        detail = {"instance-id": instance.id, "state": state}

        def send() -> None:
            if instance.state(self._cloud.now)[1] == state:
                self.publish(instance, "EC2 Instance State-change Notification", detail)

        self._cloud.schedule.at(self._cloud.now + delay_ms, WARN, send)

    def publish(self, instance: Instance, kind: str, detail: dict[str, Any]) -> None:
        """Send an event, in the form of EventBridge, to the notice queue of the instance's region."""
        self.publish_raw(
            instance.region,
            kind,
            instance.id,
            detail,
            resource=f"arn:aws:ec2:{instance.zone}:instance/{instance.id}",
        )

    def publish_raw(
        self, region: str, kind: str, instance_id: str, detail: dict[str, Any], *, resource: str
    ) -> None:
        """Send an event about any instance id, also of one that does not exist."""
        at = moment(self._cloud.now)
        body = {
            "version": "0",
            "id": self._cloud.uuid(),
            "detail-type": kind,
            "source": "aws.ec2",
            "account": self._cloud.options.account,
            "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": region,
            "resources": [resource],
            "detail": detail,
        }
        # a queue that the user deleted gets nothing: the rule has no target any more
        queue = self._cloud.regions[region].queues.get(self._cloud.options.notice_queue)
        copies = self._copies() if queue is not None else 0
        self.events.append(Event(at, region, kind, instance_id, body, copies))
        if queue is not None and copies:
            message = queue.send(json.dumps(body), self._cloud.now)
            for _ in range(copies - 1):
                queue.send_copy(message, self._cloud.now)

    def _copies(self) -> int:
        options, rng = self._cloud.options, self._cloud.rng
        if rng.random() < options.lost_share:
            return 0
        return 2 if rng.random() < options.duplicate_share else 1
