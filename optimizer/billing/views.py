"""Views of a ledger: amortised or billed cost by any dimensions, and the user's own SQL, read only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optimizer.billing.dimensions import TIMES, column_name, expression, is_run, spread_over_hours
from simulator.errors import InputError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

    from optimizer.billing.ledger import Ledger

COST_COLUMNS: dict[str, str] = {"amortized": "EffectiveCost", "unblended": "BilledCost"}
"""`amortized` shares the price of commitments out over what used them; `unblended` is what is invoiced."""


def cost_by(
    rows: ir.Table,
    by: Sequence[str],
    cost: str = "amortized",
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    where: Sequence[tuple[str, str]] = (),
) -> ir.Table:
    """Return cost by dimensions, per currency, in the order of the dimensions of time, then dearest first.

    Args:
        rows: The ledger.
        by: Dimensions (`optimizer.billing.dimensions`). With `hour`, running time of instances and charges
            of up to 25 hours are spread over their hours; longer ones, such as monthly fees, stand in the
            hour they begin in. `day` and `month` take the begin.
        cost: A key of `COST_COLUMNS`.
        start: Only charges that begin at or after it, UTC.
        end: Only charges that begin before it, UTC.
        where: Only rows whose dimension has the value: (dimension, value).

    Returns:
        Columns: one per dimension, `currency`, `cost`, `list_cost`, `instance_hours`, `rows`.

    Raises:
        InputError: An unknown dimension or cost, an end that is not behind the start, a `where` on a time.
    """
    import ibis

    if cost not in COST_COLUMNS:
        raise InputError(f"--cost {cost}; accepted: {', '.join(COST_COLUMNS)}")
    if start is not None and end is not None and start >= end:
        raise InputError(f"--start {start} --end {end}; accepted: a start before the end, which is not in it")
    if start is not None:
        rows = rows.filter(rows.ChargePeriodStart >= ibis.literal(start))
    if end is not None:
        rows = rows.filter(rows.ChargePeriodStart < ibis.literal(end))
    for name, value in where:
        if name in TIMES:
            raise InputError(f"--where {name}={value}; accepted: --start and --end for times")
        rows = rows.filter(expression(rows, name, option="--where") == value)
    zero = ibis.literal(0).cast("decimal(38, 15)")
    slim = rows.select(
        **{column_name(name): expression(rows, name) for name in by if name != "hour"},
        ChargePeriodStart=rows.ChargePeriodStart,
        ChargePeriodEnd=rows.ChargePeriodEnd,
        currency=rows.BillingCurrency,
        amount=rows[COST_COLUMNS[cost]],
        listed=rows.ListCost,
        hours=ibis.coalesce(rows.x_InstanceHours, zero),
        is_run=is_run(rows),
    )
    if "hour" in by:
        slim = spread_over_hours(slim, ("amount", "listed", "hours"))
    keys = [column_name(name) for name in by]
    grouped = slim.group_by(*keys, "currency").agg(
        cost=slim.amount.sum(),
        list_cost=slim.listed.sum(),
        instance_hours=slim.hours.sum(),
        rows=slim.count(),
    )
    times = [column_name(name) for name in by if name in TIMES]
    others = [key for key in keys if key not in times]
    return grouped.order_by(*times, "currency", ibis.desc("cost"), *others)


def run_sql(ledger: Ledger, text: str) -> pa.Table:
    """Run the user's SQL on a ledger that was opened for reading.

    Files, other databases and settings are out of its reach.

    Raises:
        InputError: DuckDB does not accept it.
    """
    import duckdb

    ledger.connection.execute("SET enable_external_access = false")
    ledger.connection.execute("SET lock_configuration = true")
    try:
        return ledger.arrow(text)
    except duckdb.Error as error:
        raise InputError(f"sql: {error}") from error
    except AttributeError as error:
        # Statements without a result give no relation.
        raise InputError("accepted: a SELECT; the ledger is read only") from error


_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula begins with; spreadsheets take the full-width forms for the same."""


def escape_formula(value: Any) -> Any:
    """Return `value` such that a spreadsheet does not run it: text that begins like a formula is quoted.

    Blanks before it count for nothing, since some programs take them away.
    """
    if isinstance(value, str) and (value[:1] in ("\t", "\r", "\n") or value.lstrip().startswith(_FORMULA)):
        return "'" + value
    return value
