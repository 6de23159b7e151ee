"""Shows export files as DuckDB views with the fixed columns of `fields`, row by row, with file and line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from optimizer.billing.focus import MONEY
from optimizer.billing.sources.detect import Detected, Format, snake
from optimizer.billing.sources.fields import Field, fields_of
from optimizer.billing.sources.scan import (
    SHAPE_ERROR,
    MalformedLine,
    literal,
    no_row,
    parquet_rows,
    parquet_scan,
    quote,
    read_csv,
    read_json,
)
from simulator.errors import InputError

_SQL_MONEY = MONEY.upper()


@dataclass(frozen=True, slots=True)
class RawTable:
    """A view on export files of one format.

    Attributes:
        view: Its name. Columns: the fields of the format, for each field of type `tags` also `NAME_broken`
            (the text was
            no JSON object), `source_file`, `source_line`, `parse_error`.
        credits: For Google, a view with one row per credit: the columns of its line, `credit_name`,
            `credit_amount`,
            `credit_type`, `credit_id`; empty otherwise.
        malformed: Lines that cannot be read at all.
        remarks: What the user should know about the files, such as that one has no rows.
    """

    view: str
    credits: str
    malformed: tuple[MalformedLine, ...]
    remarks: tuple[str, ...]


def open_raw(
    connection: duckdb.DuckDBPyConnection,
    found: Sequence[Detected],
    format: Format,  # noqa: A002 (the command-line word)
    view: str,
) -> RawTable:
    """Create the view `view` over `found`, which are all of `format`.

    Raises:
        InputError: A file is damaged, or lacks columns; the message names them.
    """
    parts: list[str] = []
    credit_parts: list[str] = []
    malformed: list[MalformedLine] = []
    remarks: list[str] = []
    parquet = [d for d in found if d.container == "parquet"]
    if parquet:
        remarks += [no_row(d) for d in parquet if parquet_rows(d) == 0]
        scan = parquet_scan(parquet)
        part, credit = _project(connection, scan, format, parquet[0].file.name)
        parts.append(part)
        credit_parts += credit
    for one in (d for d in found if d.container != "parquet"):
        text = read_csv(connection, one) if one.container == "csv" else read_json(connection, one)
        malformed += text.malformed
        remarks += text.remarks
        scan = text.scan
        part, credit = _project(connection, scan, format, one.file.name)
        parts.append(part)
        credit_parts += credit
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quote(view)} AS " + " UNION ALL BY NAME ".join(parts))
    credits_view = ""
    if credit_parts:
        credits_view = f"{view}_credits"
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {quote(credits_view)} AS "
            + " UNION ALL BY NAME ".join(credit_parts)
        )
    return RawTable(view, credits_view, tuple(malformed), tuple(remarks))


@dataclass(frozen=True, slots=True)
class _Source:
    """A column as the export has it: SQL to read it and its DuckDB type."""

    sql: str
    type: str


def _project(
    connection: duckdb.DuckDBPyConnection,
    scan: str,
    format: Format,  # noqa: A002
    file: str,
) -> tuple[str, list[str]]:
    """Return the SELECT that gives `scan` the columns of its format, and the one of its credits (Google)."""
    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
    except duckdb.Error as error:
        raise InputError(f"{file}: {str(error).splitlines()[0]}") from error
    sources = _sources(connection, scan, [(str(n), str(t)) for n, t, *_ in described], format)
    fields = fields_of(format)
    missing = [f.names[0] for f in fields if f.required and not any(n in sources for n in f.names)]
    if missing:
        raise InputError(f"{file}: columns missing for {format}: {', '.join(missing)}")
    columns: list[str] = []
    errors: list[str] = []
    for field in fields:
        _check_type(field, sources, file)
        candidates = [sources[n] for n in field.names if n in sources]
        value, complaints = _read(field, candidates, strip=format.startswith("aws"))
        columns.append(f"{value} AS {quote(field.name)}")
        errors += complaints
        if field.type == "tags":
            columns.append(f"{_broken(candidates)} AS {quote(field.name + '_broken')}")
    if format == "gcp":
        columns += _credit_sums("credits" in sources)
        errors += [_CREDIT_COMPLAINT] if "credits" in sources else []
    errors += [SHAPE_ERROR] if SHAPE_ERROR in sources else []
    parse_error = f"nullif(concat_ws('; ', {', '.join(errors)}), '')" if errors else "NULL::VARCHAR"
    body = ", ".join(
        [*columns, "source_file", "source_line::BIGINT AS source_line", f"{parse_error} AS parse_error"]
    )
    credit_lines: list[str] = []
    if format == "gcp" and "credits" in sources:
        credit_lines.append(
            f"SELECT {body}, c.name::VARCHAR AS credit_name, TRY_CAST(c.amount AS {_SQL_MONEY}) AS"
            " credit_amount,"
            " c.type::VARCHAR AS credit_type, c.id::VARCHAR AS credit_id"
            f" FROM (SELECT *, unnest(credits) AS c FROM {scan})"
        )
    return f"SELECT {body} FROM {scan}", credit_lines


def _check_type(field: Field, sources: dict[str, _Source], file: str) -> None:
    """Refuse a column of a type that no export has, by its name."""
    source = next((sources[name] for name in field.names if name in sources), None)
    if source is None:
        return
    kind = source.type
    is_list, is_nested = kind.endswith("[]"), kind.startswith(("MAP", "STRUCT"))
    accepted = ""
    if field.type == "tags" and is_list and not re.match(r"STRUCT\(.*\bkey\b.*\bvalue\b.*\)\[\]$", kind):
        accepted = "a map, a struct, a list of structs with key and value, or JSON as text"
    elif field.type in ("decimal", "time", "date", "string") and (is_list or is_nested):
        accepted = {"decimal": "a number", "string": "a text"}.get(field.type, "a time")
    if accepted:
        raise InputError(f"{file}: column {field.names[0]} is {kind[:60]}; accepted: {accepted}")


def _sources(
    connection: duckdb.DuckDBPyConnection,
    scan: str,
    described: list[tuple[str, str]],
    format: Format,  # noqa: A002
) -> dict[str, _Source]:
    """Return the columns of the export under the names that `fields` looks for."""
    found: dict[str, _Source] = {}
    spelling = {name.lower(): name for field in fields_of(format) for name in field.names}
    for name, kind in described:
        key = snake(name) if format == "aws-cur-legacy" else spelling.get(name.lower(), name.lower())
        found[key] = _Source(quote(name), kind)
        if kind.startswith("STRUCT") and format == "gcp":
            inner = connection.execute(f"DESCRIBE SELECT unnest({quote(name)}) FROM {scan}").fetchall()
            for part, part_kind, *_ in inner:
                found[f"{key}.{part}"] = _Source(f"{quote(name)}.{quote(part)}", part_kind)
    if format == "gcp":
        for label in ("compute.googleapis.com/machine_spec", "compute.googleapis.com/cores"):
            if "system_labels" in found:
                pick = f"list_filter(system_labels, lambda x: x.key = {literal(label)})[1].value"
                found[f"system_labels[{label}]"] = _Source(pick, "VARCHAR")
    if format.startswith("aws"):
        if (product := found.get("product")) and product.type.startswith("MAP"):
            for key in (
                "product_name",
                "instance_type",
                "vcpu",
                "operating_system",
                "region_code",
                "region",
                "location",
            ):
                found.setdefault(f"product.{key}", _Source(f"{product.sql}[{literal(key)}]", "VARCHAR"))
        if "resource_tags" not in found:
            found |= _legacy_tags(described)
    return found


def _legacy_tags(described: list[tuple[str, str]]) -> dict[str, _Source]:
    """Return the `resourceTags/user:KEY` columns of a legacy report as one map."""
    pairs = []
    for name, _ in described:
        for prefix in ("resourceTags/", "resource_tags_"):
            if name.startswith(prefix):
                key = name.removeprefix(prefix)
                pairs.append(f"{{'key': {literal(key)}, 'value': {quote(name)}::VARCHAR}}")
    if not pairs:
        return {}
    return {"resource_tags": _Source(f"[{', '.join(pairs)}]", "STRUCT(key VARCHAR, value VARCHAR)[]")}


def _read(field: Field, candidates: list[_Source], *, strip: bool) -> tuple[str, list[str]]:
    """Return the SQL of a field and the SQL of what is wrong with it; `strip` AWS's prefix from tag keys."""
    if not candidates:
        empty = {"decimal": _SQL_MONEY, "time": "TIMESTAMP", "date": "TIMESTAMP"}.get(field.type, "VARCHAR")
        return f"NULL::{empty}", []
    if field.type == "string":
        texts = [c.sql if c.type == "VARCHAR" else f"{c.sql}::VARCHAR" for c in candidates]
        return f"nullif(coalesce({', '.join(texts)}), '')", []
    source = candidates[0]
    if field.type == "decimal":
        value = f"TRY_CAST({source.sql} AS {_SQL_MONEY})"
        return value, [_complaint(field, source, value, "not a number")]
    if field.type in ("time", "date"):
        if not source.type.startswith(("TIMESTAMP", "DATE")):
            source = _Source(f"{source.sql}::VARCHAR", "VARCHAR")
        value = _time(source, american=field.type == "date")
        return value, [] if source.type == "TIMESTAMP" else [_complaint(field, source, value, "not a time")]
    if field.type == "tags":
        return _tags(source, strip=strip), []
    if source.type.startswith(("MAP", "STRUCT")):
        # AWS's FOCUS export has maps where others have text.
        return f"nullif(to_json({source.sql})::VARCHAR, '{{}}')", []
    return f"nullif({source.sql}::VARCHAR, '')", []


