"""Shares of a cost: who gets how much of it, for a stretch of time."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from simulator.errors import InputError


@dataclass(frozen=True, slots=True)
class Share:
    """What one target gets.

    Attributes:
        target: Its id.
        ratio: Its part of the cost, 0 to 1.
        tags: Tags of the target.
        unit: What was measured, or "".
        quantity: How much of it the target had.
    """

    target: str
    ratio: float
    tags: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    quantity: float = 0.0


@dataclass(frozen=True, slots=True)
class Split:
    """Shares for the rows of a resource (all that a rule selects, if None) that begin in a stretch of time.

    Attributes:
        shares: They sum to 1 within 1e-9.
        start: First instant, UTC; None = always.
        end: End, exclusive.
        resource: ResourceId in the ledger; None = whatever the rule selects.
    """

    shares: tuple[Share, ...]
    start: datetime | None = None
    end: datetime | None = None
    resource: str | None = None


def proportional(amounts: Mapping[str, float], unit: str) -> tuple[Share, ...]:
    """Return shares in proportion to `amounts`, which sum to 1 exactly but for rounding.

    Raises:
        ValueError: An amount is negative or not a number, or all are zero.
    """
    if any(not math.isfinite(value) or value < 0 for value in amounts.values()):
        raise ValueError("an amount is negative or not a number")
    total = math.fsum(amounts.values())
    if total <= 0:
        raise ValueError("nothing was used")
    return tuple(
        Share(target, value / total, unit=unit, quantity=value)
        for target, value in sorted(amounts.items())
        if value
    )


def read_usage(path: Path, value: str) -> list[Split]:
    """Return the splits of a usage CSV: columns `tenant` and `value`, optionally `start` and `end`.

    Raises:
        InputError: A column is absent or a value wrong; the message names the line.
    """
    stretches: dict[tuple[datetime | None, datetime | None], dict[str, float]] = {}
    for number, row in enumerate(read_csv(path, ("tenant", value)), start=2):
        try:
            amount = float(row[value])
            stretch = (moment(row.get("start")), moment(row.get("end")))
        except ValueError as error:
            raise InputError(f"{path}: line {number}: {error}") from error
        if not math.isfinite(amount) or amount < 0:
            raise InputError(f"{path}: line {number}: {value} of {row[value]}; accepted: 0 or more")
        tenants = stretches.setdefault(stretch, {})
        tenants[row["tenant"]] = tenants.get(row["tenant"], 0.0) + amount
    splits = []
    for (start, end), amounts in stretches.items():
        try:
            splits.append(Split(proportional(amounts, value), start, end))
        except ValueError as error:
            raise InputError(
                f"{path}: from {start or 'the beginning'}: {error}; accepted: some usage"
            ) from error
    if not splits:
        raise InputError(f"{path}: no usage; accepted: one line per tenant")
    return splits


def read_csv(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a CSV that has the columns `needed`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as source:
            reader = csv.DictReader(source)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: columns missing: {', '.join(missing)}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: {error}") from error
    for number, row in enumerate(rows, start=2):
        if None in row or any(row[name] is None for name in needed):
            raise InputError(f"{path}: line {number} does not have the columns of line 1")
    return rows


def moment(text: str | None) -> datetime | None:
    """Return an ISO 8601 time as naive UTC, or None for an empty text."""
    if not text:
        return None
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
