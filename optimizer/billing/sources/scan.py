"""Reads export files row by row as SQL, with file and line, and finds the lines that cannot be read."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from optimizer.billing.sources.detect import Detected
from optimizer.billing.sources.files import SourceFile
from simulator.errors import InputError

SHAPE_ERROR = "shape_error"
"""Column of a scan of JSON lines: which fields are no object or list where the export has one, or null."""

MAX_LINE = 4 * 1024 * 1024
"""Longest line, in bytes. The engine would take 32 times as much as a buffer, unless told."""

_LINES = f"max_line_size = {MAX_LINE}, buffer_size = {2 * MAX_LINE}"

MAX_MALFORMED = 10_000
"""A file with so many lines that cannot be read is refused: it is no export."""

_TEXT = "VARCHAR"


def _object(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, _TEXT)


_GCP_JSON: dict[str, str | dict[str, str] | list[dict[str, str]]] = {
    "billing_account_id": _TEXT,
    "service": _object("id", "description"),
    "sku": _object("id", "description"),
    "usage_start_time": _TEXT,
    "usage_end_time": _TEXT,
    "project": _object("id", "name"),
    "labels": [_object("key", "value")],
    "system_labels": [_object("key", "value")],
    "tags": [_object("key", "value")],
    "location": _object("location", "region", "zone"),
    # Amounts as text, for a decimal.
    "cost": _TEXT,
    "currency": _TEXT,
    "usage": _object("amount", "unit", "amount_in_pricing_units", "pricing_unit"),
    "credits": [_object("name", "amount", "id", "type")],
    "invoice": _object("month"),
    "cost_type": _TEXT,
    "adjustment_info": _object("id", "type"),
    "cost_at_list": _TEXT,
    "resource": _object("name", "global_name"),
    "subscription": _object("instance_id"),
    "seller_name": _TEXT,
}
"""Columns of a Google export in JSON lines; what a line does not have is null."""


@dataclass(frozen=True, slots=True)
class MalformedLine:
    """A line that cannot be read: its file, number and text, and why."""

    file: str
    line: int
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file, ready to be read.

    Attributes:
        scan: SQL of its rows, to stand behind FROM, with the columns `source_file` and `source_line`.
        malformed: Lines that are not in `scan`.
        remarks: What the user should know about it.
    """

    scan: str
    malformed: tuple[MalformedLine, ...]
    remarks: tuple[str, ...]


def quote(name: str) -> str:
    """Return `name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return `text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def no_row(one: Detected) -> str:
    """Return the remark on a file without rows."""
    return f"{one.file.name}: a header and no row; it changes no bill"


def parquet_rows(one: Detected) -> int:
    """Return how many rows a parquet file has."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(one.file.path).num_rows)


def parquet_scan(found: Sequence[Detected]) -> str:
    """Return SQL of the rows of parquet files."""
    # `filename` is the path on this machine; what came from S3 is known to the user under another name.
    paths = ", ".join(literal(str(d.file.path)) for d in found)
    names = ", ".join(f"{literal(str(d.file.path))}: {literal(d.file.name)}" for d in found)
    return (
        f"(SELECT * EXCLUDE (filename, file_row_number), MAP {{{names}}}[filename] AS source_file,"
        " file_row_number + 1 AS source_line"
        f" FROM read_parquet([{paths}], filename = true, file_row_number = true, union_by_name = true,"
        " hive_partitioning = false))"
    )


