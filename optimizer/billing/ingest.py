"""Puts billing exports into a ledger: all or nothing, restated bills replaced, every cent accounted for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from optimizer.billing.copies import find_copies
from optimizer.billing.ledger import Ledger, was_interrupted
from optimizer.billing.mapping import RAW_VIEW, Queries, compile_queries
from optimizer.billing.restate import Restatement, bills_of, replace_bills
from optimizer.billing.sources import Detected, Format, RawTable, detect, find_files, open_raw
from simulator.errors import InputError, SpotwiseError

CENT = Decimal("0.01")
"""A bill may differ by this much between export and ledger, and no more."""

Progress = Callable[[str], None]
Percent = Callable[[float], None]
_BillKey = tuple[str | None, str | None, datetime | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Bill:
    """One invoice (or, where there is no number yet, one billing period) in one currency.

    Attributes:
        provider: Who billed it.
        account: Billing account.
        period: First instant of the billing period, UTC.
        invoice: Invoice number, or None.
        currency: Currency of the amounts.
        cost_in: Σ in the export.
        cost_out: Σ BilledCost of the ledger rows.
        cost_rejected: Σ of the rejected rows.
        cost_shared: Σ of what the export says beside what is billed: the shares of commitments in Azure's
            amortised set without the actual one. They are effective cost alone.
    """

    provider: str | None
    account: str | None
    period: datetime | None
    invoice: str | None
    currency: str | None
    cost_in: Decimal
    cost_out: Decimal
    cost_rejected: Decimal
    cost_shared: Decimal = Decimal(0)


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did.

    Attributes:
        files: Names of the files, with their formats.
        rows: Rows written.
        rejected: Rows rejected, per reason.
        bills: Every bill touched, with its balance.
        replaced: Bills that were in the ledger before, per currency.
        unchanged: True when the ledger already held exactly these files, and nothing was done.
        warnings: What the user should know about completeness.
    """

    files: tuple[tuple[str, str], ...]
    rows: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    bills: tuple[Bill, ...] = ()
    replaced: tuple[Restatement, ...] = ()
    unchanged: bool = False
    warnings: tuple[str, ...] = ()


def ingest(
    paths: Sequence[str],
    ledger_path: Path,
    *,
    format: str | None = None,  # noqa: A002 (the command-line word)
    replace: bool = False,
    progress: Progress = lambda stage: None,
    percent: Percent | None = None,
) -> IngestReport:
    """Read the exports at `paths` into the ledger at `ledger_path`, which is created when it does not exist.

    All files are one transaction. A bill (provider, billing account, month) that the files touch
    replaces the one in the ledger, but not by much less of it without `replace`. Give all files of a bill
    together, and Azure's actual and amortised set together.

    Args:
        paths: Files, globs, folders, `s3://bucket/prefix`.
        ledger_path: The ledger.
        format: One of `optimizer.billing.sources.FORMATS`; None detects it per file.
        replace: Replace bills even where the files hold only a part of them.
        progress: Called with a word on what is going on.
        percent: Called from another thread, some times a second, with how much of the reading is done, 0 to
            100.

    Raises:
        InputError: Files cannot be read; two formats claim the same bill; a bill would lose much of its
            charges.
        SpotwiseError: The sums of a bill differ by more than a cent; nothing is written then.
    """
    progress("looking for files")
    with find_files(paths) as files:
        found = [detect(file, format) for file in files]
        with Ledger.open(ledger_path, write=True) as ledger:
            if _holds(ledger, found):
                return IngestReport(tuple((d.file.name, d.format) for d in found), unchanged=True)
            ledger.connection.execute("BEGIN")
            try:
                report = _Batch(ledger, found, progress, percent, replace).run()
                progress("writing")
                ledger.connection.execute("COMMIT")
            except BaseException as error:
                # Also on Ctrl-C: the ledger stays as it was.
                _roll_back(ledger)
                if isinstance(error, duckdb.Error) and not was_interrupted(error):
                    raise _explain(error, found) from error
                raise
            ledger.connection.execute("CHECKPOINT")
            return report


def _roll_back(ledger: Ledger) -> None:
    # An error may have ended the transaction already; leaving it open would hide the error that matters.
    with suppress(duckdb.TransactionException):
        ledger.connection.execute("ROLLBACK")


def _explain(error: duckdb.Error, found: Sequence[Detected]) -> SpotwiseError:
    """Return what a failure of the engine means to the user."""
    said = str(error).splitlines()[0]
    if isinstance(error, (duckdb.OutOfMemoryException, duckdb.OperationalError)) and "No space" in said:
        return SpotwiseError(f"the disk is full; nothing was written ({said})")
    if isinstance(error, duckdb.OutOfMemoryException):
        return SpotwiseError(f"out of memory; nothing was written ({said})")
    names = ", ".join(sorted({d.file.name for d in found})[:3])
    return InputError(f"{names}: damaged data, download it again; nothing was written ({said})")


