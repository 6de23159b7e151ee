"""A demand file as a table of text, whatever its format."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd

from simulator.errors import InputError
from simulator.market.readers.files import HIGHEST_BYTES, json_of, text_of
from simulator.market.readers.tables import Table, normalised, read_table

_PARQUET_MAGIC = b"PAR1"
PLAIN = "demand"
"""Name of the column of a file that has no header."""


def demand_table(file: str, data: bytes) -> Table:
    """Read CSV, TSV, parquet or JSON.

    Args:
        file: For messages.
        data: The content, decompressed.

    Returns:
        Columns of text under normalised names; one named `demand` where the file has no names.

    Raises:
        InputError: It is none of these, or has no rows.
    """
    table = _table(file, data)
    if not table.frame.columns.is_unique:
        names = ", ".join(map(str, table.frame.columns))
        raise InputError(f"{file}: two columns of one name ({names}); accepted: different names")
    return table


def _table(file: str, data: bytes) -> Table:
    if data.startswith(_PARQUET_MAGIC):
        return _parquet(file, data)
    if data.lstrip()[:1] in (b"{", b"["):
        return _json(file, json_of(file, data))
    text = text_of(file, data).rstrip()
    head = text.partition("\n")[0]
    separator = "\t" if "\t" in head else ","
    fields = head.split(separator)
    if all(_is_number(field) for field in fields):
        if len(fields) > 1:
            raise InputError(
                f"{file}, line 1: {len(fields)} columns without names; accepted: a header line, or one column"
            )
        return read_table(file, text.encode(), needed=(), names=(PLAIN,))
    return read_table(file, text.encode(), needed=(), separator=separator)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parquet(file: str, data: bytes) -> Table:
    import pyarrow  # late: few files need it
    import pyarrow.parquet as parquet

    try:
        source = parquet.ParquetFile(io.BytesIO(data))
        notes = source.metadata
        size = sum(notes.row_group(i).total_byte_size for i in range(notes.num_row_groups))
        if size > HIGHEST_BYTES or notes.num_rows > HIGHEST_BYTES // 64:
            raise InputError(f"{file}: {notes.num_rows} rows; accepted: smaller files")
        # Whoever wrote the file may have left pandas notes in it: they say nothing that is needed.
        table = source.read().replace_schema_metadata(None)
        table.validate(full=True)  # finds text that is no UTF-8 here instead of much later
        text = _as_text(file, table.to_pandas())
    # pandas has no words for times before the year 1
    except (OSError, ValueError, KeyError, NotImplementedError, pyarrow.ArrowException) as error:
        raise InputError(f"{file}: no whole parquet file ({error}); accepted: a complete one") from error
    return Table(file, text, "row", 1)


def _json(file: str, content: Any) -> Table:
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        frame = pd.DataFrame(content, dtype=object)
    elif isinstance(content, list) and not any(isinstance(entry, dict) for entry in content):
        frame = pd.DataFrame({PLAIN: content}, dtype=object)
    elif isinstance(content, dict) and content and all(isinstance(each, list) for each in content.values()):
        if len({len(each) for each in content.values()}) > 1:
            raise InputError(f"{file}: lists of different lengths; accepted: one value per time in each")
        frame = pd.DataFrame(content, dtype=object)
    else:
        raise InputError(
            f"{file}: JSON of an unknown kind; accepted: a list of numbers, a list of objects with a time "
            "and a value, or an object of lists"
        )
    for column in frame.columns:
        for row, value in enumerate(frame[column]):
            if isinstance(value, (list, dict, bool)):
                raise InputError(
                    f"{file}, entry {row}: `{str(column)[:40]}` is {str(value)[:40]}; accepted: numbers, text"
                )
    return Table(file, _as_text(file, frame), "entry", 0)


def _as_text(file: str, frame: pd.DataFrame) -> pd.DataFrame:
    if frame.empty:
        raise InputError(f"{file}: no rows; accepted: at least one value")
    columns = []
    for place in range(frame.shape[1]):
        code, distinct = pd.factorize(frame.iloc[:, place])
        texts = pd.Series([*(str(value) for value in distinct), ""], dtype=object)
        columns.append(texts.to_numpy()[code])  # a missing value has the code -1: the empty text
    return pd.DataFrame(dict(enumerate(columns))).set_axis(
        pd.Index([normalised(name) for name in frame.columns]), axis=1
    )
