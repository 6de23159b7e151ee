"""Puts the bills of an ingest in the place of those that the ledger had of the same account and month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from optimizer.billing.bills import key_sql, month_sql
from optimizer.billing.ledger import Ledger
from simulator.errors import InputError

LOSS = Decimal("0.1")
"""A bill that loses more than this share of what it charged is not replaced without being asked: bills are
restated by small amounts, and files are forgotten or cut off by large ones."""

_PARTS = {"days": "ChargePeriodStart::DATE", "accounts": "SubAccountId", "services": "ServiceName"}
"""What the files of one bill may be split by. Services have other names in exports of other formats."""

_MEASURES = {"billed": "BilledCost", "effective": "EffectiveCost"}
"""Azure's actual set alone bills as much as both sets, but knows no effective cost of commitments."""

_SCOPE = "(scopes.provider, lower(scopes.account), scopes.month)"
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


def replace_bills(
    ledger: Ledger, ingest_id: int, bills: list[BillName], *, whatever_is_lost: bool = False
) -> tuple[Restatement, ...]:
    """Delete what earlier ingests wrote of `bills`; return what was billed before and is now.

    Raises:
        InputError: A bill would lose more than `LOSS` of its charges, and not `whatever_is_lost`.
    """
    execute = ledger.connection.execute
    execute("CREATE OR REPLACE TEMP TABLE scopes (provider VARCHAR, account VARCHAR, month TIMESTAMP)")
    if bills:
        ledger.connection.executemany(
            "INSERT INTO scopes VALUES (?, ?, ?)", [[b.provider, b.account, b.month] for b in bills]
        )
    sums = ledger.rows(
        "SELECT scopes.provider, scopes.account, scopes.month, BillingCurrency,"
        " coalesce(sum(BilledCost) FILTER (x_IngestId <> $id), 0),"
        " coalesce(sum(BilledCost) FILTER (x_IngestId = $id), 0)"
        f" FROM ledger JOIN scopes ON {_ROW_KEY} = {_SCOPE}"
        " GROUP BY ALL HAVING bool_or(x_IngestId <> $id) ORDER BY ALL",
        {"id": ingest_id},
    )
    if sums and not whatever_is_lost:
        _refuse_losses(ledger, ingest_id)
    execute(
        "UPDATE ingests SET superseded = true WHERE id IN"
        f" (SELECT ingest_id FROM bills JOIN scopes ON {_RECORD_KEY} = {_SCOPE})"
    )
    if sums:
        execute(
            f"DELETE FROM ledger USING scopes WHERE {_ROW_KEY} = {_SCOPE} AND x_IngestId <> ?", [ingest_id]
        )
    for table in ("bills", "rejected_rows"):
        key = key_sql(f"{table}.provider", f"{table}.account", f"{table}.period")
        execute(f"DELETE FROM {table} USING scopes WHERE {key} = {_SCOPE} AND ingest_id <> ?", [ingest_id])
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


def _refuse_losses(ledger: Ledger, ingest_id: int) -> None:
    """Refuse to replace a bill by much less of it: by files that are only a part of it."""
    formats = ledger.rows(
        f"SELECT count(DISTINCT x_SourceFormat) FROM ledger JOIN scopes ON {_ROW_KEY} = {_SCOPE}"
    )[0][0]
    for measure, column in _MEASURES.items():
        for name, part in _PARTS.items():
            if name == "services" and formats > 1:
                continue
            for loss in _losses(ledger, ingest_id, column, part):
                if what := loss.told(name):
                    raise InputError(
                        f"{loss.bill}: the ledger has {measure} charges of {loss.before:.2f} {loss.currency},"
                        f" from {_files(ledger, loss.bill, ingest_id)}; {what}. A bill is replaced whole:"
                        " give all its files together, or --replace to put these in its place;"
                        " nothing was written"
                    )


@dataclass(frozen=True, slots=True)
class _Loss:
    """What becomes of a bill, split by something, when it is replaced; charges are amounts above zero."""

    bill: BillName
    currency: str
    before: Decimal
    after: Decimal
    count: int
    absent: list[str]
    absent_charges: Decimal

    def told(self, name: str) -> str:
        """Return what is lost, or nothing if it is little; `name` is what the bill is split by."""
        if self.after < (1 - LOSS) * self.before:
            return f"{self.after:.2f} in these files"
        if self.absent_charges > LOSS * self.before:
            some = ", ".join(self.absent[:3]) + (", …" if len(self.absent) > 3 else "")
            return f"these files have nothing of {len(self.absent)} of its {self.count} {name} ({some})"
        return ""


def _losses(ledger: Ledger, ingest_id: int, column: str, part: str) -> list[_Loss]:
    rows = ledger.rows(
        "WITH charged AS (SELECT scopes.provider, scopes.account, scopes.month, BillingCurrency AS currency,"
        f" coalesce(({part})::VARCHAR, '(none)') AS part,"
        f" coalesce(sum(greatest({column}, 0)) FILTER (x_IngestId <> $id), 0) AS before,"
        f" coalesce(sum(greatest({column}, 0)) FILTER (x_IngestId = $id), 0) AS after,"
        " bool_or(x_IngestId <> $id) AS was, bool_or(x_IngestId = $id) AS stays"
        f" FROM ledger JOIN scopes ON {_ROW_KEY} = {_SCOPE} GROUP BY ALL)"
        " SELECT provider, account, month, currency, sum(before), sum(after), count(*) FILTER (was),"
        " coalesce(list(part ORDER BY part) FILTER (was AND NOT stays), []),"
        " coalesce(sum(before) FILTER (was AND NOT stays), 0)"
        " FROM charged GROUP BY ALL ORDER BY ALL",
        {"id": ingest_id},
    )
    return [_Loss(BillName(*row[:3]), *row[3:]) for row in rows]


def _files(ledger: Ledger, bill: BillName, ingest_id: int) -> str:
    rows = ledger.rows(
        f"SELECT DISTINCT x_SourceFile FROM ledger WHERE {_ROW_KEY} = (?, lower(?), ?) AND x_IngestId <> ?"
        " AND x_SourceFile IS NOT NULL ORDER BY 1",
        [bill.provider, bill.account, bill.month, ingest_id],
    )
    names = [str(name) for (name,) in rows]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
