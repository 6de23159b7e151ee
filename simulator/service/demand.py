"""Demand of a service from a file: one value per step, made into one whole number per tick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.deadline.observation import FloatArray, IntArray
from simulator.errors import InputError
from simulator.market import Market
from simulator.market.readers.files import read_bytes
from simulator.market.readers.tables import Table, normalised
from simulator.service.demand_table import demand_table
from simulator.service.service import HIGHEST_DEMAND

TIME_COLUMNS = ("time", "timestamp", "datetime", "date", "hour", "start", "usagehour")
VALUE_COLUMNS = ("demand", "instances", "value", "count", "replicas", "usage", "normusage")
SNOWFLAKE_COLUMNS = frozenset({"usagehour", "regionnum", "instancetype", "normusage"})
"""Columns of the public Snowflake demand, in which a row that is absent means zero."""
HIGHEST_TICKS = 50_000_000
_EPOCH_SECONDS = 100_000_000
"""Times that are numbers count from 1970 if the first is at least this, otherwise from an unknown moment."""


@dataclass(frozen=True, eq=False)
class DemandSeries:
    """What a file asks for, on the clock of a market.

    Attributes:
        demand: (T,) int64 instances at each tick.
        tick_seconds: Seconds per tick.
        step_seconds: Seconds per value of the file.
        start: UTC time of tick 0; None if the file has no dates.
        source: File, column and selection, for reports.
    """

    demand: IntArray
    tick_seconds: int
    step_seconds: float
    start: datetime | None
    source: str


def read_demand(
    path: Path,
    tick_seconds: int,
    *,
    value_column: str | None = None,
    time_column: str | None = None,
    where: Mapping[str, str] | None = None,
    step_seconds: float | None = None,
    scale: float = 1.0,
    round_up: bool = False,
    absent_is_zero: bool | None = None,
) -> DemandSeries:
    """Read a demand series.

    A value holds for its step. A tick takes the value that holds when it begins; a tick longer than a step
    takes the highest of its steps, because all of it should be served.

    Args:
        path: CSV, TSV, parquet or JSON, also gzip or zstandard: a column of values and one of times, or one
            column or JSON list of values alone.
        tick_seconds: Seconds per tick of the market.
        value_column: Its name; None finds one of `VALUE_COLUMNS`, or the only column left.
        time_column: Its name; None finds one of `TIME_COLUMNS`, and none means one value per step.
        where: Column and the value that its rows must have, to select one series of several.
        step_seconds: Seconds per value; None for the shortest distance of two times in the file, or one tick
            where it has no times.
        scale: Factor on every value.
        round_up: Round fractional values up instead of refusing them.
        absent_is_zero: Whether a time without a row means no demand; None for the Snowflake file only.

    Returns:
        The demand in whole ticks.

    Raises:
        InputError: A column is missing or ambiguous; a value is empty, negative, fractional or too high; a
            time is missing, doubled or off the grid. The message names the line.
    """
    file = str(path)
    if tick_seconds < 1 or not 0.0 < scale < 1e9 or not (step_seconds is None or 1e-3 <= step_seconds < 1e9):
        raise InputError(
            f"tick of {tick_seconds} s, step of {step_seconds} s, scale {scale}; accepted: positive numbers"
        )
    table = demand_table(file, read_bytes(path))
    columns = list(table.frame.columns)
    chosen = {normalised(column): value for column, value in (where or {}).items()}
    for column in chosen:
        _known(table, column)
    time = _column(table, time_column, TIME_COLUMNS, set(chosen))
    value = _column(table, value_column, VALUE_COLUMNS, set(chosen) | {time or ""})
    if value is None:
        rest = [column for column in columns if column != time and column not in chosen]
        if len(rest) != 1:
            raise InputError(
                f"{file}: which column is the demand? It has {', '.join(columns)}; accepted: a column named "
                f"{', '.join(VALUE_COLUMNS)}, or its name"
            )
        value = rest[0]
    if absent_is_zero is None:
        absent_is_zero = set(columns) >= SNOWFLAKE_COLUMNS
    rows = _selected(table, chosen)
    values = _values(table, rows, value, scale=scale, round_up=round_up)
    start: datetime | None = None
    if time is None:
        step = Fraction(tick_seconds) if step_seconds is None else _fraction(step_seconds)
    else:
        moments, start = _moments_ms(table, time)
        given = None if step_seconds is None else _fraction(step_seconds)
        step = given or _step(table, time, moments)
        values = _on_grid(table, rows, moments, values, step, chosen, absent_is_zero=absent_is_zero)
    named = "".join(f", {column} {text}" for column, text in chosen.items())
    return DemandSeries(
        _resampled(file, values, step, tick_seconds),
        tick_seconds,
        float(step),
        start,
        f"{Path(file).name}, {value}{named}" + (f", times {scale:g}" if scale != 1.0 else ""),
    )


def market_for_demand(market: Market, ticks: int, *, repeat_market: bool = False) -> Market:
    """The market if it is as long as the demand, or as often as needed one after the other.

    Args:
        market: The market.
        ticks: Ticks of the demand.
        repeat_market: Repeat a shorter market instead of refusing it.

    Raises:
        InputError: The demand is longer than the market.
    """
    if ticks <= market.ticks:
        return market
    if not repeat_market:
        raise InputError(
            f"demand of {ticks} ticks, market of {market.ticks}; accepted: a demand no longer than the "
            "market, or --repeat-market to play the market again from its begin"
        )
    return market.repeated(ticks)


def _fraction(seconds: float) -> Fraction:
    return Fraction(round(seconds * 1000), 1000)


def _known(table: Table, column: str) -> None:
    if column not in table.frame.columns:
        raise InputError(
            f"{table.file}: column {column} is missing; accepted: {', '.join(map(str, table.frame.columns))}"
        )


def _column(table: Table, name: str | None, usual: tuple[str, ...], taken: set[str]) -> str | None:
    if name is not None:
        _known(table, normalised(name))
        return normalised(name)
    found = [column for column in usual if column in table.frame.columns and column not in taken]
    return found[0] if found else None


def _selected(table: Table, chosen: Mapping[str, str]) -> IntArray:
    """Numbers of the rows that have the chosen values."""
    keep = np.ones(len(table.frame), np.bool_)
    for column, text in chosen.items():
        keep &= (table.frame[column] == text).to_numpy()
        if not keep.any():
            distinct = sorted(set(table.frame[column]))
            raise InputError(
                f"{table.file}: no row with {column} {text!r}; accepted: {', '.join(distinct[:20])}"
                + (", ..." if len(distinct) > 20 else "")
            )
    return np.flatnonzero(keep).astype(np.int64)


def _values(table: Table, rows: IntArray, column: str, *, scale: float, round_up: bool) -> FloatArray:
    text = table.frame[column].iloc[rows]
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    scaled = numbers * scale
    whole = np.ceil(scaled - 1e-9) if round_up else scaled
    bad = ~(np.isfinite(whole) & (numbers >= 0) & (whole <= HIGHEST_DEMAND) & (whole == np.floor(whole)))
    if bad.any():
        place = int(np.argmax(bad))
        found = str(text.iloc[place])[:40]
        fraction = bool(np.isfinite(scaled[place]) and 0 <= scaled[place] <= HIGHEST_DEMAND)
        raise InputError(
            f"{table.at(int(rows[place]))}: `{column}` is {found!r}"
            + (f", {scaled[place]:g} after scaling" if scale != 1.0 and np.isfinite(scaled[place]) else "")
            + f"; accepted: whole numbers from 0 to {HIGHEST_DEMAND:,}"
            + (", or rounding up" if fraction else "; fill gaps first" if not found else "")
        )
    return np.asarray(whole)


def _moments_ms(table: Table, column: str) -> tuple[NDArray[np.int64], datetime | None]:
    """Milliseconds of every row, and the time of the first; None where numbers count from nowhere."""
    seconds = pd.to_numeric(table.frame[column], errors="coerce").to_numpy(np.float64)
    if np.isfinite(seconds).all() and (np.abs(seconds) < 1e11).all():
        moments = np.rint(seconds * 1000).astype(np.int64)
        dated = bool(moments.min() >= _EPOCH_SECONDS * 1000)
    else:
        moments, dated = table.times_ms(column), True
    first = int(np.argmin(moments))
    if not dated:
        return moments, None
    try:
        return moments, datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(moments[first]))
    except OverflowError:
        raise InputError(
            f"{table.at(first)}: `{column}` is {str(table.frame[column].iloc[first])[:40]!r}; accepted: "
            "times of this era"
        ) from None


def _step(table: Table, column: str, moments: NDArray[np.int64]) -> Fraction:
    distinct = np.unique(moments)
    if distinct.size < 2:
        raise InputError(
            f"{table.file}: `{column}` has one time only; accepted: two or more, or the step in seconds"
        )
    return Fraction(int(np.diff(distinct).min()), 1000)


def _on_grid(
    table: Table,
    rows: IntArray,
    moments: NDArray[np.int64],
    values: FloatArray,
    step: Fraction,
    chosen: Mapping[str, str],
    *,
    absent_is_zero: bool,
) -> FloatArray:
    """One value per step from the first to the last time of the whole file."""
    begin, step_ms = int(moments.min()), int(step * 1000)
    since = moments[rows] - begin
    off = since % step_ms != 0
    if off.any():
        row = int(rows[int(np.argmax(off))])
        raise InputError(
            f"{table.at(row)}: its time is off the grid of {float(step):g} s from the first time on; "
            "accepted: evenly spaced times"
        )
    place = since // step_ms
    count = int((int(moments.max()) - begin) // step_ms) + 1
    if count > HIGHEST_TICKS:
        raise InputError(
            f"{table.file}: {count:,} steps of {float(step):g} s; accepted: at most {HIGHEST_TICKS:,}"
        )
    order = np.argsort(place, kind="stable")
    double = np.flatnonzero(np.diff(place[order]) == 0)
    if double.size:
        row = int(rows[order[double[0] + 1]])
        other = [column for column in table.frame.columns if column not in chosen][:4]
        raise InputError(
            f"{table.at(row)}: a second value at one time; accepted: one series, selected with COLUMN=VALUE "
            f"(columns: {', '.join(other)})"
        )
    series = np.full(count, np.nan)
    series[place] = values
    if absent_is_zero:
        return np.where(np.isnan(series), 0.0, series)
    if np.isnan(series).any():
        missing = int(np.argmax(np.isnan(series)))
        before = place[order][place[order] < missing]
        near = table.at(int(rows[order[before.size - 1]])) if before.size else table.file
        raise InputError(
            f"{near}: a gap, no value {missing * float(step):g} s after the first time; accepted: a value at "
            "every step, or absent rows read as zero"
        )
    return series


def _resampled(file: str, values: FloatArray, step: Fraction, tick_seconds: int) -> IntArray:
    """One whole number per tick; see `read_demand`."""
    scale = step.denominator
    width, tick = int(step * scale), tick_seconds * scale
    ticks = len(values) * width // tick
    if not 1 <= ticks <= HIGHEST_TICKS:
        raise InputError(
            f"{file}: {len(values)} values of {float(step):g} s are {ticks:,} ticks of {tick_seconds} s; "
            f"accepted: 1 to {HIGHEST_TICKS:,} whole ticks"
        )
    begin = np.arange(ticks, dtype=np.int64) * tick
    first, last = begin // width, (begin + tick - 1) // width
    if tick <= width:
        return np.asarray(values[first], np.int64)
    borders = np.stack([first, last + 1], axis=1).ravel()
    padded = np.append(values, -1.0)
    return np.asarray(np.maximum.reduceat(padded, borders)[::2], np.int64)