def read_csv(connection: duckdb.DuckDBPyConnection, one: Detected) -> TextFile:
    """Look through a CSV file for lines that do not have the columns of its header.

    Raises:
        InputError: It is damaged, was cut off within a line, or is no comma-separated export.
    """
    last = _last_byte(one.file)
    connection.execute("DROP TABLE IF EXISTS temp.csv_errors")
    connection.execute("DROP TABLE IF EXISTS temp.csv_scans")
    try:
        # Every column must be looked at, or damage goes unseen.
        counted = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE COLUMNS(*) IS NOT NULL)"
            f" FROM read_csv({_csv_options(one)}, store_rejects = true, rejects_limit = {MAX_MALFORMED},"
            " rejects_table = 'csv_errors', rejects_scan = 'csv_scans')"
        ).fetchall()
    except duckdb.Error as error:
        said = str(error).splitlines()[0]
        if "state machine" in said:
            # What the engine says of it helps nobody.
            said = "lines that end in LF beside others that end in CR LF, or broken quotes"
        raise InputError(f"{one.file.name}: {said}; accepted: CSV as exported") from error
    rows = connection.execute(
        "SELECT line, trim(any_value(csv_line), chr(13) || chr(10)), any_value(error_type::VARCHAR)"
        " FROM csv_errors GROUP BY line ORDER BY line"
    ).fetchall()
    end = 1 + int(counted[0][0]) + len(rows)
    for line, text, kind in rows:
        # A file that ends too early lacks more than the rest of its last line.
        if line >= end and (kind == "MISSING COLUMNS" or last != b"\n"):
            raise InputError(
                f"{one.file.name}: the file was cut off in line {line}, its last ({str(text)[-60:]!r});"
                " download it again; nothing was written"
            )
        # Only the number of columns shows whichever columns are read; other damage one query would see and
        # the next would not.
        if kind not in ("MISSING COLUMNS", "TOO MANY COLUMNS"):
            raise InputError(f"{one.file.name}: line {line}: {kind.lower()}; accepted: UTF-8 CSV as exported")
    if len(rows) >= MAX_MALFORMED:
        raise InputError(
            f"{one.file.name}: {MAX_MALFORMED} or more lines do not have the {len(one.header)} columns of"
            " line 1; accepted: a comma-separated export as downloaded"
        )
    malformed = tuple(
        MalformedLine(one.file.name, int(line), str(text), "the line does not have the columns of line 1")
        for line, text, _ in rows
    )
    return TextFile(_csv_scan(one, malformed), malformed, _remarks(one, end - 1, last))


def _csv_options(one: Detected) -> str:
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in one.header)
    nulls = "['', 'NULL']" if one.format == "focus" else "['']"
    return (
        f"{literal(str(one.file.path))}, columns = {{{columns}}}, header = true, auto_detect = false,"
        " delim = ',',"
        f" quote = '\"', escape = '\"', nullstr = {nulls}, allow_quoted_nulls = true,"
        f" {_LINES}, null_padding = false"
    )


def _csv_scan(one: Detected, malformed: Sequence[MalformedLine]) -> str:
    # Records count from 1 below the header; every malformed line before a record moves it one line down.
    moved = "".join(f" + (n >= {bad.line - place})::INT" for place, bad in enumerate(malformed, start=1))
    skip = ", ignore_errors = true" if malformed else ""
    return (
        f"(SELECT * EXCLUDE n, {literal(one.file.name)} AS source_file, n + 1{moved} AS source_line"
        f" FROM (SELECT *, row_number() OVER () AS n FROM read_csv({_csv_options(one)}{skip})))"
    )


