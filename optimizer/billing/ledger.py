"""The ledger file: FOCUS rows, rejected rows and the record of what was ingested, in one DuckDB database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import duckdb

from optimizer.billing.focus import LEDGER_SCHEMA, MONEY, NAMES
from simulator.errors import InputError, SpotwiseError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

SCHEMA_VERSION = 2
"""Version of the tables below and of what tells bills apart; a ledger of another version is refused.

Version 1 took two exports of one bill for two bills where they name its account or provider differently.
"""

MEMORY_LIMIT = "512MB"
"""What DuckDB may hold; with Python around it an ingest stays under 1 GB. More spills to disk."""

_SQL_TYPES = {"string": "VARCHAR", "timestamp": "TIMESTAMP", "int64": "BIGINT", MONEY: MONEY.upper()}

_TABLES = (
    "CREATE TABLE meta (key VARCHAR PRIMARY KEY, value VARCHAR NOT NULL)",
    "CREATE TABLE ledger ("
    + ", ".join(f'"{name}" {_SQL_TYPES[kind]}' for name, kind in LEDGER_SCHEMA.items())
    + ")",
    # What could not be mapped: nothing is lost silently. `cost` is null where even that was not a number.
    "CREATE TABLE rejected_rows (ingest_id BIGINT, source_file VARCHAR, source_line BIGINT, reason VARCHAR,"
    " provider VARCHAR, account VARCHAR, period TIMESTAMP, invoice VARCHAR, currency VARCHAR,"
    f" cost {MONEY.upper()}, source_row VARCHAR)",
    "CREATE TABLE ingests (id BIGINT PRIMARY KEY, ingested_at TIMESTAMP NOT NULL, row_count BIGINT,"
    " rejected_count BIGINT, superseded BOOLEAN)",
    "CREATE TABLE ingest_files (ingest_id BIGINT, name VARCHAR, sha256 VARCHAR, format VARCHAR)",
    "CREATE TABLE bills (ingest_id BIGINT, provider VARCHAR, account VARCHAR, period TIMESTAMP,"
    " invoice VARCHAR,"
    f" currency VARCHAR, cost_in {MONEY.upper()}, cost_out {MONEY.upper()}, cost_rejected {MONEY.upper()},"
    f" cost_shared {MONEY.upper()})",
    "CREATE TABLE allocations (rule VARCHAR, row_id BIGINT, ratio DOUBLE, AllocatedMethodId VARCHAR,"
    " AllocatedMethodDetails VARCHAR, AllocatedResourceId VARCHAR, AllocatedResourceName VARCHAR,"
    " AllocatedTags VARCHAR)",
)


_COSTS = (
    "BilledCost",
    "EffectiveCost",
    "ListCost",
    "ContractedCost",
    "ConsumedQuantity",
    "PricingQuantity",
    "CommitmentDiscountQuantity",
    "PricingCurrencyEffectiveCost",
    "x_OnDemandEquivalentCost",
    "x_InstanceHours",
)
"""What a split row has only its share of."""

ALLOCATED_COLUMNS = (
    "AllocatedMethodId",
    "AllocatedMethodDetails",
    "AllocatedResourceId",
    "AllocatedResourceName",
    "AllocatedTags",
)
"""The split-cost columns of FOCUS 1.3."""

_ALLOCATED = ", ".join(ALLOCATED_COLUMNS)
_VIEWS = (
    # What another tool may be given: FOCUS and nothing else.
    "CREATE VIEW focus AS SELECT " + ", ".join(f'"{name}"' for name in NAMES) + " FROM ledger",
    # Shared rows once per target, all other rows as they are.
    "CREATE VIEW allocated_ledger AS SELECT l.* REPLACE ("
    + ", ".join(f"(l.{name}::DOUBLE * a.ratio)::{MONEY.upper()} AS {name}" for name in _COSTS)
    + f"), {_ALLOCATED} FROM ledger AS l JOIN allocations AS a ON l.rowid = a.row_id"
    " UNION ALL SELECT l.*, "
    + ", ".join(f"NULL::VARCHAR AS {name}" for name in ALLOCATED_COLUMNS)
    + " FROM ledger AS l WHERE l.rowid NOT IN (SELECT row_id FROM allocations)",
)


@dataclass
class Ledger:
    """An open ledger. Use it in a `with` block.

    Attributes:
        path: The file.
        connection: DuckDB, in UTC.
    """

    path: Path
    connection: duckdb.DuckDBPyConnection

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Ledger:
        """Open the ledger at `path`; with `write` it is created when it does not exist.

        Raises:
            InputError: There is no ledger there, the file is something else, or a later Spotwise wrote it.
            SpotwiseError: Another process has it open for writing.
        """
        if not write and not path.exists():
            raise InputError(
                f"{path}: no such ledger; make one with: spotwise ledger ingest PATH --ledger {path}"
            )
        if not path.parent.is_dir():
            raise InputError(f"{path}: no folder {path.parent}")
        config: dict[str, Any] = {"memory_limit": MEMORY_LIMIT, "threads": 2, "TimeZone": "UTC"}
        config |= {"autoinstall_known_extensions": "false"}
        try:
            connection = duckdb.connect(str(path), read_only=not write, config=config)
        except duckdb.IOException as error:
            raise _cannot_open(path, error) from error
        except duckdb.Error as error:
            raise InputError(f"{path}: not a ledger ({str(error).splitlines()[0]})") from error
        ledger = cls(path, connection)
        try:
            # Progress can be asked for, but DuckDB must not print it: --json goes to standard output.
            connection.execute("SET enable_progress_bar = true")
            connection.execute("SET enable_progress_bar_print = false")
            ledger._check_version(create=write)
        except BaseException:
            connection.close()
            raise
        return ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
        if error is not None and was_interrupted(error):
            raise KeyboardInterrupt from error

    def _check_version(self, *, create: bool) -> None:
        tables = {
            name for (name,) in self.connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        }
        if create and not tables:
            self.connection.execute("BEGIN")
            for statement in (*_TABLES, *_VIEWS):
                self.connection.execute(statement)
            self.connection.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])
            self.connection.execute("COMMIT")
            return
        if not {"meta", "ledger", "rejected_rows"} <= tables:
            raise InputError(
                f"{self.path}: a DuckDB file, but not a ledger; accepted: one that `ledger ingest` wrote"
            )
        found = self.connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall()
        version = int(found[0][0]) if found and str(found[0][0]).isdigit() else 0
        if version != SCHEMA_VERSION:
            later = (
                "a later Spotwise wrote it; update"
                if version > SCHEMA_VERSION
                else "ingest the exports again"
            )
            raise InputError(f"{self.path}: ledger version {version}, accepted: {SCHEMA_VERSION}; {later}")

    @property
    def table(self) -> ir.Table:
        """The `ledger` table as an Ibis expression."""
        import ibis

        return ibis.table(LEDGER_SCHEMA, name="ledger")

    @property
    def allocated(self) -> ir.Table:
        """The `allocated_ledger` view as an Ibis expression: shared rows once per target."""
        import ibis

        return ibis.table(LEDGER_SCHEMA | dict.fromkeys(ALLOCATED_COLUMNS, "string"), name="allocated_ledger")

    def rows(
        self, query: ir.Table | str, parameters: list[Any] | dict[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Run an expression, or SQL, and return its rows."""
        return self.connection.execute(self._text(query), parameters or []).fetchall()

    def arrow(self, query: ir.Table | str) -> pa.Table:
        """Run an expression, or SQL, and return an Arrow table."""
        return self.connection.sql(self._text(query)).to_arrow_table()

    @staticmethod
    def _text(query: ir.Table | str) -> str:
        return query if isinstance(query, str) else to_sql(query)


def was_interrupted(error: BaseException) -> bool:
    """Return whether an error is DuckDB's word for Ctrl-C in the middle of a query."""
    return isinstance(error, duckdb.InterruptException) or (
        isinstance(error, RuntimeError) and "interrupted" in str(error).lower()
    )


def to_sql(expression: ir.Table) -> str:
    """Return an Ibis expression as DuckDB SQL."""
    import ibis

    return str(ibis.to_sql(expression, dialect="duckdb"))


def _cannot_open(path: Path, error: duckdb.IOException) -> SpotwiseError:
    text = str(error).splitlines()[0].replace(str(path.resolve()), path.name).replace(str(path), path.name)
    if "lock" in text.lower():
        return SpotwiseError(f"{path}: another process has the ledger open; wait for it ({text})")
    if "newer" in text.lower() or "storage version" in text.lower() or "version number" in text.lower():
        return InputError(f"{path}: written by a later DuckDB; update Spotwise ({text})")
    return InputError(f"{path}: not a ledger ({text})")