def _holds(ledger: Ledger, found: Sequence[Detected]) -> bool:
    """Return whether one ingest that is still in force had just these files, read as the same formats.

    Fewer files than it had are a restatement: the bill that they make replaces the one before.
    """
    rows = ledger.rows(
        "SELECT ingest_id, sha256, format FROM ingest_files JOIN ingests ON id = ingest_id WHERE NOT"
        " superseded"
    )
    held: dict[int, set[tuple[str, str]]] = {}
    for ingest_id, sha256, kind in rows:
        held.setdefault(ingest_id, set()).add((sha256, kind))
    wanted = {(d.file.sha256, str(d.format)) for d in found}
    return any(wanted == files for files in held.values())


@contextmanager
def _watched(connection: duckdb.DuckDBPyConnection, percent: Percent | None) -> Iterator[None]:
    """Tell `percent` how far the query in the block is."""
    if percent is None:
        yield
        return
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            done = connection.query_progress()
            # Negative: DuckDB does not know yet.
            if done >= 0:
                percent(min(done, 100.0))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@dataclass
class _Batch:
    """One transaction's work."""

    ledger: Ledger
    found: Sequence[Detected]
    progress: Progress
    percent: Percent | None
    replace: bool
    id: int = 0
    sums_in: dict[_BillKey, Decimal] = field(default_factory=dict)
    sums_rejected: dict[_BillKey, Decimal] = field(default_factory=dict)
    sums_shared: dict[_BillKey, Decimal] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def run(self) -> IngestReport:
        execute = self.ledger.connection.execute
        self.id = int(self.ledger.rows("SELECT coalesce(max(id), 0) + 1 FROM ingests")[0][0])
        for kind in dict.fromkeys(d.format for d in self.found):
            self._read([d for d in self.found if d.format == kind], kind)
        # Rows move and bills change, so an allocation must be made again.
        execute("DELETE FROM allocations")
        bills_here = bills_of(self.ledger, self.id)
        replaced = replace_bills(self.ledger, self.id, bills_here, whatever_is_lost=self.replace)
        bills = self._balance()
        rows = int(self.ledger.rows("SELECT count(*) FROM ledger WHERE x_IngestId = ?", [self.id])[0][0])
        reasons = self.ledger.rows(
            "SELECT reason, count(*) FROM rejected_rows WHERE ingest_id = ? GROUP BY ALL ORDER BY 2 DESC, 1",
            [self.id],
        )
        execute(
            "INSERT INTO ingests VALUES (?, now() AT TIME ZONE 'UTC', ?, ?, false)",
            [self.id, rows, sum(count for _, count in reasons)],
        )
        for d in self.found:
            execute(
                "INSERT INTO ingest_files VALUES (?, ?, ?, ?)",
                [self.id, d.file.name, d.file.sha256, d.format],
            )
        return IngestReport(
            files=tuple((d.file.name, d.format) for d in self.found),
            rows=rows,
            rejected=dict(reasons),
            bills=bills,
            replaced=replaced,
            warnings=self._warnings(),
        )

    def _read(self, found: list[Detected], kind: Format) -> None:
        self.progress(f"reading {len(found)} {kind} file{'s' if len(found) > 1 else ''}")
        raw = open_raw(self.ledger.connection, found, kind, RAW_VIEW)
        queries = compile_queries(kind, raw.credits)
        unpriced = self.ledger.rows(f"SELECT * FROM ({queries.unpriced_spot}) LIMIT 1")
        for part in (queries.accepted_priced if unpriced else queries.accepted, *queries.derived):
            with _watched(self.ledger.connection, self.percent):
                self.ledger.connection.execute(
                    f"INSERT INTO ledger BY NAME SELECT *, {self.id}::BIGINT AS x_IngestId FROM ({part})"
                )
        if len(found) > 1:
            self.progress("comparing the files")
            if copies := find_copies(self.ledger, self.id, kind):
                self.copies |= copies
                self.ledger.connection.execute(
                    "DELETE FROM ledger WHERE x_IngestId = ? AND x_SourceFormat = ?", [self.id, kind]
                )
                self._read([d for d in found if d.file.name not in copies], kind)
                return
        self.remarks += raw.remarks
        self.progress("checking the sums")
        _add(self.sums_in, self.ledger.rows(queries.sums_in))
        if queries.sums_shared:
            _add(self.sums_shared, self.ledger.rows(queries.sums_shared))
        if self._reject(queries, raw):
            _add(self.sums_rejected, self.ledger.rows(queries.sums_rejected))

    def _reject(self, queries: Queries, raw: RawTable) -> int:
        """Keep what could not be mapped; returns the number of rows that an invoice holds."""
        execute = self.ledger.connection.execute
        before = int(self.ledger.rows("SELECT count(*) FROM rejected_rows")[0][0])
        execute(
            "INSERT INTO rejected_rows BY NAME"
            f" SELECT {self.id}::BIGINT AS ingest_id, * FROM ({queries.rejected})"
        )
        count = int(self.ledger.rows("SELECT count(*) FROM rejected_rows")[0][0]) - before
        if count:
            # The row as it was read, so that it can be looked at without the file.
            execute(
                "UPDATE rejected_rows SET source_row = r.text"
                " FROM (SELECT source_file, source_line, to_json(t)::VARCHAR AS text"
                f" FROM {raw.view} AS t SEMI JOIN rejected_rows USING (source_file, source_line)) AS r"
                " WHERE rejected_rows.ingest_id = ? AND rejected_rows.source_file = r.source_file"
                " AND rejected_rows.source_line = r.source_line",
                [self.id],
            )
        for bad in raw.malformed:
            execute(
                "INSERT INTO rejected_rows (ingest_id, source_file, source_line, reason, source_row)"
                " VALUES (?, ?, ?, ?, ?)",
                [self.id, bad.file, bad.line, bad.reason, bad.text],
            )
        return count

    def _balance(self) -> tuple[Bill, ...]:
        """Compare every bill with its export and record it."""
        out: dict[_BillKey, Decimal] = {}
        _add(
            out,
            self.ledger.rows(
                "SELECT ProviderName, BillingAccountId, BillingPeriodStart, InvoiceId, BillingCurrency,"
                " sum(BilledCost) FROM ledger WHERE x_IngestId = ? GROUP BY ALL",
                [self.id],
            ),
        )
        bills = []
        for key in sorted(set(self.sums_in) | set(out), key=_bill_order):
            bill = Bill(
                *key,
                cost_in=self.sums_in.get(key, Decimal(0)),
                cost_out=out.get(key, Decimal(0)),
                cost_rejected=self.sums_rejected.get(key, Decimal(0)),
                cost_shared=self.sums_shared.get(key, Decimal(0)),
            )
            lost = bill.cost_in - bill.cost_out - bill.cost_rejected - bill.cost_shared
            if abs(lost) > CENT:
                raise SpotwiseError(
                    f"the bill {bill.invoice or ''} of {bill.provider} account {bill.account} does"
                    " not balance: export"
                    f" {bill.cost_in:.2f} {bill.currency}, ledger {bill.cost_out:.2f}, rejected"
                    f" {bill.cost_rejected:.2f}; nothing was written. Are the files one complete export?"
                )
            bills.append(bill)
            self.ledger.connection.execute(
                "INSERT INTO bills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [self.id, *key, bill.cost_in, bill.cost_out, bill.cost_rejected, bill.cost_shared],
            )
        return tuple(bills)

    def _warnings(self) -> tuple[str, ...]:
        equal = {copy: d.file.name for d in self.found for copy in d.file.copies} | self.copies
        found = self.remarks + [
            f"{copy} holds the same charges as {original}; they count once"
            for copy, original in equal.items()
        ]
        unknown = self.ledger.rows(
            "SELECT count(*) FROM ledger WHERE x_IngestId = ?"
            " AND contains(x_Flags, 'effective-cost-unknown')",
            [self.id],
        )[0][0]
        if unknown:
            found.append(
                f"{unknown} rows of usage under a commitment have no effective cost: give Azure's"
                " amortised set too"
            )
        only_amortized = self.ledger.rows(
            "SELECT count(*) FROM ledger WHERE x_IngestId = ? AND x_SourceFormat = 'azure'"
            " AND PricingCategory = 'Committed' AND NOT contains(x_Flags, 'effective-cost-unknown')"
            " AND (BillingAccountId, BillingPeriodStart) NOT IN (SELECT (BillingAccountId,"
            " BillingPeriodStart)"
            " FROM ledger WHERE x_IngestId = ? AND ChargeCategory = 'Purchase' AND"
            " CommitmentDiscountId IS NOT NULL)",
            [self.id, self.id],
        )[0][0]
        if only_amortized:
            found.append("Azure's purchases of commitments are not in these files: give the actual set too")
        currencies = self.ledger.rows("SELECT DISTINCT BillingCurrency FROM ledger ORDER BY 1")
        if len(currencies) > 1:
            names = ", ".join(str(c) for (c,) in currencies)
            found.append(f"the ledger holds several currencies ({names}): sums are shown per currency")
        return tuple(found)


def _add(sums: dict[_BillKey, Decimal], rows: list[tuple[Any, ...]]) -> None:
    for *key, total in rows:
        name: _BillKey = (key[0], key[1], key[2], key[3], key[4])
        sums[name] = sums.get(name, Decimal(0)) + (total if total is not None else Decimal(0))


def _bill_order(key: _BillKey) -> tuple[str, str, datetime, str, str]:
    provider, account, period, invoice, currency = key
    return provider or "", account or "", period or datetime.min, invoice or "", currency or ""
