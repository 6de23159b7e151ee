"""Puts the bills of an ingest in the place of those that the ledger had of the same account and month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from optimizer.billing.bills import key_sql, month_sql
from optimizer.billing.ledger import Ledger
from simulator.errors import InputError

_ROW_KEY = key_sql("ProviderName", "BillingAccountId", "BillingPeriodStart")
_RECORD_KEY = key_sql("bills.provider", "bills.account", "bills.period")


@dataclass(frozen=True, slots=True)
class BillName:
    """A bill: provider, billing account and month, as the files of the ingest write them."""

    provider: str
    account: str
    month: datetime

    def __str__(self) -> str:
        return f"{self.provider} {self.account} {self.month:%Y-%m}"


@dataclass(frozen=True, slots=True)
class Restatement:
    """A bill that was in the ledger, in one currency, before and after.

    Attributes:
        bill: Which.
        currency: Currency of both sums.
        before: Σ BilledCost that went.
        after: Σ BilledCost in its place.
    """

    bill: BillName
    currency: str
    before: Decimal
    after: Decimal


def bills_of(ledger: Ledger, ingest_id: int) -> list[BillName]:
    """Return the bills that an ingest brings.

    Raises:
        InputError: One comes in two formats.
    """
    rows = ledger.rows(
        f"SELECT ProviderName, min(BillingAccountId), {month_sql('BillingPeriodStart')},"
        " list(DISTINCT x_SourceFormat) FROM ledger WHERE x_IngestId = ?"
        " GROUP BY ProviderName, lower(BillingAccountId), 3",
        [ingest_id],
    )
    for provider, account, month, formats in rows:
        if len(formats) > 1:
            raise InputError(
                f"the {provider} bill of account {account} for {month:%Y-%m} is in the files as"
                f" {' and as '.join(sorted(formats))}; accepted: one export per bill, or it would"
                " count twice"
            )
    rejected = ledger.rows(
        f"SELECT provider, min(account), {month_sql('period')} FROM rejected_rows WHERE ingest_id = ?"
        " AND provider IS NOT NULL AND account IS NOT NULL AND period IS NOT NULL"
        " GROUP BY provider, lower(account), 3",
        [ingest_id],
    )
    found = {(p, a.lower(), m): BillName(p, a, m) for p, a, m in (*rejected, *(row[:3] for row in rows))}
    return [found[key] for key in sorted(found)]


def replace_bills(ledger: Ledger, ingest_id: int, bills: list[BillName]) -> tuple[Restatement, ...]:
    """Delete what earlier ingests wrote of `bills`; return what was billed before and is now."""
    execute = ledger.connection.execute
    execute("CREATE OR REPLACE TEMP TABLE scopes (provider VARCHAR, account VARCHAR, month TIMESTAMP)")
    if bills:
        ledger.connection.executemany(
            "INSERT INTO scopes VALUES (?, ?, ?)", [[b.provider, b.account, b.month] for b in bills]
        )
    scope = "(scopes.provider, lower(scopes.account), scopes.month)"
    sums = ledger.rows(
        "SELECT scopes.provider, scopes.account, scopes.month, BillingCurrency,"
        " coalesce(sum(BilledCost) FILTER (x_IngestId <> $id), 0),"
        " coalesce(sum(BilledCost) FILTER (x_IngestId = $id), 0)"
        f" FROM ledger JOIN scopes ON {_ROW_KEY} = {scope}"
        " GROUP BY ALL HAVING bool_or(x_IngestId <> $id) ORDER BY ALL",
        {"id": ingest_id},
    )
    execute(
        "UPDATE ingests SET superseded = true WHERE id IN"
        f" (SELECT ingest_id FROM bills JOIN scopes ON {_RECORD_KEY} = {scope})"
    )
    if sums:
        execute(
            f"DELETE FROM ledger USING scopes WHERE {_ROW_KEY} = {scope} AND x_IngestId <> ?", [ingest_id]
        )
    for table in ("bills", "rejected_rows"):
        key = key_sql(f"{table}.provider", f"{table}.account", f"{table}.period")
        execute(f"DELETE FROM {table} USING scopes WHERE {key} = {scope} AND ingest_id <> ?", [ingest_id])
    # Lines that belong to no bill go with the last bill of their ingest.
    execute(
        "DELETE FROM rejected_rows WHERE period IS NULL AND ingest_id <> ?"
        " AND ingest_id NOT IN (SELECT ingest_id FROM bills)",
        [ingest_id],
    )
    return tuple(
        Restatement(BillName(provider, account, month), currency, before, after)
        for provider, account, month, currency, before, after in sums
    )
