"""The mapping of each export format, compiled once to the SQL that an ingest runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from optimizer.billing.ledger import to_sql
from optimizer.billing.normalise import normalise, on_demand_equivalents
from optimizer.billing.sources import Format
from optimizer.billing.sources.fields import raw_schema

if TYPE_CHECKING:
    import ibis.expr.types as ir

RAW_VIEW = "raw_export"
"""Name of the view that the compiled SQL reads."""


@dataclass(frozen=True, slots=True)
class Queries:
    """What an ingest asks of the raw view of one format, as DuckDB SQL.

    Attributes:
        accepted: The good rows.
        accepted_priced: The same, with on-demand equivalents of spot from twin meters; dearer.
        unpriced_spot: Empty when `accepted` suffices.
        derived: Further rows.
        rejected: The bad rows, in the columns of `rejected_rows`.
        sums_in: What the export says per bill.
        sums_rejected: The part of it on bad rows.
        sums_shared: The part of it on good rows that is not invoiced there; empty when there can be none.
    """

    accepted: str
    accepted_priced: str
    unpriced_spot: str
    derived: tuple[str, ...]
    rejected: str
    sums_in: str
    sums_rejected: str
    sums_shared: str


@cache
def compile_queries(kind: Format, credits_view: str) -> Queries:
    """Compile the mapping of a format; kept, since it takes longer than reading a small file."""
    import ibis

    lines = ibis.table(raw_schema(kind, credits=True), name=credits_view) if credits_view else None
    normalised = normalise(ibis.table(raw_schema(kind), name=RAW_VIEW), lines, kind)
    bad = normalised.rejected
    good = normalised.rows.filter(normalised.rows.reject_reason.isnull())
    return Queries(
        accepted=to_sql(normalised.accepted),
        accepted_priced=to_sql(on_demand_equivalents(normalised.accepted)),
        unpriced_spot=to_sql(normalised.unpriced_spot),
        derived=tuple(to_sql(table) for table in normalised.derived),
        rejected=to_sql(
            bad.select(
                source_file=bad.x_SourceFile,
                source_line=bad.x_SourceLine,
                reason=bad.reject_reason,
                provider=bad.ProviderName,
                account=bad.BillingAccountId,
                period=bad.BillingPeriodStart,
                invoice=bad.InvoiceId,
                currency=bad.BillingCurrency,
                cost=_said(bad),
            )
        ),
        sums_in=to_sql(_sums(normalised.rows, _said(normalised.rows))),
        sums_rejected=to_sql(_sums(bad, _said(bad))),
        sums_shared=to_sql(_sums(good, good.shared_cost)) if "shared_cost" in good.columns else "",
    )


def _said(rows: ir.Table) -> ir.DecimalValue:
    """Return the amount of the line in the export."""
    return rows.source_cost + rows.shared_cost if "shared_cost" in rows.columns else rows.source_cost


def _sums(rows: ir.Table, amount: ir.DecimalValue) -> ir.Table:
    keys = ("ProviderName", "BillingAccountId", "BillingPeriodStart", "InvoiceId", "BillingCurrency")
    return rows.group_by(*keys).agg(total=amount.sum())
