"""Tables of price events: columns checked value by value, rows grouped by pool, order of time enforced."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.errors import InputError
from simulator.market.readers.files import text_of
from simulator.market.readers.records import HIGHEST_PRICE


@dataclass(frozen=True)
class Table:
    """Rows of text with the place each came from.

    Attributes:
        file: The file.
        frame: Columns of str under normalised names (lower case, letters and digits only).
        place: What the rows are called in messages, e.g. `line` or `SpotPriceHistory entry`.
        first: Number of the first row in messages.
    """

    file: str
    frame: pd.DataFrame
    place: str = "line"
    first: int = 2

    def at(self, row: int) -> str:
        """File and place of a row, for messages."""
        return f"{self.file}, {self.place} {row + self.first}"

    def keep(self, mask: NDArray[np.bool_]) -> tuple[Table, NDArray[np.int64]]:
        """The rows where `mask` holds, and their numbers in this table."""
        return Table(self.file, self.frame[mask], self.place, self.first), np.flatnonzero(mask)

    def text(self, column: str) -> NDArray[np.object_]:
        """A column of text, none of it empty.

        Raises:
            InputError: A value is empty.
        """
        values = self.frame[column].to_numpy(dtype=object)
        empty = values == ""
        if empty.any():
            row = int(np.flatnonzero(empty)[0])
            raise InputError(f"{self.at(row)}: `{column}` is empty; accepted: a name")
        return np.asarray(values)

    def prices(
        self, column: str, *, missing: tuple[str, ...] = (), missing_number: float | None = None
    ) -> NDArray[np.float64]:
        """A column of USD per hour; NaN where the source says that the price is missing.

        Args:
            column: Its normalised name.
            missing: Texts that stand for a missing price.
            missing_number: A number that stands for a missing price.

        Raises:
            InputError: Another value is no number, not finite, negative or absurdly high.
        """
        text = self.frame[column]
        numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
        absent = text.isin(missing).to_numpy() | (numbers == missing_number)
        bad = ~absent & ~((numbers >= 0) & (numbers <= HIGHEST_PRICE))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"{self.at(row)}: `{column}` is {str(text.iloc[row])[:40]!r}; "
                f"accepted: USD per hour from 0 to {HIGHEST_PRICE:g}"
            )
        return np.where(absent, np.nan, numbers)

    def times_ms(self, column: str) -> NDArray[np.int64]:
        """A column of ISO 8601 times as milliseconds since 1970 UTC; times without a zone are UTC.

        Raises:
            InputError: A value is no time.
        """
        code, distinct = pd.factorize(self.frame[column])
        parsed = pd.to_datetime(
            pd.Series(distinct, dtype=object), utc=True, format="ISO8601", errors="coerce"
        )
        bad = parsed.isna().to_numpy()[code]
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"{self.at(row)}: `{column}` is {str(self.frame[column].iloc[row])[:40]!r}; "
                "accepted: a time such as 2024-01-31T23:00:00Z"
            )
        return np.asarray(pd.DatetimeIndex(parsed).as_unit("ms").asi8[code], dtype=np.int64)


def read_table(
    file: str,
    data: bytes,
    *,
    needed: tuple[str, ...],
    separator: str = ",",
    names: tuple[str, ...] | None = None,
) -> Table:
    """Parse separated text.

    Args:
        file: For messages.
        data: The content.
        needed: Normalised names of the columns that must be there.
        separator: Column separator.
        names: Names of the columns where the file has no header line.

    Raises:
        InputError: The text is no such table or lacks a column.
    """
    try:
        frame = pd.read_csv(
            io.StringIO(text_of(file, data)),
            sep=separator,
            dtype=str,
            na_filter=False,
            header=None if names else 0,
            names=list(names) if names else None,
            index_col=False,
            skip_blank_lines=False,
        )
    except (ValueError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise InputError(f"{file}: no table ({str(error).strip()}); accepted: one row per line") from error
    frame = frame.rename(columns=normalised)
    lacking = [name for name in needed if name not in frame.columns]
    if lacking:
        raise InputError(
            f"{file}: column {', '.join(lacking)} is missing; it has {', '.join(map(str, frame.columns))}; "
            f"accepted: {', '.join(needed)}"
        )
    if frame.empty:
        raise InputError(f"{file}: a header and no rows; accepted: at least one row")
    return Table(file, frame.fillna(""), first=1 if names else 2)


def normalised(name: object) -> str:
    """A column name in lower case without anything but letters and digits."""
    return "".join(character for character in str(name).lower() if character.isalnum())


def by_pool(
    table: Table,
    keys: tuple[NDArray[np.object_], ...],
    times_ms: NDArray[np.int64],
    spot_price: NDArray[np.float64],
    *,
    ordered: bool,
) -> Iterator[NDArray[np.int64]]:
    """Rows of each pool, oldest first.

    Args:
        table: For messages.
        keys: Columns that together name the pool.
        times_ms: Time of each row.
        spot_price: Price of each row.
        ordered: Whether the format promises oldest first; then rows that go back or repeat a moment are
            errors. Otherwise rows are sorted and the same event is kept once.

    Raises:
        InputError: Time runs backwards, or a moment has two prices.
    """
    code = pd.DataFrame(dict(enumerate(keys))).groupby(list(range(len(keys))), sort=False).ngroup().to_numpy()
    order = np.argsort(code, kind="stable") if ordered else np.lexsort((times_ms, code))
    same_pool = code[order][1:] == code[order][:-1]
    step = np.diff(times_ms[order])
    change = np.diff(spot_price[order]) != 0
    _check_order(table, order, same_pool & (step < 0), "goes back in time", "oldest first")
    repeats = same_pool & (step == 0)
    if ordered:
        _check_order(
            table, order, repeats, "repeats the moment of an earlier row", "one row per pool and moment"
        )
    else:
        _check_order(
            table, order, repeats & change, "gives a second price for one moment", "one price per moment"
        )
        order = order[np.append(True, ~repeats)]
    cuts = np.flatnonzero(np.diff(code[order])) + 1
    yield from np.split(order, cuts)


def _check_order(
    table: Table, order: NDArray[np.int64], bad: NDArray[np.bool_], what: str, accepted: str
) -> None:
    if bad.any():
        row = int(order[1:][bad].min())
        raise InputError(f"{table.at(row)}: {what}; accepted: {accepted}")
