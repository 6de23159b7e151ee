"""What a ledger can be grouped by: the words after `--by`, as Ibis expressions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from simulator.errors import InputError

if TYPE_CHECKING:
    import ibis.expr.types as ir

MISSING = "(none)"
"""Shown where a row has no value."""

WORKLOAD_TAGS = ("app", "application", "App", "Application", "workload", "service", "Service", "Name")
"""Tags that name a workload, the first that a row has wins."""

COLUMN_OF: dict[str, str] = {
    "provider": "ProviderName",
    "billing-account": "BillingAccountId",
    "account": "SubAccountId",
    "service": "ServiceName",
    "service-category": "ServiceCategory",
    "region": "RegionId",
    "zone": "AvailabilityZone",
    "resource": "ResourceId",
    "charge-category": "ChargeCategory",
    "instance-type": "x_InstanceType",
    "commitment": "CommitmentDiscountId",
    "invoice": "InvoiceId",
}
"""Dimensions that are a column of the ledger."""

TIMES = {"hour": "h", "day": "D", "month": "M"}
"""Dimensions that are the begin of a period, UTC, with Ibis' unit."""

PURCHASE_OPTIONS = {"Standard": "on-demand", "Dynamic": "spot", "Committed": "committed"}
"""Pricing categories in the words of this project."""


def tag(rows: ir.Table, key: str) -> ir.StringValue:
    """Return the value of the tag `key`, null where it is absent or empty.

    A search in the JSON text, since every engine reads JSON in its own way. A quote inside a value is
    escaped, so `"key":` is a key.
    """
    # The key as JSON spells it.
    head = re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:\s*"
    text = rows.Tags.re_extract(head + r'"((?:[^"\\]|\\.)*)"', 1).nullif("")
    number = rows.Tags.re_extract(head + r"([0-9.eE+-]+|true|false)", 1).nullif("")
    import ibis

    return ibis.coalesce(text.replace('\\"', '"').replace("\\\\", "\\"), number)


def expression(rows: ir.Table, name: str, *, option: str = "--by") -> ir.Value:
    """Return the expression of one dimension; `option` is where the user named it.

    Raises:
        InputError: There is no such dimension.
    """
    import ibis

    if name.startswith("tag:") and len(name) > 4:
        return ibis.coalesce(tag(rows, name[4:]), MISSING)
    if name == "allocated-to" and "AllocatedResourceName" in rows.columns:
        return ibis.coalesce(rows.AllocatedResourceName, MISSING)
    if name in COLUMN_OF:
        return ibis.coalesce(rows[COLUMN_OF[name]], MISSING)
    if name in TIMES:
        return rows.ChargePeriodStart.truncate(TIMES[name])
    special: dict[str, Callable[[ir.Table], Any]] = {
        "purchase-option": lambda t: t.PricingCategory.cases(*PURCHASE_OPTIONS.items(), else_="other"),
        "workload": lambda t: ibis.coalesce(*(tag(t, key) for key in WORKLOAD_TAGS), MISSING),
    }
    if name in special:
        return special[name](rows)
    allocated = ["allocated-to"] if "AllocatedResourceName" in rows.columns else []
    known = ", ".join([*COLUMN_OF, *special, *allocated, *TIMES, "tag:KEY"])
    raise InputError(f"{option} {name}: no such dimension; accepted: {known}")


def parse(text: str | Sequence[str]) -> tuple[str, ...]:
    """Return the dimensions in `text`, which may be one comma-separated word.

    Raises:
        InputError: None is given, or one twice.
    """
    parts = text.split(",") if isinstance(text, str) else list(text)
    names = tuple(part.strip() for part in parts if part.strip())
    # Columns are named after dimensions: tag:a-b and tag:a_b would be one.
    if not names or len({column_name(name).lower() for name in names}) != len(names):
        raise InputError(
            f"--by {','.join(parts)!r}; accepted: one or more different dimensions, separated by"
            " commas; names that differ in case or punctuation alone are one column"
        )
    return names


def column_name(dimension: str) -> str:
    """Return the column name of a dimension: `tag:app` → `tag_app`, `purchase-option` → `purchase_option`."""
    return re.sub(r"[^A-Za-z0-9_]", "_", dimension)


SHARED_HOURS = 25
"""Charges of up to a day (25 hours, once a year) are shared out over their hours; a longer one is a fee."""

RUN_HOURS = 31 * 24 + 1
"""Running time of an instance is shared out even over a month: it was spent in these hours."""


def is_run(rows: ir.Table) -> ir.BooleanValue:
    """Return whether a row is running time of an instance, or of its memory where that is billed apart."""
    return rows.x_InstanceType.notnull() & (rows.ChargeCategory == "Usage")


def spread_over_hours(rows: ir.Table, amounts: Sequence[str]) -> ir.Table:
    """Return `rows` with one row per hour that a charge touches, its `amounts` shared by time.

    `rows` has a column `is_run`: such a row is shared out if it is no longer than `RUN_HOURS`, others if they
    are no longer than `SHARED_HOURS`. Adds `hour` (its begin, UTC) and `imputed` (the row told of more than
    one hour). What is longer, such as monthly fees, or has no length stays whole in the hour it begins in.
    """
    import ibis

    begin, end = rows.ChargePeriodStart, rows.ChargePeriodEnd
    first = begin.truncate("h")
    seconds = end.epoch_seconds() - first.epoch_seconds()
    length = end.epoch_seconds() - begin.epoch_seconds()
    longest = ibis.cases((rows.is_run, RUN_HOURS * 3600), else_=SHARED_HOURS * 3600)
    within = (seconds <= 3600) | (length > longest) | (length <= 0)
    # What is not shared out although it is long says nothing of its hours.
    whole = rows.filter(within).mutate(hour=first, imputed=seconds > 3600)
    long = rows.filter(~within).mutate(sp_first=first, sp_length=length, sp_hours=((seconds + 3599) // 3600))
    long = long.mutate(sp_index=ibis.range(0, long.sp_hours).unnest())
    hour_from = long.sp_first.epoch_seconds() + long.sp_index * 3600
    overlap = ibis.least(hour_from + 3600, long.ChargePeriodEnd.epoch_seconds()) - ibis.greatest(
        hour_from, long.ChargePeriodStart.epoch_seconds()
    )
    share = overlap.cast("float64") / long.sp_length.cast("float64")
    parts = {name: (long[name].cast("float64") * share).cast("decimal(38, 15)") for name in amounts}
    spread = long.mutate(
        **parts,
        hour=long.sp_first + long.sp_index * ibis.interval(hours=1),
        imputed=ibis.literal(True),
    )
    return whole.union(spread.select(*whole.columns))
