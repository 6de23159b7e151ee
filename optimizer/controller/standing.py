"""Where a controller stands: whether it leads, may act, writes and listens; and the events that it tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from optimizer.controller.config import Mode
from optimizer.controller.journal import Journal, JournalFull
from optimizer.controller.lease import Lease
from optimizer.controller.observe import Tell
from optimizer.controller.providers import Clock


class Standing:
    """One thread changes it; others may set `paused` and `killed`.

    Attributes:
        mode: What is done with decisions.
        leads: Whether it acted in the last tick, or there is no other controller.
        paused: Nothing is done until it is False again.
        killed: The same, from the kill switch.
        journal_full: The last write to the journal failed for want of room.
        tell_outside: Takes events that are not journalled.
    """

    def __init__(
        self, mode: Mode, state_dir: Path, journal: Journal, clock: Clock, tell: Tell, lease: Lease | None
    ) -> None:
        """Begin: without a lease it leads.

        Args:
            mode: What is done with decisions.
            state_dir: Has the kill switch.
            journal: Takes events.
            clock: Of the provider.
            tell: Takes events too.
            lease: Who may act, where there are several controllers.
        """
        self.mode: Mode = mode
        self.leads = lease is None
        self.paused = self.killed = self.journal_full = False
        self.tell_outside = tell
        self._kill_file = state_dir / "KILL"
        self._journal, self._clock, self._lease = journal, clock, lease
        self._fence = 0

    @property
    def writes(self) -> bool:
        """Whether it writes the journal; one that is shared is the leader's."""
        return self.leads or not self._journal.shared

    @property
    def listens(self) -> bool:
        """Whether it reads the queue of warnings.

        Reading hides messages and handling removes them: from the leader, if this one is not it, and from the
        controller in charge, if this one only says what it would do.
        """
        return self.leads and self.mode in ("apply", "canary")

    def tell(self, level: str, kind: str, message: str) -> None:
        """Journal an event and pass it on; a full journal does not stop the event from being passed on."""
        try:
            if self.writes:
                self._journal.event(self._clock.now(), level, kind, message)
        except JournalFull:
            self.journal_full = True
        self.tell_outside(level, kind, message)

    def halted(self) -> str:
        """Why somebody wants nothing to be done; may change at any moment."""
        if self.killed or self._kill_file.exists():
            return "kill-switch"
        return "paused" if self.paused else ""

    def held_back(self) -> str:
        """Why nothing is to be done, empty if something may be."""
        halted = self.halted()
        if halted:
            return halted
        if not self.leads:
            return "not-leader"
        return "journal-full" if self.journal_full else ""

    def look_at_lease(self, take_up: Callable[[], None], doubt: Callable[[], None]) -> None:
        """Renew or take the lease; a new leader continues from the end of what the one before journalled.

        Args:
            take_up: Continues where a shared journal ends.
            doubt: Told by a new leader with a journal of its own, which does not know what was done since.

        Raises:
            JournalLost: A shared journal does not answer.
            Deposed: There is a later leader.
        """
        lease = self._lease
        if lease is None:
            return
        held = lease.hold()
        if lease.problem:
            self.tell_outside("error", "lease", f"the lease cannot be asked for: {lease.problem}")
        if held and lease.fence != self._fence:
            self.leads = False
            if self._journal.shared:
                self._journal.lead(lease.fence)
                take_up()
            else:
                doubt()
            self.leads, self._fence = True, lease.fence
            self.tell("info", "leader", f"leads from now on, number {lease.fence}")
        elif not held:
            if self.leads:
                self.tell_outside("warning", "leader", "does not lead any more")
            self.step_down()

    def step_down(self) -> None:
        """Lead no more."""
        self.leads, self._fence = False, 0