def read_json(connection: duckdb.DuckDBPyConnection, one: Detected) -> TextFile:
    """Look through JSON lines for those that are no JSON object.

    Raises:
        InputError: It is damaged, was cut off within a line, or is no Google export.
    """
    if one.format != "gcp":
        raise InputError(
            f"{one.file.name}: {one.format} as JSON; accepted: parquet or CSV (JSON lines for gcp only)"
        )
    last = _last_byte(one.file)
    table = quote(f"json_{one.file.sha256}")
    try:
        # Once: a mapping reads its rows several times, and text is slow to parse.
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {_json_rows(one)}")
    except duckdb.Error as error:
        raise InputError(
            f"{one.file.name}: {str(error).splitlines()[0]}; accepted: JSON lines as exported"
        ) from error
    rows = connection.execute(
        f"SELECT n, bad, valid FROM {table} WHERE bad IS NOT NULL ORDER BY n LIMIT {MAX_MALFORMED}"
    ).fetchall()
    end, count = connection.execute(f"SELECT max(n), count(*) FROM {table}").fetchall()[0]
    if len(rows) >= MAX_MALFORMED:
        raise InputError(
            f"{one.file.name}: {MAX_MALFORMED} or more lines are no JSON objects; accepted: one per line"
        )
    for number, text, valid in rows:
        if number == end and not valid and last != b"\n":
            raise InputError(
                f"{one.file.name}: the file was cut off in line {number}, its last ({text[-60:]!r}); download"
                " it again; nothing was written"
            )
    malformed = tuple(
        MalformedLine(
            one.file.name,
            int(number),
            str(text),
            "the line is no JSON object" if valid else "the line is not JSON",
        )
        for number, text, valid in rows
    )
    scan = (
        f"(SELECT fields.*, {literal(one.file.name)} AS source_file, n AS source_line, {SHAPE_ERROR}"
        f" FROM {table} WHERE bad IS NULL)"
    )
    return TextFile(scan, malformed, _remarks(one, int(count), last))


def _json_rows(one: Detected) -> str:
    """Return SQL of the lines that are not blank.

    Columns: `n` (their number in the file), `fields` (a struct), `shape_error`; of a line that is no JSON
    object `bad` (its text) and `valid` (whether it is JSON at all).
    """
    nested = {
        name: "ARRAY" if isinstance(kind, list) else "OBJECT"
        for name, kind in _GCP_JSON.items()
        if not isinstance(kind, str)
    }
    paths = ", ".join(literal(f"$.{name}") for name in nested)
    wrong = ", ".join(
        f"CASE WHEN types[{place}] NOT IN ({literal(kind)}, 'NULL')"
        f" THEN {literal(f'{name}: not a JSON {kind.lower()}')} END"
        for place, (name, kind) in enumerate(nested.items(), start=1)
    )
    # A control character that JSON must escape separates nothing, so that a line is one column.
    lines = (
        "(SELECT line, row_number() OVER () AS n FROM"
        f" read_csv({literal(str(one.file.path))}, columns = {{'line': 'VARCHAR'}}, header = false,"
        f" auto_detect = false, delim = chr(1), quote = '', escape = '', {_LINES}))"
    )
    is_object = "CASE WHEN valid THEN json_type(line) = 'OBJECT' ELSE false END"
    return (
        f"SELECT n, from_json(whole, {literal(json.dumps(_GCP_JSON))}) AS fields,"
        f" nullif(concat_ws('; ', {wrong}), '') AS {SHAPE_ERROR},"
        " CASE WHEN whole IS NULL THEN line END AS bad, valid"
        f" FROM (SELECT *, json_type(whole, [{paths}]) AS types"
        f" FROM (SELECT *, CASE WHEN {is_object} THEN line END AS whole"
        f" FROM (SELECT *, json_valid(line) AS valid FROM {lines} WHERE trim(line) <> '')))"
    )


def _last_byte(file: SourceFile) -> bytes:
    """Return the last byte of a text, unpacked.

    Raises:
        InputError: It is gzip data that cannot be read to its end.
    """
    last = b""
    if not file.name.endswith(".gz"):
        with file.path.open("rb") as source:
            source.seek(-1, 2)
            return source.read(1)
    try:
        with gzip.open(file.path, "rb") as packed:
            while block := packed.read(1 << 20):
                last = block[-1:]
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file.name}: damaged or truncated gzip data; download it again") from error
    return last


def _remarks(one: Detected, rows: int, last: bytes) -> tuple[str, ...]:
    if rows == 0:
        return (no_row(one),)
    if last != b"\n":
        return (
            f"{one.file.name}: its last line has no end; it is taken for whole, but if the download was cut"
            " off there, download it again",
        )
    return ()
