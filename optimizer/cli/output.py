"""How commands print what they found: a table for people, JSON or CSV for programs."""

from __future__ import annotations

import json
import math
import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from simulator.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


def print_json(data: object) -> None:
    """Print one JSON object; decimals are numbers, times ISO 8601, what is no finite number is null."""
    typer.echo(json.dumps(plain(data), indent=2, allow_nan=False))


def plain(value: object) -> object:
    """Return `value` in the types that JSON has."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (Decimal, float)):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)


def print_table(table: pa.Table, *, as_json: bool, as_csv: bool, title: str) -> None:
    """Print a table; `title` says what it is to JSON and, where it does not only name a file, to people."""
    if as_json and as_csv:
        raise InputError("--json and --csv; accepted: one of them")
    names = table.column_names
    # Not as dicts: two columns of a user's query may have one name.
    rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    if as_json:
        print_json({"title": title, "rows": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    if as_csv:
        import csv

        from optimizer.billing.views import escape_formula

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([escape_formula(name) for name in names])
        for row in rows:
            writer.writerow([escape_formula(_cell(value)) for value in row])
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title if " " in title else None)
    for name, kind in zip(names, table.schema.types, strict=True):
        numeric = str(kind).startswith(("decimal", "double", "int", "float"))
        shown.add_column(Text(name), justify="right" if numeric else "left")
    for row in rows:
        # As text, so that brackets in a tag are not taken for markup.
        shown.add_row(*(Text(short(value)) for value in row))
    Console().print(shown)


def short(value: object) -> str:
    """Return `value` for a table."""
    if isinstance(value, (Decimal, float)):
        return f"{value:,.4f}"
    return "" if value is None else str(value)


def _cell(value: object) -> object:
    if isinstance(value, Decimal):
        # A negative amount is a number and no formula.
        return float(value)
    if isinstance(value, (list, dict, bytes)):
        return json.dumps(plain(value))
    return value


def write_text(path: Path, text: str) -> None:
    """Write a file, with its folders.

    Raises:
        InputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
