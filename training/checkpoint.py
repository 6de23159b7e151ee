"""Checkpoints: one safetensors file with arrays and a JSON note, written whole or not at all; no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_arrays

from simulator.errors import InputError
from simulator.whole_file import write_whole
from training.tracking import flat

CHECKPOINT = "checkpoint.safetensors"
"""Its name in the folder of a run."""
VERSION = "1"
ACCEPTED = "accepted: a checkpoint that `spotwise train` wrote"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Arrays by name and a JSON note."""

    arrays: Mapping[str, NDArray[Any]]
    note: Mapping[str, Any]

    def part(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays whose names begin with `name.`, without it."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): a for key, a in self.arrays.items() if key.startswith(prefix)}


def named(name: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays with `name.` before each name; `Checkpoint.part` takes it off again."""
    return {f"{name}.{key}": array for key, array in arrays.items()}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; if that fails, the one that was there stays whole.

    Raises:
        InputError: The file cannot be written, for example because the disk is full.
    """
    arrays = {
        name: np.ascontiguousarray(array).reshape(array.shape) for name, array in checkpoint.arrays.items()
    }
    content = save_arrays(arrays, {"version": VERSION, "note": json.dumps(dict(checkpoint.note))})
    write_whole(path, content, "checkpoint")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: The file is missing, damaged or of another version.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; {ACCEPTED}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("version") != VERSION:
                raise InputError(f"{path}: checkpoint of version {metadata.get('version')!r}; {ACCEPTED}")
            note = json.loads(metadata["note"])
            return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, note)  # noqa: SIM118 -- not a mapping
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise InputError(f"{path}: not a whole checkpoint ({error}); {ACCEPTED}") from error


def refuse_other_run(path: Path, note: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Refuse to go on from the checkpoint of a run with another `identity`, or of a finished one.

    Raises:
        InputError: The message names up to five differences.
    """
    mine, theirs = flat(identity), flat({name: note.get(name) for name in identity})
    different = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    if different:
        raise InputError(
            f"{path}: checkpoint of a run with other settings or data ({', '.join(different[:5])}); "
            "accepted: the same configuration, seed and market files"
        )
    if note["finished"]:
        raise InputError(f"{path}: the run is finished; there is nothing to resume")


def random_state() -> dict[str, NDArray[Any]]:
    """State of the generators that stable-baselines3 draws from."""
    _, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 -- the one that stable-baselines3 uses
    return {
        "torch": torch.get_rng_state().numpy().copy(),
        "numpy_keys": np.asarray(keys, np.uint32),
        "numpy_rest": np.array([position, has_gauss, gauss], np.float64),
    }


def restore_random_state(state: Mapping[str, NDArray[Any]]) -> None:
    """Continue the generators from `random_state`."""
    torch.set_rng_state(torch.from_numpy(np.array(state["torch"])))
    position, has_gauss, gauss = state["numpy_rest"]
    np.random.set_state(("MT19937", state["numpy_keys"], int(position), int(has_gauss), float(gauss)))  # noqa: NPY002 -- see above


def optimizer_arrays(optimizer: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """State of an optimizer per parameter, as `NUMBER.NAME`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": np.array(value.numpy())
        for number, values in state.items()
        for name, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Continue an optimizer from `optimizer_arrays`."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, array in arrays.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = torch.from_numpy(np.array(array))
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
