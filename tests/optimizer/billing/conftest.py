"""What the billing tests share."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pytest

from optimizer.billing.ledger import Ledger

Rows = list[tuple[Any, ...]]


@pytest.fixture
def query() -> Callable[..., Rows]:
    """Return a function that runs one SQL text on an empty DuckDB in UTC and returns its rows."""

    def run(sql: str, parameters: list[Any] | None = None) -> Rows:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.execute(sql, parameters or []).fetchall()

    return run


@pytest.fixture
def ledger_rows() -> Callable[..., Rows]:
    """Return a function that runs SQL on a ledger file and returns its rows."""

    def run(path: Path, sql: str, parameters: list[Any] | None = None) -> Rows:
        with Ledger.open(path) as ledger:
            return ledger.rows(sql, parameters)

    return run


CUR_LINE = {
    "identity_line_item_id": "line",
    "bill_invoice_id": "INV",
    "bill_invoicing_entity": "Amazon Web Services, Inc.",
    "bill_payer_account_id": "1",
    "bill_billing_period_start_date": "2024-03-01T00:00:00.000Z",
    "bill_billing_period_end_date": "2024-04-01T00:00:00.000Z",
    "line_item_usage_account_id": "2",
    "line_item_line_item_type": "Usage",
    "line_item_usage_start_date": "2024-03-05T10:00:00.000Z",
    "line_item_usage_end_date": "2024-03-05T11:00:00.000Z",
    "line_item_product_code": "AmazonEC2",
    "line_item_usage_type": "USE2-BoxUsage:m5.large",
    "line_item_usage_amount": "1",
    "line_item_currency_code": "USD",
    "line_item_unblended_cost": "0.096",
    "line_item_resource_id": "i-1",
    "line_item_availability_zone": "us-east-2a",
    "product_region_code": "us-east-2",
    "product_sku": "SKU1",
    "pricing_rate_code": "SKU1.A.B",
    "pricing_unit": "Hrs",
    "pricing_public_on_demand_rate": "0.096",
    "pricing_public_on_demand_cost": "0.096",
    "resource_tags": '{"user_app": "web"}',
}
"""One on-demand instance-hour, as a data export in CSV has it."""


def _write_csv(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def write_csv() -> Callable[..., Path]:
    """Return a function that writes rows (mappings) to a path under the union of their columns."""
    return _write_csv


@pytest.fixture
def cur_csv(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes report lines, each given as what differs from `CUR_LINE`."""

    def write(*changes: Mapping[str, str], name: str = "cur.csv") -> Path:
        return _write_csv(tmp_path / name, [CUR_LINE | dict(change) for change in changes])

    return write


class _PySparkOptions(ibis.config.Config):  # type: ignore[misc]  # Ibis has no types
    treat_nan_as_null: bool = False


@pytest.fixture
def spark_options(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which Ibis compiles for Spark although pyspark is not installed."""

    def install() -> None:
        # Ibis sets this when it loads its Spark backend, and its compiler asks for it.
        monkeypatch.setattr(ibis.options, "pyspark", _PySparkOptions())

    return install
