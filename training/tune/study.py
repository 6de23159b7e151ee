"""The study file: an Optuna study in SQLite that holds one search and can be gone on with."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from simulator.errors import InputError, SpotwiseError
from training.tracking import flat
from training.tune.space import SearchSpace

FILE = "study.db"
NAME = "spotwise"
IDENTITY = "identity"
"""User attribute that holds what may not change between sittings."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep another search out of the folder.

    Raises:
        InputError: One is running in it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".{FILE}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"{folder}: another `spotwise tune` runs in it; choose another --out"
                ) from error
            yield
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error


def open_study(
    folder: Path, space: SearchSpace, identity: Mapping[str, Any], seed: int, *, resume: bool
) -> optuna.Study:
    """Begin the study of a folder, or go on with it.

    Args:
        folder: Holds the study file.
        space: Number of startup trials.
        identity: Settings and data; a study is only gone on with under the same ones.
        seed: Of the proposals.
        resume: Whether to go on.

    Raises:
        InputError: There is none to go on with, or one that would be lost, or it is not such a study.
    """
    path = folder / FILE
    if resume and not path.is_file():
        raise InputError(f"{path}: no such study; leave --resume out to begin one")
    if not resume and path.exists():
        raise InputError(f"{path}: there is a study; add --resume to go on with it, or choose another --out")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=space.startup_trials)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name=NAME,
            direction="maximize",
            pruner=pruner,
            sampler=sampler(space, seed, 0),
            load_if_exists=resume,
        )
        before = study.user_attrs.get(IDENTITY)
        if before is None and not study.trials:
            study.set_user_attr(IDENTITY, dict(identity))
            return study
    except (optuna.exceptions.OptunaError, SQLAlchemyError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{path}: not a study ({_first_line(error)}); accepted: a file that `spotwise tune` wrote"
        ) from error
    mine = flat(identity)
    theirs = flat(before) if isinstance(before, dict) else {}
    different = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    if different:
        raise InputError(
            f"{path}: study of other settings or data ({', '.join(different[:5])}); accepted: the same "
            "search space, configuration, seed and market files"
        )
    return study


@contextmanager
def reported(folder: Path) -> Iterator[None]:
    """Turn what a study file throws into an error that names it."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        raise SpotwiseError(f"{folder / FILE}: {_first_line(error)}; go on with --resume") from error


def sampler(space: SearchSpace, seed: int, number: int) -> optuna.samplers.TPESampler:
    """The sampler that proposes one trial: proposals depend on the trials before, not on the sitting."""
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=own, n_startup_trials=space.startup_trials)


def ask(study: optuna.Study, space: SearchSpace, seed: int) -> optuna.Trial:
    """A new trial; its `params` are drawn."""
    begun = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    study.sampler = sampler(space, seed, len(begun))
    trial = study.ask()
    for name, parameter in space.parameters.items():
        parameter.draw(name, trial)
    return trial


def unfinished(study: optuna.Study) -> list[optuna.Trial]:
    """Trials that were running when the search was stopped."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [optuna.Trial(study, frozen._trial_id) for frozen in running]


def best(study: optuna.Study) -> FrozenTrial | None:
    """The trial with the highest score, the first of several; None before there is one."""
    scored = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(scored, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)


def count(study: optuna.Study, *states: TrialState) -> int:
    """Trials in one of the states."""
    return len(study.get_trials(deepcopy=False, states=states))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
