"""Readers of public trace and price formats; each turns one file into records of its pools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from simulator.errors import InputError
from simulator.market.readers.aws_prices import (
    COLUMNS as AWS_COLUMNS,
)
from simulator.market.readers.aws_prices import (
    TSV_COLUMNS,
    is_cli_json,
    read_cli_json,
    read_csv_events,
    read_tsv_events,
)
from simulator.market.readers.files import json_of, read_bytes
from simulator.market.readers.gcp import COLUMNS as GCP_COLUMNS
from simulator.market.readers.gcp import read_gcp_changes
from simulator.market.readers.on_demand import OnDemandPrices, read_on_demand_prices
from simulator.market.readers.records import CapacityTrace, PriceHistory, merge_histories
from simulator.market.readers.skypilot import is_skypilot, read_skypilot
from simulator.market.readers.spotlake import COLUMNS as SPOTLAKE_COLUMNS
from simulator.market.readers.spotlake import read_spotlake_csv, read_spotlake_parquet
from simulator.market.readers.tables import normalised

__all__ = [
    "FORMATS",
    "CapacityTrace",
    "OnDemandPrices",
    "PriceHistory",
    "detect_format",
    "merge_histories",
    "read_on_demand_prices",
    "read_records",
]

_PRICE_READERS: dict[str, Callable[[str, bytes], list[PriceHistory]]] = {
    "aws-json": read_cli_json,
    "aws-csv": read_csv_events,
    "aws-tsv": read_tsv_events,
    "spotlake": read_spotlake_csv,
    "gcp": read_gcp_changes,
}
FORMATS = ("skypilot", *_PRICE_READERS)
"""Names of the formats that `read_records` accepts."""
_PARQUET_MAGIC = b"PAR1"


def read_records(path: Path, format_name: str | None = None) -> list[CapacityTrace] | list[PriceHistory]:
    """Read one file.

    Args:
        path: The file; gzip and zstandard are unpacked.
        format_name: One of `FORMATS`; None finds it out.

    Returns:
        One capacity trace, or one price history per pool and product.

    Raises:
        InputError: The format is unknown, or a reader refuses the content.
    """
    data = read_bytes(path)
    format_name = format_name or detect_format(str(path), data)
    if format_name == "skypilot":
        return [read_skypilot(path, data)]
    if format_name == "spotlake" and data.startswith(_PARQUET_MAGIC):
        return read_spotlake_parquet(str(path), data)
    if format_name not in _PRICE_READERS:
        raise InputError(f"format {format_name!r} is unknown; accepted: {', '.join(FORMATS)}")
    return _PRICE_READERS[format_name](str(path), data)


def detect_format(file: str, data: bytes) -> str:
    """The name of the format of a file's content.

    Raises:
        InputError: It is none of `FORMATS`, or it is an interruption-band file, which is an option.
    """
    if data.startswith(_PARQUET_MAGIC):
        return "spotlake"
    if data.lstrip()[:1] in (b"{", b"["):
        return _detect_json(file, data)
    head = data[:4096].decode("utf-8", "replace").splitlines()[0]
    columns = {normalised(name) for name in head.split(",")}
    for name, needed in (("aws-csv", AWS_COLUMNS), ("spotlake", SPOTLAKE_COLUMNS), ("gcp", GCP_COLUMNS)):
        if columns.issuperset(needed):
            return name
    if head.count("\t") == len(TSV_COLUMNS) - 1:
        return "aws-tsv"
    if {"if", "az"} <= columns:
        raise _band_file(file)
    raise InputError(f"{file}: unknown format (it begins {head[:60]!r}); accepted: {', '.join(FORMATS)}")


def _detect_json(file: str, data: bytes) -> str:
    content = json_of(file, data)
    if is_cli_json(content):
        return "aws-json"
    if is_skypilot(content):
        return "skypilot"
    if isinstance(content, dict) and "spot_advisor" in content:
        raise _band_file(file)
    raise InputError(
        f"{file}: JSON of an unknown kind; accepted: a SkyPilot trace (`metadata`, `data`) or what "
        "`aws ec2 describe-spot-price-history` prints (`SpotPriceHistory`)"
    )


def _band_file(file: str) -> InputError:
    return InputError(
        f"{file}: holds interruption bands, not a series; accepted: `--advisor {file}` beside a price history"
    )
