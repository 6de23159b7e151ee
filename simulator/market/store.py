"""Market files: one `.npz` with plain arrays and a JSON header; reading one runs no code."""

from __future__ import annotations

import json
import math
import tokenize
import zipfile
import zlib
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from simulator.errors import InputError
from simulator.market.market import Market, Pool
from simulator.whole_file import whole_file

FORMAT_VERSION = 1
HIGHEST_BYTES = 8 << 30
"""Bytes of all arrays after decompression; a file that claims more is refused unread."""
_DTYPES: dict[str, np.dtype[Any]] = {
    "header": np.dtype(np.uint8),
    "spot_price": np.dtype(np.float64),
    "spot_capacity": np.dtype(np.int32),
    "on_demand_price": np.dtype(np.float64),
}
_ACCEPTED = "accepted: what `spotwise market build` wrote"


def save_market(market: Market, path: Path) -> None:
    """Write `market` to `path`; a crash or a full disk leaves what was there before.

    Raises:
        InputError: The folder cannot be written.
    """
    header = {
        "format": "spotwise-market",
        "version": FORMAT_VERSION,
        "tick_seconds": market.tick_seconds,
        "start": market.start.isoformat(),
        "pools": [[pool.provider, pool.region, pool.zone, pool.instance_type] for pool in market.pools],
        "source": market.source,
    }
    with whole_file(path) as file:
        np.savez_compressed(
            file,
            header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
            spot_price=market.spot_price,
            spot_capacity=market.spot_capacity,
            on_demand_price=market.on_demand_price,
        )


def load_market(path: Path) -> Market:
    """Read a market file.

    Raises:
        InputError: The file is missing, damaged, of another version, absurdly large or out of range.
    """
    try:
        _check_members(path)
        with np.load(path, allow_pickle=False) as archive:
            header = _header(path, archive)
            arrays = {name: archive[name] for name in _DTYPES if name != "header"}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `spotwise market build` makes market files") from None
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        MemoryError,
        NotImplementedError,  # a compression method that zipfile does not know
        RecursionError,
        tokenize.TokenError,  # numpy parses array headers as Python literals
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"{path}: not a whole market file ({error}); {_ACCEPTED}") from error
    try:
        return Market(
            tuple(_pool(pool) for pool in header["pools"]),
            int(header["tick_seconds"]),
            datetime.fromisoformat(header["start"]),
            arrays["spot_price"],
            arrays["spot_capacity"],
            arrays["on_demand_price"],
            str(header.get("source", "")),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: damaged header ({error!r}); {_ACCEPTED}") from error


def _check_members(path: Path) -> None:
    """Refuse what numpy would trust: declared sizes, shapes and types, before any array is made."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if sorted(members) != sorted(f"{name}.npy" for name in _DTYPES) or len(members) != len(
            archive.infolist()
        ):
            raise InputError(f"{path}: a zip archive with other content than a market; {_ACCEPTED}")
        if sum(info.file_size for info in members.values()) > HIGHEST_BYTES:
            raise InputError(f"{path}: claims more than {HIGHEST_BYTES >> 30} GiB of arrays; {_ACCEPTED}")
        for name, dtype in _DTYPES.items():
            info = members[f"{name}.npy"]
            with archive.open(info) as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    raise InputError(f"{path}: `{name}` is of an unknown array format; {_ACCEPTED}")
                shape, _, found = np.lib.format.read_array_header_1_0(file)
                if found != dtype or math.prod(shape) * dtype.itemsize != info.file_size - file.tell():
                    raise InputError(
                        f"{path}: `{name}` is of type {found} and shape {shape} in {info.file_size} bytes; "
                        f"accepted: type {dtype}, whole"
                    )


def _header(path: Path, archive: Any) -> dict[str, Any]:
    header = json.loads(bytes(archive["header"]).decode())
    if not isinstance(header, dict) or header.get("format") != "spotwise-market":
        raise InputError(f"{path}: not a market file; {_ACCEPTED}")
    if header.get("version") != FORMAT_VERSION:
        raise InputError(
            f"{path}: market file of version {header.get('version')}; this release reads {FORMAT_VERSION}"
        )
    return header


def _pool(parts: Any) -> Pool:
    if not isinstance(parts, list) or not all(isinstance(part, str) and part for part in parts):
        raise TypeError(f"pool {parts!r} is no list of names")
    return Pool(*parts)