def _complaint(field: Field, source: _Source, value: str, what: str) -> str:
    shown = f"left({source.sql}::VARCHAR, 40)"
    blank = f" AND {source.sql} <> ''" if source.type == "VARCHAR" else ""
    return (
        f"CASE WHEN {value} IS NULL AND {source.sql} IS NOT NULL{blank}"
        f" THEN {literal(field.names[0] + ': ' + what + ': ')} || {shown} END"
    )


def _time(source: _Source, *, american: bool) -> str:
    if source.type.startswith("TIMESTAMP WITH"):
        return f"timezone('UTC', {source.sql})"
    if source.type != "VARCHAR":
        return f"{source.sql}::TIMESTAMP"
    if american:
        return (
            f"coalesce(try_strptime({source.sql}, ['%m/%d/%Y', '%Y-%m-%d', '%m/%d/%Y %H:%M:%S']),"
            f" timezone('UTC', TRY_CAST({source.sql} AS TIMESTAMPTZ)))"
        )
    return f"timezone('UTC', TRY_CAST({source.sql} AS TIMESTAMPTZ))"


_CREDIT_COMPLAINT = (
    f"CASE WHEN len(list_filter(credits, lambda x: TRY_CAST(x.amount AS {_SQL_MONEY}) IS NULL)) > 0"
    " THEN 'credits.amount: not a number' END"
)


