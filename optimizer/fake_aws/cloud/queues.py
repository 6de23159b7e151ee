"""Message queues: at least once, in no promised order, hidden for a while after each receipt."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import deque
from dataclasses import dataclass, field
from itertools import count

from optimizer.fake_aws.errors import AwsError


@dataclass(eq=False)
class Message:
    """One copy of a message.

    Attributes:
        id: Message id; copies of a message share it.
        body: The text.
        attributes: Message attributes as they were sent.
        sent_ms: When it was sent.
        visible_ms: From when on it can be received.
        receipt: Handle of the last receipt; empty before the first.
        receives: How often it was received.
        first_received_ms: When it was received first.
        deleted: Whether it is gone.
        turn: Number of the last time that it was hidden; earlier ones no longer count.
    """

    id: str
    body: str
    attributes: dict[str, object]
    sent_ms: int
    visible_ms: int
    receipt: str = ""
    receives: int = 0
    first_received_ms: int = 0
    deleted: bool = False
    turn: int = -1

    @property
    def md5(self) -> str:
        """MD5 of the body, as SQS sends it for clients to compare."""
        return hashlib.md5(self.body.encode(), usedforsecurity=False).hexdigest()


@dataclass(eq=False)
class Queue:
    """One queue.

    Attributes:
        name: Its name.
        created_ms: When it was made.
        attributes: Attributes as strings.
        tags: Tags.
        shuffle: Whether messages are handed out in random order.
        rng: Source of that order.
    """

    name: str
    created_ms: int
    attributes: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    shuffle: bool = False
    rng: random.Random = field(default_factory=random.Random)
    _ready: deque[Message] = field(default_factory=deque)
    _hidden: list[tuple[int, int, Message]] = field(default_factory=list)
    _by_receipt: dict[str, Message] = field(default_factory=dict)
    _number: count[int] = field(default_factory=count)

    def send(
        self, body: str, now: int, *, delay_ms: int = 0, attributes: dict[str, object] | None = None
    ) -> Message:
        """Put a message into the queue."""
        number = next(self._number)
        message = Message(_uuid(f"{self.name}/{now}/{number}"), body, attributes or {}, now, now + delay_ms)
        self._put(message, now)
        return message

    def send_copy(self, message: Message, now: int) -> None:
        """Deliver a message once more."""
        self._put(Message(message.id, message.body, message.attributes, message.sent_ms, now), now)

    def receive(self, most: int, now: int, hide_ms: int) -> list[Message]:
        """Up to `most` messages; each is hidden for `hide_ms` and gets a new receipt handle."""
        self._reveal(now)
        received: list[Message] = []
        while self._ready and len(received) < most:
            if self.shuffle:
                self._ready.rotate(-self.rng.randrange(len(self._ready)))
            message = self._ready.popleft()
            if message.deleted:
                continue
            message.receives += 1
            message.first_received_ms = message.first_received_ms or now
            self._by_receipt.pop(message.receipt, None)
            message.receipt = f"{message.id}#{next(self._number)}"
            self._by_receipt[message.receipt] = message
            self._hide(message, now, hide_ms)
            received.append(message)
        return received

    def delete(self, receipt: str) -> bool:
        """Delete by receipt handle; False if it is not the handle of the last receipt of any message."""
        message = self._by_receipt.pop(receipt, None)
        if message is not None:
            message.deleted = True
        return message is not None

    def change_visibility(self, receipt: str, now: int, hide_ms: int) -> None:
        """Hide a received message for `hide_ms` from now.

        Raises:
            AwsError: `ReceiptHandleIsInvalid`, or `MessageNotInflight` once it is visible again.
        """
        self._reveal(now)
        message = self._by_receipt.get(receipt)
        if message is None:
            raise AwsError("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
        if message.visible_ms <= now:
            raise AwsError("MessageNotInflight", "The specified message is not in flight.")
        self._hide(message, now, hide_ms)

    def purge(self) -> None:
        """Delete every message."""
        self._ready.clear()
        self._hidden.clear()
        self._by_receipt.clear()

    def counts(self, now: int) -> tuple[int, int, int]:
        """Messages that are visible, in flight and delayed."""
        self._reveal(now)
        hidden = [m for _, turn, m in self._hidden if not m.deleted and m.turn == turn]
        flying = sum(1 for message in hidden if message.receives)
        return sum(not m.deleted for m in self._ready), flying, len(hidden) - flying

    def _put(self, message: Message, now: int) -> None:
        if message.visible_ms > now:
            self._hide(message, now, message.visible_ms - now)
        else:
            self._ready.append(message)

    def _hide(self, message: Message, now: int, hide_ms: int) -> None:
        message.visible_ms, message.turn = now + hide_ms, next(self._number)
        heapq.heappush(self._hidden, (message.visible_ms, message.turn, message))

    def _reveal(self, now: int) -> None:
        while self._hidden and self._hidden[0][0] <= now:
            _, turn, message = heapq.heappop(self._hidden)
            if not message.deleted and message.turn == turn:
                self._ready.append(message)


def _uuid(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))
