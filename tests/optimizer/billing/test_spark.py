"""The same expressions on Spark give the rows that DuckDB gives: `make spark-tests`, with Java 17."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ibis
import pytest

from optimizer.billing.checks.rules import rules
from optimizer.billing.checks.run import groups_of
from optimizer.billing.ingest import ingest
from optimizer.billing.ledger import Ledger, to_sql
from optimizer.billing.normalise import normalise, on_demand_equivalents
from optimizer.billing.sample import demo_scenario, write_azure, write_cur, write_focus, write_gcp
from optimizer.billing.sources import detect, find_files, open_raw
from optimizer.billing.sources.fields import raw_schema
from optimizer.billing.views import cost_by
from optimizer.billing.workloads.demand import coverage, hourly

pytestmark = [
    pytest.mark.spark,
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore"),  # pyspark and py4j leave sockets and warn of their own dependencies
]
Rows = list[tuple[Any, ...]]
WRITERS: dict[str, Callable[[Path], Any]] = {
    "aws-cur": lambda folder: write_cur(demo_scenario(days=9), folder),
    "gcp": lambda folder: write_gcp(demo_scenario("gcp", days=9), folder),
    "azure": lambda folder: write_azure(demo_scenario("azure", days=9), folder),
    "focus": lambda folder: write_focus(demo_scenario(days=9), folder),
}


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed: pip install 'spotwise[scale]'")
    session = (
        sql.SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    yield session
    session.stop()


def on_spark(spark: Any, expression: Any) -> Rows:
    rows = spark.sql(str(ibis.to_sql(expression, dialect="pyspark"))).collect()
    return [tuple(row) for row in rows]


def same(duckdb_rows: Rows, spark_rows: Rows) -> None:
    """Compare two results in any order: numbers to 1e-9, everything else exactly."""

    def plain(value: Any) -> Any:
        if value is None or isinstance(value, (str, bool)):
            return value
        if hasattr(value, "tzinfo"):
            return value.replace(tzinfo=None).isoformat()
        # Adding zero makes a negative zero positive.
        return round(float(value), 9) + 0.0

    def ordered(rows: Rows) -> Rows:
        return sorted((tuple(plain(v) for v in row) for row in rows), key=repr)

    left, right = ordered(duckdb_rows), ordered(spark_rows)
    assert len(left) == len(right)
    for mine, other in zip(left, right, strict=True):
        assert mine == pytest.approx(other, abs=1e-9) if _numbers(mine) else mine == other


def _numbers(row: tuple[Any, ...]) -> bool:
    return all(isinstance(value, float) for value in row)


@pytest.mark.parametrize("export", WRITERS)
def test_normalisation_is_the_same(
    export: str, tmp_path: Path, spark: Any, spark_options: Callable[[], None]
) -> None:
    spark_options()
    WRITERS[export](tmp_path / "export")
    with (
        find_files([str(tmp_path / "export")]) as files,
        Ledger.open(tmp_path / "l.duckdb", write=True) as ledger,
    ):
        found = [detect(file) for file in files]
        kind = found[0].format
        raw = open_raw(ledger.connection, found, kind, "raw_export")
        lines = ibis.table(raw_schema(kind, credits=True), name=raw.credits) if raw.credits else None
        normalised = normalise(ibis.table(raw_schema(kind), name="raw_export"), lines, kind)
        for view in filter(None, (raw.view, raw.credits)):
            ledger.connection.execute(
                f"COPY (SELECT * FROM {view}) TO '{tmp_path / view}.parquet' (FORMAT parquet)"
            )
            spark.read.parquet(f"{tmp_path / view}.parquet").createOrReplaceTempView(view)
        for table in (on_demand_equivalents(normalised.accepted), *normalised.derived, normalised.rejected):
            same(ledger.rows(to_sql(table)), on_spark(spark, table))


def test_views_demand_and_checks_are_the_same(
    tmp_path: Path, spark: Any, spark_options: Callable[[], None]
) -> None:
    spark_options()
    write_cur(demo_scenario(days=4), tmp_path / "export" / "aws")
    write_azure(demo_scenario("azure", days=4), tmp_path / "export" / "azure")
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    with Ledger.open(tmp_path / "l.duckdb", write=True) as ledger:
        # Something to find for the checks over several rows.
        for other in ("x_SourceLine + 9000 AS x_SourceLine", "'other' AS BillingAccountId"):
            ledger.connection.execute(
                f"INSERT INTO ledger BY NAME SELECT * REPLACE ({other}) FROM ledger"
                " WHERE BilledCost > 0 AND ChargeCategory = 'Usage' AND x_SourceLine < 40"
            )
        ledger.connection.execute(f"COPY ledger TO '{tmp_path}/ledger.parquet' (FORMAT parquet)")
        spark.read.parquet(f"{tmp_path}/ledger.parquet").createOrReplaceTempView("ledger")
        table = ledger.table
        broken = table.agg(**{rule.name.replace("-", "_"): rule.broken(table).sum() for rule in rules()})
        for query in (
            cost_by(table, ("tag:app", "purchase-option", "day"), "amortized"),
            cost_by(table, ("service", "region", "hour"), "unblended"),
            cost_by(table, ("workload", "month"), "amortized", where=[("provider", "AWS")]),
            hourly(table, ("tag:app", "account", "region")),
            coverage(table),
            broken,
        ):
            same(ledger.rows(to_sql(query)), on_spark(spark, query))
        groups = [group for group in groups_of(table) if group.name != "bill-balance"]
        for group in groups:
            same(ledger.rows(to_sql(group.broken)), on_spark(spark, group.broken))
        assert {group.name for group in groups if ledger.rows(to_sql(group.broken))} >= {
            "duplicate-charge",
            "billed-twice",
            "instance-overlap",
        }
