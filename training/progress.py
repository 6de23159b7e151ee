"""What a training run tells: a score of its policy, its state after a rollout, its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar


class AnyScore(Protocol):
    """How a policy did on what is held out: a dataclass of numbers."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def better_than(self, other: Any) -> bool:
        """Whether it is better than another score, or there is no other."""
        ...

    def metrics(self) -> dict[str, float]:
        """What is tracked of it."""
        ...

    def row(self) -> dict[str, float | int]:
        """What a bundle says of it."""
        ...


Result = TypeVar("Result", bound=AnyScore)


@dataclass(frozen=True, slots=True)
class Progress(Generic[Result]):
    """State of a run after a rollout, for whoever watches.

    Attributes:
        steps: Environment steps so far.
        total_steps: Steps of the whole run.
        metrics: What was noted about this rollout.
        best: Best score so far.
    """

    steps: int
    total_steps: int
    metrics: Mapping[str, float]
    best: Result | None


@dataclass(frozen=True, slots=True)
class Trained(Generic[Result]):
    """The outcome of a run.

    Attributes:
        bundle: The policy bundle.
        sha256: Its hash.
        score: Score of the policy on what is held out.
        steps: Environment steps.
        run: Id of the tracked run; empty if it was not tracked.
    """

    bundle: Path
    sha256: str
    score: Result
    steps: int
    run: str
