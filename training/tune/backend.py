"""Where trials run: what a search asks of it. `local` and `ray_cluster` are the two there are."""

from __future__ import annotations

from typing import Protocol

from training.tune.trial import Ended, Reported, Task


class Backend(Protocol):
    """Runs trials side by side; whoever uses it holds the study, workers never see it."""

    @property
    def slots(self) -> int:
        """Trials that run at the same time at most."""
        ...

    def start(self, task: Task) -> None:
        """Begin a trial in a free slot."""
        ...

    def wait(self, seconds: float) -> Reported | Ended | None:
        """The next thing that a trial tells, or None if none does in time; at least one runs."""
        ...

    def answer(self, number: int, go_on: bool) -> None:
        """Let a trial that reported a score go on, or end it."""
        ...

    def stop(self) -> None:
        """Ask all trials to write a checkpoint and end; each still tells that it did."""
        ...

    def close(self) -> None:
        """Release everything; trials that still run are ended at once."""
        ...
