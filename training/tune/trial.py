"""One trial: a short training run that tells its scores on the way; what worker processes run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from simulator.errors import InputError, SpotwiseError
from training.checkpoint import CHECKPOINT, load_checkpoint
from training.config import TrainingConfig
from training.data import Data
from training.held_out import Score
from training.progress import Progress
from training.trainer import Trainer

WORST = -1000.0
"""Score of a network that missed a deadline or diverged; finite, so that every store can hold it."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What turns relative cost into the share of the gap closed, the same for all trials of a study.

    Attributes:
        baseline: Mean relative cost of Uniform Progress on the held-out windows.
        optimum: Mean relative cost of the clairvoyant optimum on them.
    """

    baseline: float
    optimum: float

    def score(self, relative_cost: float, missed: int) -> float:
        """0 at Uniform Progress, 1 at the optimum; `WORST` if a deadline was missed."""
        if missed:
            return WORST
        return (self.baseline - relative_cost) / (self.baseline - self.optimum)


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is told.

    Attributes:
        number: Of the trial.
        config: What is trained; its number of steps is the trial's budget.
        seed: Of the training run.
        folder: Of the trial's checkpoint and bundle.
        scale: Turns costs into scores.
    """

    number: int
    config: TrainingConfig
    seed: int
    folder: Path
    scale: Scale


@dataclass(frozen=True, slots=True)
class Reported:
    """A score on the way; the worker waits to be told whether to go on."""

    number: int
    steps: int
    score: float
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial that came to its end.

    Attributes:
        number: Of the trial.
        how: `done`; `stopped`: it was told not to go on; `diverged`; `refused`: the configuration does not
            fit the data or a file could not be written; `crashed`: something else broke.
        why: For people; empty if done or stopped.
    """

    number: int
    how: Literal["done", "stopped", "diverged", "refused", "crashed"]
    why: str = ""


class Line(Protocol):
    """The worker's connection to whoever holds the study."""

    def report(self, reported: Reported) -> bool:
        """Tell a score; returns whether to go on."""
        ...

    def stopping(self) -> bool:
        """Whether the whole search is being stopped, to be resumed later."""
        ...


def run_trial(task: Task, data: Data, line: Line) -> Ended:
    """Train as `task` says, from its checkpoint if the search was stopped on the way.

    Nothing stays in the trial's folder but the checkpoint of a trial that will be gone on with.
    """
    pruned = False
    try:
        trainer = Trainer(task.config, data, task.folder, seed=task.seed)

        def watch(progress: Progress[Score]) -> None:
            nonlocal pruned
            if progress.steps >= progress.total_steps:
                return
            metrics = dict(progress.metrics)
            if "evaluation/relative_cost" in metrics:
                score = task.scale.score(
                    metrics["evaluation/relative_cost"], int(metrics["evaluation/missed"])
                )
                pruned = not line.report(Reported(task.number, progress.steps, score, metrics))
            if pruned or line.stopping():
                trainer.stop()

        trainer.watch = watch
        trained = trainer.run(resume=_unfinished(trainer.checkpoint_path))
    except KeyboardInterrupt:
        if pruned:
            _clear(task)
        return Ended(task.number, "stopped")
    except InputError as error:
        return Ended(task.number, "refused", str(error))
    except SpotwiseError as error:
        _clear(task)
        return Ended(task.number, "diverged", str(error))
    score = task.scale.score(trained.score.relative_cost, trained.score.missed)
    metrics = {
        "evaluation/relative_cost": trained.score.relative_cost,
        "evaluation/missed": float(trained.score.missed),
    }
    line.report(Reported(task.number, trained.steps, score, metrics))
    _clear(task)
    return Ended(task.number, "done")


def _unfinished(checkpoint: Path) -> bool:
    # a finished one is left where the search was killed before it noted the score: trained once more
    return checkpoint.is_file() and not load_checkpoint(checkpoint).note["finished"]


def _clear(task: Task) -> None:
    for name in (CHECKPOINT, f"{task.config.name}.policy"):
        (task.folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # not there, or somebody put a file of their own into it
        task.folder.rmdir()
