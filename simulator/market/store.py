"""Market files: one `.npz` with plain arrays and a JSON header; reading one runs no code."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from simulator.errors import InputError
from simulator.market.market import Market, Pool

FORMAT_VERSION = 1


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
        "pools": [
            [pool.provider, pool.region, pool.zone, pool.instance_type]
            for pool in market.pools
        ],
        "source": market.source,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(
                    file,
                    header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
                    spot_price=market.spot_price,
                    spot_capacity=market.spot_capacity,
                    on_demand_price=market.on_demand_price,
                )
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); what was there is unchanged"
        ) from error


def load_market(path: Path) -> Market:
    """Read a market file.

    Raises:
        InputError: The file is missing, damaged, of another version or out of range.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = _header(path, archive)
            arrays = {
                name: archive[name]
                for name in ("spot_price", "spot_capacity", "on_demand_price")
            }
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; `spotwise market build` makes market files"
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not a whole market file ({error}); accepted: what `spotwise market build` wrote"
        ) from error
    try:
        return Market(
            tuple(Pool(*(str(part) for part in pool)) for pool in header["pools"]),
            int(header["tick_seconds"]),
            datetime.fromisoformat(header["start"]),
            arrays["spot_price"].astype(np.float64),
            arrays["spot_capacity"].astype(np.int32),
            arrays["on_demand_price"].astype(np.float64),
            str(header.get("source", "")),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged header ({error!r})") from error


def _header(path: Path, archive: Any) -> dict[str, Any]:
    header = json.loads(bytes(archive["header"]).decode())
    if not isinstance(header, dict) or header.get("format") != "spotwise-market":
        raise InputError(
            f"{path}: not a market file; accepted: what `spotwise market build` wrote"
        )
    if header.get("version") != FORMAT_VERSION:
        raise InputError(
            f"{path}: market file of version {header.get('version')}; this release reads {FORMAT_VERSION}"
        )
    return header
