"""Reading a file that somebody else made: bounded, decompressed, with errors that name it."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from pathlib import Path
from typing import IO, Any

from simulator.errors import InputError

HIGHEST_BYTES = 1 << 30
"""Bytes of one file after decompression; more is refused, so a small archive cannot fill the memory."""
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def read_bytes(path: Path, *, highest_bytes: int = HIGHEST_BYTES) -> bytes:
    """The content of a file, decompressed if it is gzip or zstandard.

    Raises:
        InputError: The file is missing, no file, empty, damaged or too large.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            data = _decompressed(file, magic, highest_bytes).read(highest_bytes + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; accepted: the files in it, e.g. {path}/*.json") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read to its end ({error}); accepted: a whole file") from error
    if len(data) > highest_bytes:
        raise InputError(f"{path}: more than {highest_bytes >> 20} MiB of content; accepted: smaller files")
    if not data.strip():
        raise InputError(f"{path}: is empty; accepted: a trace or a price history")
    return data


def _decompressed(file: IO[bytes], magic: bytes, highest_bytes: int) -> IO[bytes] | gzip.GzipFile:
    if magic.startswith(GZIP_MAGIC):
        return gzip.GzipFile(fileobj=file)
    if magic == ZSTD_MAGIC:
        return _zstandard(file, highest_bytes)
    return file


def _zstandard(file: IO[bytes], highest_bytes: int) -> IO[bytes]:
    import zstandard  # late: few files need it

    # zstandard's own stream reader takes a truncated file for a whole one. Fed by the KiB, a frame that
    # unpacks to far more than it weighs is noticed before it fills the memory.
    data, unpacked, rest = io.BytesIO(), zstandard.ZstdDecompressor(max_window_size=1 << 27), b""
    frame = unpacked.decompressobj()
    try:
        while (piece := rest or file.read(1024)) and data.tell() <= highest_bytes:
            if frame.eof:
                frame = unpacked.decompressobj()
            data.write(frame.decompress(piece))
            rest = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from error
    if not frame.eof and data.tell() <= highest_bytes:
        raise EOFError("it ends within a zstandard frame")
    data.seek(0)
    return data


def text_of(file: str, data: bytes) -> str:
    """`data` as UTF-8 text.

    Raises:
        InputError: It is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not text (byte {error.start}); accepted: UTF-8 text") from error


def json_of(file: str, data: bytes) -> Any:
    """`data` as JSON; hostile nesting and numbers end in an error, not in a crash.

    Raises:
        InputError: It is not whole JSON.
    """
    text = text_of(file, data)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file}: not whole JSON (line {error.lineno}, column {error.colno}: {error.msg}); "
            "accepted: a complete JSON file"
        ) from error
    except RecursionError:
        raise InputError(f"{file}: JSON nested too deeply; accepted: a trace or a price history") from None
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"{file}: a number too long to read ({error}); accepted: JSON numbers") from error
