"""Tells the format of an export from its column names."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from dataclasses import dataclass
from typing import Literal

from optimizer.billing.sources.files import SourceFile
from simulator.errors import InputError

Format = Literal["aws-cur", "aws-cur-legacy", "gcp", "azure", "focus"]
Container = Literal["parquet", "csv", "json"]

FORMATS: dict[Format, str] = {
    "aws-cur": "AWS Cost and Usage Report 2.0, or the legacy report as parquet",
    "aws-cur-legacy": "AWS Cost and Usage Report with group/Name headers",
    "gcp": "Google Cloud detailed usage cost export",
    "azure": "Azure cost details, actual or amortised, EA or MCA",
    "focus": "FOCUS 1.0 to 1.2 from anyone",
}
_SIGNATURES: dict[Format, frozenset[str]] = {
    "aws-cur-legacy": frozenset({"lineitem/lineitemtype", "lineitem/usagestartdate"}),
    "aws-cur": frozenset({"line_item_line_item_type", "line_item_usage_start_date"}),
    "focus": frozenset({"billedcost", "chargeperiodstart", "chargecategory"}),
    "gcp": frozenset({"usage_start_time", "sku", "cost", "invoice"}),
    "azure": frozenset({"metercategory", "chargetype", "subscriptionid"}),
}
"""Lower-case columns that only this format has all of."""

_MAX_HEADER = 1 << 20


@dataclass(frozen=True, slots=True)
class Detected:
    """A file and what it is.

    Attributes:
        file: The file.
        format: Its billing format.
        container: Its file format.
        header: Column names in order, for CSV; empty otherwise.
    """

    file: SourceFile
    format: Format
    container: Container
    header: tuple[str, ...] = ()


def detect(file: SourceFile, format: str | None = None) -> Detected:  # noqa: A002 (the command-line word)
    """Return what `file` is; `format` overrides the guess.

    Raises:
        InputError: The file cannot be opened as what it claims to be, or no format fits its columns.
    """
    if format is not None and format not in FORMATS:
        raise InputError(f"format {format!r}; accepted: {', '.join(FORMATS)}")
    container = _container(file)
    names = {"parquet": _parquet_names, "csv": _csv_header, "json": _json_names}[container](file)
    lower = {name.strip().lower() for name in names}
    guess = next((name for name, wanted in _SIGNATURES.items() if wanted <= lower), None)
    chosen = next((name for name in FORMATS if name == format), guess)
    if chosen is None:
        shown = ", ".join(sorted(names)[:8])
        nearest = max(_SIGNATURES, key=lambda name: len(_SIGNATURES[name] & lower) / len(_SIGNATURES[name]))
        lacking = [name for name in sorted(_SIGNATURES[nearest]) if name not in lower]
        if 2 * len(lacking) <= len(_SIGNATURES[nearest]):
            raise InputError(
                f"{file.name}: columns missing for {nearest}, which it looks like: {', '.join(lacking)}"
            )
        hints = "; ".join(f"{name} has {', '.join(sorted(wanted))}" for name, wanted in _SIGNATURES.items())
        raise InputError(f"{file.name}: unknown billing format with columns {shown} …; accepted: {hints}")
    return Detected(file, chosen, container, tuple(names) if container == "csv" else ())


def _container(file: SourceFile) -> Container:
    with file.path.open("rb") as source:
        begin = source.read(4)
    if begin == b"PAR1":
        return "parquet"
    if begin[:2] == b"\x1f\x8b" and not file.name.endswith(".gz"):
        raise InputError(f"{file.name}: gzip data in a file whose name does not end in .gz; rename it")
    text = _first_line(file)
    return "json" if text.lstrip().startswith("{") else "csv"


def _first_line(file: SourceFile) -> str:
    try:
        if file.name.endswith(".gz"):
            with gzip.open(file.path, "rb") as packed:
                line = packed.readline(_MAX_HEADER)
        else:
            with file.path.open("rb") as source:
                line = source.readline(_MAX_HEADER)
        return line.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{file.name}: damaged or truncated gzip data ({error}); download it again"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file.name}: not UTF-8 text at byte {error.start}; accepted: UTF-8, parquet"
        ) from error


def _parquet_names(file: SourceFile) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(file.path).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file.name}: damaged or truncated parquet ({error}); download it again") from error


def _csv_header(file: SourceFile) -> list[str]:
    line = _first_line(file)
    names = next(csv.reader([line]), [])
    if len(names) < 2:
        for delimiter, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if len(next(csv.reader([line], delimiter=delimiter), [])) > 2:
                raise InputError(f"{file.name}: line 1 is separated by {word}; accepted: commas, as exported")
    duplicates = sorted({n for n in names if names.count(n) > 1})
    if duplicates:
        raise InputError(f"{file.name}: line 1 names {', '.join(duplicates)} more than once")
    return [name.strip() for name in names]


def _json_names(file: SourceFile) -> list[str]:
    try:
        first = json.loads(_first_line(file))
    except ValueError as error:
        raise InputError(
            f"{file.name}: line 1 is not a JSON object ({error}); accepted: one per line"
        ) from error
    return list(first)


def snake(name: str) -> str:
    """Return a legacy header as its parquet twin has it: `lineItem/UsageType` → `line_item_usage_type`."""
    group, _, rest = name.partition("/")
    words = "_".join(re.sub(r"(?<!^)(?=[A-Z])", "_", part) for part in (group, rest) if part)
    return re.sub(r"[^a-z0-9_]", "_", words.lower())
