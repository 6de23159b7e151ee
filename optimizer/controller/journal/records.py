"""What the journal holds, and how it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.errors import SpotwiseError


class JournalFull(SpotwiseError):  # noqa: N818 -- reads as what it says in `except JournalFull`
    """Nothing can be written: no space, or no right to. Nothing may be done that is not journalled."""


class JournalLost(JournalFull):
    """The database does not answer: nothing can be read either. Whether the last write took is not known."""


class Deposed(JournalFull):
    """Another controller leads now; the database has refused the write."""


@dataclass(frozen=True, slots=True)
class Intent:
    """One call that is about to leave.

    Attributes:
        tick: Tick it was decided in.
        workload: Whom it is for.
        action: `launch`, `terminate`, `shape` or `remove`.
        token: Client token; unique in the journal.
        request: What is asked, JSON-able.
        after: Token of the launch that must succeed first.
        why: Reason in words.
        guards: Guards that changed the decision behind it.
        usd_per_hour: Change of the cost rate that is expected of it.
    """

    tick: int
    workload: str
    action: str
    token: str
    request: Mapping[str, Any]
    why: str
    guards: Sequence[str] = ()
    usd_per_hour: float = 0.0
    after: str | None = None


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """What the controller knows of an instance; see `providers.Instance`."""

    id: str
    workload: str
    pool: str
    option: str
    token: str
    launched_at: float
    state: str
    ended_at: float | None = None