def _credit_sums(there: bool) -> list[str]:
    """Return columns with the sum of a line's credits: all, of commitments, of commitments to spend."""
    names = {
        "credit_total": "true",
        "cud_total": "{c} LIKE 'COMMITTED_USAGE_DISCOUNT%'",
        "cud_spend": "{c} LIKE '%DOLLAR_BASE'",
    }
    columns = []
    for name, condition in names.items():
        kept = f"list_filter(credits, lambda x: {condition.format(c='x.type')})"
        total = f"list_sum(list_transform({kept}, lambda x: TRY_CAST(x.amount AS {_SQL_MONEY})))"
        columns.append(f"coalesce({total if there else 'NULL'}, 0)::{_SQL_MONEY} AS {name}")
    return columns


def _tag_text(source: _Source) -> str:
    text = f"nullif(trim({source.sql}::VARCHAR), '')"
    # Enterprise agreements leave the outer braces out.
    return (
        f"CASE WHEN {text} IS NULL OR starts_with({text}, '{{') THEN {text} ELSE '{{' || {text} || '}}' END"
    )


def _broken(candidates: list[_Source]) -> str:
    """Return SQL for: there are tags, but they are no JSON object."""
    if (
        not candidates
        or candidates[0].type.startswith(("MAP", "STRUCT"))
        or candidates[0].type.endswith("[]")
    ):
        return "false"
    text = _tag_text(candidates[0])
    return f"coalesce(NOT json_valid({text}), false)"


def _tags(source: _Source, *, strip: bool) -> str:
    """Return SQL for a JSON object as text, null when there are no tags or their text is not JSON.

    With `strip`, keys lose the `user_` or `user:` that AWS puts before the user's own.
    """
    if source.type.endswith("[]"):
        # Not through a map, which refuses the doubled keys that real labels have.
        kept = f"list_filter({source.sql}, lambda x: x.value IS NOT NULL AND x.value <> '')"
        pair = "to_json(x.key)::VARCHAR || ':' || to_json(x.value)::VARCHAR"
        pairs = f"list_transform({kept}, lambda x: {pair})"
        text = f"CASE WHEN len({kept}) > 0 THEN '{{' || array_to_string({pairs}, ',') || '}}' END"
    elif source.type.startswith(("MAP", "STRUCT")):
        text = f"to_json({source.sql})::VARCHAR"
    else:
        told = _tag_text(source)
        # Escaped letters are written out, so that a tag is found by its value; doubled keys, which a map
        # refuses, keep the text as it is.
        plain = f"to_json(TRY_CAST(({told})::JSON AS MAP(VARCHAR, VARCHAR)))::VARCHAR"
        # `json` takes the blanks out, which the replacement below relies on.
        bare = f"json({told})" if strip else told
        text = (
            f"CASE WHEN json_valid({told}) THEN"
            f" CASE WHEN contains({told}, '\\') THEN coalesce({plain}, {bare})"
            f" ELSE {bare} END END"
        )
    if strip:
        # A quote inside a value is escaped, so a quote behind a brace or a comma begins a key.
        for prefix in ("user_", "user:"):
            text = f"replace(replace({text}, '{{\"{prefix}', '{{\"'), ',\"{prefix}', ',\"')"
    return f"nullif({text}, '{{}}')"
