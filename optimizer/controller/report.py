"""What a tick did, for logs, metrics and tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from optimizer.controller.act import Outcome
from optimizer.controller.guard import Trip
from simulator.deadline.observation import IntArray

MOVES_TOLD = 50
"""Moves of a tick that a report has in words; the journal has them all."""


@dataclass(slots=True)
class Report:
    """What a tick did, for logs, metrics and tests.

    Attributes:
        tick: Number of the tick since the plan was created.
        now: Its time.
        wanted: Decision by fleet; placements (N,) or counts (N, P + 1).
        trips: Guards that changed something.
        outcome: What came of the calls.
        lost: Instances that ended without this controller's doing.
        lost_in: Pools whose spot instances were among them.
        held: Reason why nothing was done; empty if something could be.
        seconds: Time that observing, deciding and guarding took.
        rounds: Rounds of calls.
        in_doubt: Workloads with a call of an earlier tick whose outcome is still not known.
        moves: Workload, what and why, of the first moves that the guards allowed.
        again: Whether something was left open that the next look, soon, may settle.
        between: Whether this look came between two ticks, because of an interruption or a restart: only what
            was lost is decided, and nothing that counts ticks goes on.
    """

    tick: int
    now: float
    wanted: dict[str, IntArray] = field(default_factory=dict)
    trips: list[Trip] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    lost: int = 0
    lost_in: set[str] = field(default_factory=set)
    held: str = ""
    seconds: float = 0.0
    rounds: int = 0
    in_doubt: frozenset[str] = frozenset()
    between: bool = False
    moves: list[tuple[str, str, str]] = field(default_factory=list)
    again: bool = False
