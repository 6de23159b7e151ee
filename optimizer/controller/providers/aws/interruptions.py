"""Interruption warnings and rebalance recommendations from SQS, as EventBridge delivers them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from optimizer.controller.providers.aws.calls import Caller
from optimizer.controller.providers.aws.clients import Clients
from optimizer.controller.providers.protocol import Notice

KINDS: dict[str, Literal["interruption", "rebalance"]] = {
    "EC2 Spot Instance Interruption Warning": "interruption",
    "EC2 Instance Rebalance Recommendation": "rebalance",
}
MOST_CALLS = 100
"""Receives in one look, ten messages each: a storm is worked off over several looks."""
MOST_OPEN = 20_000
"""Notices that wait to be handled; more stay in the queue."""


class SqsInterruptions:
    """A queue. Messages are duplicated and out of order; whoever handles notices must not mind."""

    def __init__(self, url: str, region: str, clients: Clients, call: Caller) -> None:
        """Read this queue."""
        self._url, self._region, self._clients, self._call = url, region, clients, call
        self._open: dict[str, Notice] = {}

    def receive(self) -> Sequence[Notice]:
        """What waits; messages that are no notices are removed.

        The queue hides a message that was handed out for its visibility timeout. So what was received and not
        yet acknowledged is kept here and given again: one look may find it and the next one handle it.
        """
        client = self._clients("sqs", self._region)
        others: list[str] = []
        for _ in range(MOST_CALLS):
            if len(self._open) >= MOST_OPEN:
                break
            reply = self._call(
                client.receive_message, QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=0
            )
            messages = reply.get("Messages", [])
            for message in messages:
                notice = _notice(message)
                if notice is None:
                    others.append(message["ReceiptHandle"])
                else:
                    self._open[message["MessageId"]] = notice
            if len(messages) < 10:
                break
        if others:
            self.acknowledge(others)
        return list(self._open.values())

    def acknowledge(self, receipts: Sequence[str]) -> None:
        """Delete messages, ten per call."""
        client = self._clients("sqs", self._region)
        for k in range(0, len(receipts), 10):
            entries = [
                {"Id": str(n), "ReceiptHandle": receipt} for n, receipt in enumerate(receipts[k : k + 10])
            ]
            self._call(client.delete_message_batch, QueueUrl=self._url, Entries=entries)
        done = set(receipts)
        self._open = {key: notice for key, notice in self._open.items() if notice.receipt not in done}


def _notice(message: dict[str, Any]) -> Notice | None:
    try:
        event = json.loads(message["Body"])
        kind = KINDS.get(event["detail-type"])
        instance = event["detail"]["instance-id"]
        at = datetime.fromisoformat(event["time"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None
    if kind is None or not isinstance(instance, str):
        return None
    return Notice(instance, kind, at, message["ReceiptHandle"])
