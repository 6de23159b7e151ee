"""SkyPilot availability and preemption traces: JSON with `metadata.gap_seconds`, `data` and maybe `prices`.

The files carry no times. `data` counts the instances that were up at each sample; zone and instance type are
in the file name (`us-east-1a_v100_1.json`), provider and first day in the folder name (`aws-02-15-2023`).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError
from simulator.market.market import UNLIMITED_CAPACITY, Pool
from simulator.market.readers.files import json_of
from simulator.market.readers.records import HIGHEST_PRICE, CapacityTrace
from simulator.market.readers.zones import provider_and_region

_FOLDER = re.compile(r"(?:(?P<provider>[a-z]+)-)?(?P<month>\d\d)-(?P<day>\d\d)-(?P<year>\d{4})")


def is_skypilot(content: object) -> bool:
    """Whether parsed JSON looks like a SkyPilot trace."""
    return isinstance(content, dict) and ("data" in content or "metadata" in content)


def read_skypilot(path: Path, data: bytes) -> CapacityTrace:
    """Read one trace from the bytes of the file at `path`.

    Raises:
        InputError: A field is missing, of the wrong type or out of range, or the file name gives no zone.
    """
    content = json_of(str(path), data)
    if not isinstance(content, dict) or not isinstance(content.get("metadata"), dict):
        raise InputError(
            f"{path}: no SkyPilot trace; accepted: an object with `metadata` {{`gap_seconds`}} and `data`"
        )
    capacity = _numbers(path, content, "data", highest=UNLIMITED_CAPACITY, whole=True).astype(np.int64)
    prices = _numbers(path, content, "prices", highest=HIGHEST_PRICE) if "prices" in content else None
    if prices is not None and prices.shape != capacity.shape:
        raise InputError(
            f"{path}: `prices` has {prices.size} values for {capacity.size} in `data`; accepted: equally many"
        )
    return CapacityTrace(
        str(path), _pool(path), _start(path), _gap(path, content["metadata"]), capacity, prices
    )


def _gap(path: Path, metadata: dict[str, Any]) -> Fraction:
    gap = metadata.get("gap_seconds")
    if isinstance(gap, bool) or not isinstance(gap, int | float) or not 0 < gap <= 1e9:
        raise InputError(
            f"{path}: `metadata.gap_seconds` is {_short(gap)}: time must run forward; "
            "accepted: a number of seconds above 0"
        )
    return Fraction(gap).limit_denominator(1000)


def _numbers(
    path: Path, content: dict[str, Any], field: str, *, highest: float, whole: bool = False
) -> NDArray[np.float64]:
    values = content.get(field)
    accepted = f"{'whole numbers' if whole else 'numbers'} from 0 to {highest:g}"
    if not isinstance(values, list) or not values:
        raise InputError(f"{path}: `{field}` is missing, empty or no list; accepted: a list of {accepted}")
    for index, value in enumerate(values):
        # A comparison with NaN is false, so NaN is refused here as well.
        if (
            type(value) not in (int, float)
            or not 0 <= value <= highest
            or (whole and value != math.floor(value))
        ):
            raise InputError(f"{path}: `{field}[{index}]` is {_short(value)}; accepted: {accepted}")
    return np.array(values, dtype=np.float64)


def _short(value: object) -> str:
    if isinstance(value, int) and abs(value) > 10**18:
        return f"a number of {value.bit_length()} bits"  # writing it out may be refused by Python itself
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _pool(path: Path) -> Pool:
    zone, _, rest = path.stem.partition("_")
    found = provider_and_region(zone)
    if found is None or not rest:
        raise InputError(
            f"{path}: the file name gives no zone and instance type; "
            "accepted: ZONE_TYPE[_COUNT].json such as us-east-1a_v100_1.json"
        )
    folder = _dated_folder(path)
    provider = (folder["provider"] if folder else None) or found[0]
    return Pool(provider, found[1], zone, rest.removesuffix("_1"))


def _start(path: Path) -> datetime | None:
    folder = _dated_folder(path)
    if folder is None:
        return None
    try:
        return datetime(int(folder["year"]), int(folder["month"]), int(folder["day"]), tzinfo=UTC)
    except ValueError:
        raise InputError(
            f"{path}: folder {folder[0]} is no date; accepted: PROVIDER-MM-DD-YYYY such as aws-02-15-2023"
        ) from None


def _dated_folder(path: Path) -> re.Match[str] | None:
    for folder in path.absolute().parents:
        if match := _FOLDER.fullmatch(folder.name):
            return match
    return None
