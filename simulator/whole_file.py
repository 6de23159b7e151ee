"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from simulator.errors import InputError


@contextmanager
def whole_file(path: Path, what: str = "") -> Iterator[BinaryIO]:
    """A new file in place of `path`, put there when the block ends well; its folders are made.

    If the block raises, or the machine stops, what was there before is unchanged.

    Args:
        path: The file.
        what: What the file is, for the message.

    Raises:
        InputError: It cannot be written, for example because the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        label = f"{what} " if what else ""
        raise InputError(
            f"{path}: {label}cannot be written ({error.strerror}); what was there is unchanged"
        ) from error


def write_whole(path: Path, content: bytes | str, what: str = "") -> None:
    """Write bytes, or text as UTF-8, whole or not at all; see `whole_file`."""
    with whole_file(path, what) as file:
        file.write(content.encode() if isinstance(content, str) else content)
