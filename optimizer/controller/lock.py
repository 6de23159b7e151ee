"""One controller per state_dir on a machine."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from simulator.errors import InputError


class Lock:
    """A lock on a folder that the system releases when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Name the lock file."""
        self._path = folder / "lock"
        self._descriptor = -1

    def __enter__(self) -> Lock:
        """Take it.

        Raises:
            InputError: Another process has it, or the folder cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(
                f"{self._path.parent}: cannot be written ({error.strerror}); accepted: a state_dir that this "
                "user may write, on a disk with room"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise InputError(
                f"{self._path.parent}: another controller runs with this state_dir; stop it, or give "
                "this one "
                "a name and a state_dir of its own"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it."""
        os.close(self._descriptor)
