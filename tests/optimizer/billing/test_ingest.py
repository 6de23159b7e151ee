"""Any export in: what the ledger says is what was planted, and not a cent is lost."""

import csv
import random
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.billing.ingest import ingest
from optimizer.billing.ledger import Ledger
from optimizer.billing.normalise.aws_line import KNOWN
from optimizer.billing.sample import Truth, demo_scenario, write_azure, write_cur, write_focus, write_gcp
from simulator.errors import InputError, SpotwiseError

Rows = list[tuple[Any, ...]]
CENT = Decimal("0.01")

WRITERS: dict[str, Callable[[Path], Truth]] = {
    "cur": lambda folder: write_cur(demo_scenario(), folder),
    "gcp-parquet": lambda folder: write_gcp(demo_scenario("gcp", days=10), folder),
    "gcp-jsonl": lambda folder: write_gcp(demo_scenario("gcp", days=9), folder, format="jsonl"),
    "azure-ea": lambda folder: write_azure(demo_scenario("azure"), folder),
    "azure-mca": lambda folder: write_azure(demo_scenario("azure"), folder, agreement="mca"),
    "focus-parquet": lambda folder: write_focus(demo_scenario(), folder),
    "focus-csv": lambda folder: write_focus(demo_scenario(), folder, format="csv"),
}


SMALL: dict[str, Callable[[Path], Truth]] = {
    "cur": lambda folder: write_cur(demo_scenario(days=2), folder),
    "gcp": lambda folder: write_gcp(demo_scenario("gcp", days=2), folder),
    "azure-ea": lambda folder: write_azure(demo_scenario("azure", days=3), folder),
    "azure-mca": lambda folder: write_azure(demo_scenario("azure", days=3), folder, agreement="mca"),
    "focus-csv": lambda folder: write_focus(demo_scenario(days=2), folder, format="csv"),
}


@pytest.mark.parametrize("export", WRITERS)
def test_golden_exports_keep_the_planted_truth(
    export: str, tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    truth = WRITERS[export](tmp_path / "export")
    path = tmp_path / "ledger.duckdb"
    report = ingest([str(tmp_path / "export")], path)
    assert report.rejected == {}

    # Not a cent is lost, amortised or not.
    totals = ledger_rows(path, "SELECT sum(BilledCost), sum(EffectiveCost) FROM ledger")[0]
    assert abs(totals[0] - sum(truth.billed.values())) < CENT
    assert abs(totals[1] - truth.effective) < CENT
    assert all(abs(bill.cost_in - bill.cost_out) <= Decimal("0.000001") for bill in report.bills)
    assert len(report.bills) == len(truth.billed)

    # Spot is Dynamic: precision and recall 1, line by line, and so are on-demand and committed.
    planted = [
        (Path(name).name, line, option)
        for name, options in truth.lines.items()
        for line, option in enumerate(options, start=1)
        if option
        and not (export.startswith("azure") and name.startswith("amortized") != (option == "committed"))
    ]
    names = {"on-demand": "Standard", "spot": "Dynamic", "committed": "Committed"}
    found = ledger_rows(
        path,
        "SELECT parse_filename(x_SourceFile), x_SourceLine, PricingCategory FROM ledger WHERE"
        " x_InstanceHours > 0",
    )
    assert sorted(found) == sorted((name, line, names[option]) for name, line, option in planted)
    dynamic = ledger_rows(path, "SELECT count(*) FROM ledger WHERE PricingCategory = 'Dynamic'")[0][0]
    spot_lines = sum(option == "spot" for _, _, option in planted)
    # Google's memory line of a spot instance is as much spot as its core line.
    assert dynamic == spot_lines * (2 if export.startswith("gcp") else 1) > 0

    # Instance-hours per purchase option.
    hours: dict[str, Decimal] = dict(
        ledger_rows(
            path,
            "SELECT PricingCategory, sum(x_InstanceHours) FROM ledger WHERE x_InstanceHours > 0 GROUP BY 1",
        )
    )
    for option, count in truth.instance_hours.items():
        assert float(hours[names[option]]) == pytest.approx(count, rel=1e-9)

    # Commitments used and unused.
    unused = ledger_rows(
        path,
        "SELECT sum(EffectiveCost), sum(BilledCost) FROM ledger WHERE CommitmentDiscountStatus = 'Unused'",
    )[0]
    assert abs(unused[0] - truth.unused) < CENT
    assert unused[1] == 0

    # Every row is marked as synthetic.
    assert ledger_rows(
        path, "SELECT count(*) FROM ledger WHERE Tags->>'synthetic' IS DISTINCT FROM 'true'"
    ) == [(0,)]


@pytest.mark.parametrize("export", ["cur", "gcp-parquet", "azure-ea"])
def test_spot_has_its_on_demand_equivalent(
    export: str, tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    WRITERS[export](tmp_path / "export")
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    provider = {"cur": "aws", "gcp-parquet": "gcp", "azure-ea": "azure"}[export]
    scenario = demo_scenario(provider, days=10 if provider == "gcp" else 14)
    spot = sum(w.on_demand_price * float(w.spot[scenario.present()].sum()) for w in scenario.workloads)
    found = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT sum(x_OnDemandEquivalentCost) FROM ledger WHERE PricingCategory = 'Dynamic'",
    )
    assert float(found[0][0]) == pytest.approx(spot, rel=1e-6)


def test_real_samples_of_all_providers_go_into_one_ledger(
    shared_data: Path, tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    path = tmp_path / "l.duckdb"
    report = ingest([str(shared_data / "billing")], path)
    assert report.rejected == {}
    assert {kind for _, kind in report.files} == {"aws-cur-legacy", "azure", "focus"}
    assert all(abs(b.cost_in - b.cost_out) < Decimal("1e-9") for b in report.bills)
    assert {b.currency for b in report.bills} == {"USD", "CAD"}
    by_format: dict[str, int] = dict(
        ledger_rows(path, "SELECT x_SourceFormat, count(*) FROM ledger GROUP BY 1")
    )
    # The two small Azure sets are one bill: 11 actual rows and 2 amortised ones under a commitment, then 27
    # of a third.
    assert by_format == {"aws-cur-legacy": 1281, "focus": 1000, "azure": 40}
    cad = ledger_rows(path, "SELECT sum(BilledCost) FROM ledger WHERE BillingCurrency = 'CAD'")[0][0]
    assert cad == Decimal("1.261369265057260")
    # The only sign of the type in the FOCUS sample is its description.
    types = ledger_rows(
        path,
        "SELECT x_InstanceType, x_InstanceHours FROM ledger WHERE x_SourceFormat = 'focus'"
        " AND ChargeDescription LIKE '%On Demand Linux c5.2xlarge Instance Hour'",
    )
    assert types
    assert {kind for kind, _ in types} == {"c5.2xlarge"}
    spot = ledger_rows(path, "SELECT SkuMeter FROM ledger WHERE PricingCategory = 'Dynamic' ORDER BY 1")
    assert [meter for (meter,) in spot] == ["DS4 v2 Spot", "L4s Spot", "L4s Spot"]


def test_a_restated_bill_replaces_the_old_one_and_leaves_the_others(
    cur_csv: Callable[..., Path], tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    path = tmp_path / "l.duckdb"
    april = {
        "bill_invoice_id": "INV4",
        "bill_billing_period_start_date": "2024-04-01T00:00:00.000Z",
        "bill_billing_period_end_date": "2024-05-01T00:00:00.000Z",
    }
    broken = {"line_item_line_item_type": "Nonsense", "line_item_unblended_cost": "3"}
    ingest([str(cur_csv({}, {}, broken, april))], path)
    restated = cur_csv({"line_item_unblended_cost": "0.05"}, name="restated.csv")
    report = ingest([str(restated)], path, replace=True)
    assert [(r.before, r.after, r.currency) for r in report.replaced] == [
        (Decimal("0.192"), Decimal("0.05"), "USD")
    ]
    assert ledger_rows(path, "SELECT InvoiceId, BilledCost FROM ledger ORDER BY 1") == [
        ("INV", Decimal("0.05")),
        ("INV4", Decimal("0.096")),
    ]
    # The rejected row was of the old bill.
    assert ledger_rows(path, "SELECT count(*) FROM rejected_rows") == [(0,)]
    assert ledger_rows(path, "SELECT invoice, cost_out FROM bills ORDER BY 1") == [
        ("INV", Decimal("0.05")),
        ("INV4", Decimal("0.096")),
    ]
    # The first files are no longer what the ledger holds, so they are read again, and restore it.
    assert not ingest([str(tmp_path / "cur.csv")], path).unchanged
    assert ledger_rows(path, "SELECT sum(BilledCost) FROM ledger") == [(Decimal("0.288"),)]


def test_rejected_rows_keep_file_line_reason_and_cost(
    cur_csv: Callable[..., Path], tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    path = tmp_path / "l.duckdb"
    report = ingest(
        [
            str(
                cur_csv(
                    {},
                    {"line_item_line_item_type": "LunarRebate", "line_item_unblended_cost": "12.5"},
                    {"line_item_unblended_cost": "a lot"},
                    {"line_item_usage_start_date": "yesterday"},
                    {"line_item_currency_code": ""},
                    {"line_item_usage_end_date": "2024-03-05T09:00:00.000Z"},
                )
            )
        ],
        path,
    )
    rows = ledger_rows(path, "SELECT source_line, reason, cost FROM rejected_rows ORDER BY 1")
    assert rows == [
        (3, "unknown line item type LunarRebate", Decimal("12.5")),
        (4, "line_item_unblended_cost: not a number: a lot", None),
        (5, "line_item_usage_start_date: not a time: yesterday", Decimal("0.096")),
        (6, "line_item_currency_code is empty", Decimal("0.096")),
        (7, "the usage ends before it begins", Decimal("0.096")),
    ]
    assert sum(report.rejected.values()) == 5
    text = ledger_rows(
        path, "SELECT source_row->>'line_item_line_item_type' FROM rejected_rows WHERE source_line = 3"
    )
    assert text == [("LunarRebate",)]
    bill = next(b for b in report.bills if b.currency == "USD")
    assert (bill.cost_in, bill.cost_out, bill.cost_rejected) == (
        Decimal("12.788"),
        Decimal("0.096"),
        Decimal("12.692"),
    )


def test_negations_that_do_not_cancel_leave_an_adjustment(
    cur_csv: Callable[..., Path], tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    plan = {"savings_plan_savings_plan_a_r_n": "arn:sp", "savings_plan_savings_plan_effective_cost": "0.07"}
    covered = plan | {"line_item_line_item_type": "SavingsPlanCoveredUsage"}
    negation = plan | {
        "line_item_line_item_type": "SavingsPlanNegation",
        "line_item_unblended_cost": "-0.096",
    }
    report = ingest([str(cur_csv(covered, covered, negation))], tmp_path / "l.duckdb")
    assert report.bills[0].cost_in == report.bills[0].cost_out == Decimal("0.096")
    rows = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT ChargeCategory, BilledCost, EffectiveCost, x_Flags FROM ledger ORDER BY 1, 3",
    )
    assert rows == [
        ("Adjustment", Decimal("0.096"), Decimal("0.096"), "commitment-imbalance"),
        ("Usage", 0, Decimal("0.07"), None),
        ("Usage", 0, Decimal("0.07"), None),
    ]


def test_a_bill_that_comes_in_two_formats_is_refused(tmp_path: Path) -> None:
    scenario = demo_scenario(days=2)
    write_cur(scenario, tmp_path / "cur")
    write_focus(scenario, tmp_path / "focus")
    path = tmp_path / "l.duckdb"
    with pytest.raises(InputError, match="as aws-cur and as focus; accepted: one export per bill"):
        ingest([str(tmp_path / "cur"), str(tmp_path / "focus")], path)
    with Ledger.open(path) as ledger:
        assert ledger.rows("SELECT count(*) FROM ledger") == [(0,)]


@pytest.mark.parametrize(
    ("export", "other"),
    [
        ("cur", {"ProviderName": "Amazon Web Services"}),
        ("gcp", {"ProviderName": "Google Cloud Platform", "BillingPeriodStart": "utc"}),
        ("azure-ea", {"ProviderName": "Azure", "BillingAccountId": "/billingAccounts/{}"}),
        (
            "azure-mca",
            {
                "ProviderName": "Microsoft Azure",
                "BillingAccountId": "/providers/Microsoft.Billing/billingAccounts/a:b/billingProfiles/{}",
            },
        ),
    ],
)
def test_a_native_and_a_focus_export_are_one_bill_whatever_they_call_it(
    export: str, other: dict[str, str], tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    native, path = tmp_path / "native", tmp_path / "l.duckdb"
    truth = SMALL[export](native)
    ingest([str(native)], path)
    with Ledger.open(path) as ledger:
        focus = ledger.arrow("SELECT * FROM focus")
    for column, text in other.items():
        old = focus[column].to_pylist()
        new = (
            pa.array([datetime(t.year, t.month, 1) for t in old], pa.timestamp("us"))
            if text == "utc"
            else pa.array([text.format(value.lower()) for value in old])
        )
        focus = focus.set_column(focus.column_names.index(column), column, new)
    pq.write_table(focus, tmp_path / "focus.parquet")

    with pytest.raises(InputError, match="accepted: one export per bill, or it would count twice"):
        ingest([str(native), str(tmp_path / "focus.parquet")], tmp_path / "both.duckdb")
    # One after the other, the later takes the place of the earlier, both ways round.
    for source in (tmp_path / "focus.parquet", native):
        report = ingest([str(source)], path)
        assert sum(r.before for r in report.replaced) == pytest.approx(sum(truth.billed.values()))
        found = ledger_rows(path, "SELECT sum(BilledCost), count(DISTINCT ProviderName) FROM ledger")
        assert found == [(pytest.approx(sum(truth.billed.values())), 1)]


def test_an_unbalanced_bill_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optimizer.billing.mapping import compile_queries
    from optimizer.billing.normalise import Normalised

    write_cur(demo_scenario(days=2), tmp_path / "cur")

    def without_refunds(self: Normalised) -> Any:
        good = self.rows.filter(self.rows.ChargeClass.isnull() & ~self.rows.dropped)
        return good.drop("reject_reason", "dropped", "source_cost")

    # A mapping mistake that loses the refunds.
    with monkeypatch.context() as patch:
        patch.setattr(Normalised, "accepted", property(without_refunds))
        compile_queries.cache_clear()
        with pytest.raises(SpotwiseError, match="does not balance"):
            ingest([str(tmp_path / "cur")], tmp_path / "l.duckdb")
    compile_queries.cache_clear()
    with Ledger.open(tmp_path / "l.duckdb") as ledger:
        assert ledger.rows("SELECT (SELECT count(*) FROM ledger), (SELECT count(*) FROM ingests)") == [(0, 0)]


def test_exports_on_s3_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from moto import mock_aws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    truth = write_cur(demo_scenario(days=9), tmp_path / "cur")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="bills")
        for file in truth.files:
            client.upload_file(str(file), "bills", f"export/{file.relative_to(tmp_path / 'cur')}")
        client.put_object(Bucket="bills", Key="export/metadata/x-Manifest.json", Body=b"{}")
        report = ingest(["s3://bills/export/"], tmp_path / "l.duckdb")
        assert len(report.files) == len(truth.files) == 2
        assert all(name.startswith("s3://bills/export/data/BILLING_PERIOD=") for name, _ in report.files)
        assert sum(b.cost_out for b in report.bills) == pytest.approx(sum(truth.billed.values()))
        with pytest.raises(InputError, match="no export under this prefix"):
            ingest(["s3://bills/nothing"], tmp_path / "l.duckdb")
        with pytest.raises(SpotwiseError, match="NoSuchBucket"):
            ingest(["s3://absent/x"], tmp_path / "l.duckdb")


def test_parquet_files_with_different_columns_are_one_export(tmp_path: Path) -> None:
    truth = write_cur(demo_scenario(days=9), tmp_path / "cur")
    first = pq.read_table(truth.files[0])
    wider = first.append_column(
        "savings_plan_offering_type", pa.array(["ComputeSavingsPlans"] * first.num_rows)
    )
    pq.write_table(wider, truth.files[0])
    report = ingest([str(tmp_path / "cur")], tmp_path / "l.duckdb")
    assert sum(b.cost_out for b in report.bills) == pytest.approx(sum(truth.billed.values()))


lines = st.lists(
    st.tuples(
        st.sampled_from([*KNOWN, "Unheard", ""]),
        st.decimals(-1000, 1000, places=10),
        st.sampled_from(["USD", "EUR", ""]),
        st.sampled_from(["", "INV1", "INV2"]),
        st.sampled_from(["", "arn:sp"]),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines)
def test_not_a_cent_is_lost_whatever_the_lines_say(
    cur_csv: Callable[..., Path],
    ledger_rows: Callable[..., Rows],
    found: list[tuple[str, Decimal, str, str, str]],
) -> None:
    path = cur_csv(
        *(
            {
                "line_item_line_item_type": kind,
                "line_item_unblended_cost": str(cost),
                "line_item_currency_code": currency,
                "bill_invoice_id": invoice,
                "savings_plan_savings_plan_a_r_n": arn,
            }
            for kind, cost, currency, invoice, arn in found
        )
    )
    ledger = path.with_suffix(".duckdb")
    ledger.unlink(missing_ok=True)
    report = ingest([str(path)], ledger)
    # Covered usage and negations that cancel to less than half a cent are the tolerance of a bill.
    assert all(abs(b.cost_in - b.cost_out - b.cost_rejected) <= Decimal("0.01") for b in report.bills)
    total_in = sum(b.cost_in for b in report.bills)
    assert total_in == sum(cost for _, cost, *_ in found)
    kept = ledger_rows(ledger, "SELECT coalesce(sum(BilledCost), 0) FROM ledger")[0][0]
    rejected = ledger_rows(ledger, "SELECT coalesce(sum(cost), 0) FROM rejected_rows")[0][0]
    assert abs(total_in - kept - rejected) <= Decimal("0.01") * len(report.bills)


def test_legacy_reports_have_their_tags_in_columns(
    write_csv: Callable[..., Path], tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    row = {
        "bill/PayerAccountId": "1",
        "bill/BillingPeriodStartDate": "2023-11-01T00:00:00.000Z",
        "lineItem/UsageAccountId": "2",
        "lineItem/LineItemType": "Usage",
        "lineItem/UsageStartDate": "2023-11-04T23:00:00.000Z",
        "lineItem/UsageEndDate": "2023-11-05T00:00:00.000Z",
        "lineItem/ProductCode": "AmazonEC2",
        "lineItem/UsageType": "SpotUsage:m5.large",
        "lineItem/UsageAmount": "1",
        "lineItem/CurrencyCode": "USD",
        "lineItem/UnblendedCost": "3.4E-2",
        "product/instanceType": "m5.large",
        "pricing/unit": "Hrs",
        "resourceTags/user:app": "web",
        "resourceTags/user:Owner": "",
        "resourceTags/aws:createdBy": "me",
    }
    ingest([str(write_csv(tmp_path / "cur.csv", [row]))], tmp_path / "l.duckdb")
    found = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT Tags, x_InstanceType, PricingCategory, BilledCost, BillingPeriodEnd FROM ledger",
    )
    end = datetime(2023, 12, 1)
    assert found == [('{"app":"web","aws:createdBy":"me"}', "m5.large", "Dynamic", Decimal("0.034"), end)]


def test_native_focus_exports_of_aws_have_maps(tmp_path: Path, ledger_rows: Callable[..., Rows]) -> None:
    write_focus(demo_scenario(days=2), tmp_path)
    path = next(tmp_path.glob("*.parquet"))
    table = pq.read_table(path)
    text_map = pa.map_(pa.string(), pa.string())
    tags = pa.array([[("app", "web")]] * table.num_rows, type=text_map)
    details = pa.array([[("InstanceType", "m5.large"), ("x_a", "b")]] * table.num_rows, type=text_map)
    for name, values in (("Tags", tags), ("SkuPriceDetails", details)):
        table = table.set_column(table.column_names.index(name), name, values)
    pq.write_table(table.append_column("x_Operation", pa.array(["RunInstances"] * table.num_rows)), path)
    ingest([str(path)], tmp_path / "l.duckdb")
    found = ledger_rows(
        tmp_path / "l.duckdb", "SELECT DISTINCT Tags, SkuPriceDetails FROM ledger WHERE x_InstanceHours > 0"
    )
    assert found == [('{"app":"web"}', '{"InstanceType":"m5.large","x_a":"b"}')]


@pytest.mark.parametrize(
    ("export", "expected"),
    [
        (
            "cur",
            {("Credit", None): -50.0, ("Adjustment", "Correction"): -15.0, ("Tax", None): 89.26},
        ),
        (
            # A rounding error of 0.004 and a trial credit per invoice month.
            "gcp-parquet",
            {("Adjustment", "Correction"): -15.0, ("Adjustment", None): 0.008, ("Tax", None): 24.68},
        ),
        ("azure-ea", {("Purchase", "Correction"): -7.5, ("Adjustment", None): 0.008}),
        ("azure-mca", {("Purchase", "Correction"): -7.5, ("Adjustment", None): 0.008}),
    ],
)
def test_credits_refunds_and_taxes_are_what_was_planted(
    export: str,
    expected: dict[tuple[str, str | None], float],
    tmp_path: Path,
    ledger_rows: Callable[..., Rows],
) -> None:
    WRITERS[export](tmp_path / "export")
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    rows = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT ChargeCategory, ChargeClass, sum(BilledCost)::DOUBLE FROM ledger GROUP BY 1, 2",
    )
    sums = {(category, kind): total for category, kind, total in rows}
    assert {key: sums[key] for key in expected} == pytest.approx(expected)
    if export == "gcp-parquet":
        trial = ledger_rows(
            tmp_path / "l.duckdb",
            "SELECT count(*), sum(BilledCost)::DOUBLE, sum(EffectiveCost)::DOUBLE FROM ledger"
            " WHERE ChargeCategory = 'Credit' AND ChargeDescription LIKE 'Trial%'",
        )
        assert trial == [(2, -50.0, 0.0)]
        # The line that the credit is for is that much cheaper.
        paid = ledger_rows(
            tmp_path / "l.duckdb",
            "SELECT sum(BilledCost)::DOUBLE, sum(EffectiveCost)::DOUBLE FROM ledger"
            " WHERE ServiceName = 'Cloud Storage' AND ChargeCategory = 'Usage'",
        )
        assert paid == [(80.0, 30.0)]


def test_copies_and_other_spellings_of_a_file_count_once(shared_data: Path, tmp_path: Path) -> None:
    sample = (shared_data / "billing" / "aws_cur_legacy_sample.csv").read_bytes()
    folder = tmp_path / "export"
    folder.mkdir()
    for name in ("a.csv", "a (1).csv"):
        (folder / name).write_bytes(sample)
    report = ingest([str(folder), str(folder / ".." / "export" / "a.csv")], tmp_path / "l.duckdb")
    assert len(report.files) == 1
    (note,) = report.warnings
    assert note.startswith(f"{folder / 'a (1).csv'} holds the same charges as")


def test_fewer_files_than_before_are_a_restatement(shared_data: Path, tmp_path: Path) -> None:
    lines = (shared_data / "billing" / "aws_cur_legacy_sample.csv").read_text().splitlines(keepends=True)
    one, two = tmp_path / "1.csv", tmp_path / "2.csv"
    one.write_text("".join(lines[:600]))
    two.write_text(lines[0] + "".join(lines[600:]))
    assert not ingest([str(one), str(two)], tmp_path / "l.duckdb").unchanged
    assert not ingest([str(one)], tmp_path / "l.duckdb", replace=True).unchanged
    assert ingest([str(one)], tmp_path / "l.duckdb").unchanged


def _shuffled(source: Path, target: Path, *, keep: float = 1.0) -> None:
    if source.suffix == ".parquet":
        table = pq.read_table(source)
        order = np.random.default_rng(1).permutation(table.num_rows)
        pq.write_table(table.take(order[: int(keep * order.size)]), target)
        return
    header, *rows = source.read_text(encoding="utf-8-sig").splitlines()
    random.Random(1).shuffle(rows)
    target.write_text("\n".join([header, *rows[: int(keep * len(rows))]]) + "\n")


@pytest.mark.parametrize("export", ["cur", "gcp", "azure-ea", "focus-csv"])
def test_the_same_charges_in_another_order_count_once(
    export: str, tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    truth = SMALL[export](tmp_path / "export")
    for file in truth.files:
        _shuffled(file, file.with_name(f"z-copy-{file.name}"))
    path = tmp_path / "l.duckdb"
    report = ingest([str(tmp_path / "export")], path)
    total = "SELECT sum(BilledCost), sum(EffectiveCost) FROM ledger"
    billed, effective = ledger_rows(path, total)[0]
    assert abs(billed - sum(truth.billed.values())) < CENT
    assert abs(effective - truth.effective) < CENT
    assert sum("holds the same charges as" in w for w in report.warnings) == len(truth.files)
    assert ingest([str(tmp_path / "export")], path).unchanged


def test_files_with_many_of_the_same_charges_are_refused(tmp_path: Path) -> None:
    truth = write_cur(demo_scenario(days=2), tmp_path / "export")
    _shuffled(truth.files[0], tmp_path / "export" / "yesterday.parquet", keep=0.6)
    with pytest.raises(InputError, match=r"yesterday\.parquet: 100 % of the charges of the smaller one"):
        ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    with Ledger.open(tmp_path / "l.duckdb") as ledger:
        assert ledger.rows("SELECT count(*) FROM ledger") == [(0,)]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            [{}, {"line_item_unblended_cost": "0.2"}],
            [{"line_item_resource_id": "i-2"}],
            r"billed charges of 0\.30 USD, from .*cur\.csv; 0\.10 in these files",
        ),
        (
            [{}],
            [
                {
                    "line_item_usage_start_date": "2024-03-06T10:00:00.000Z",
                    "line_item_usage_end_date": "2024-03-06T11:00:00.000Z",
                }
            ]
            * 3,
            r"nothing of 1 of its 1 days \(2024-03-05\)",
        ),
        ([{}], [{"line_item_usage_account_id": "3"}] * 3, r"nothing of 1 of its 1 accounts \(2\)"),
        (
            [{}],
            [{"line_item_product_code": "AmazonS3", "line_item_usage_type": "TimedStorage"}] * 3,
            r"nothing of 1 of its 1 services \(Amazon Elastic Compute Cloud\)",
        ),
        ([{}], [{"line_item_line_item_type": "Nonsense"}], r"0\.00 in these files"),
    ],
)
def test_another_part_of_a_bill_does_not_silently_take_its_place(
    first: list[dict[str, str]],
    second: list[dict[str, str]],
    message: str,
    cur_csv: Callable[..., Path],
    tmp_path: Path,
    ledger_rows: Callable[..., Rows],
) -> None:
    path = tmp_path / "l.duckdb"
    one, two = cur_csv(*first), cur_csv(*second, name="second.csv")
    ingest([str(one)], path)
    before = ledger_rows(path, "SELECT sum(BilledCost) FROM ledger")
    with pytest.raises(InputError, match=message + ".*give all its files together, or --replace"):
        ingest([str(two)], path)
    assert ledger_rows(path, "SELECT sum(BilledCost) FROM ledger") == before
    # Both together are the bill; asked for, the part takes its place.
    assert ingest([str(one), str(two)], path).rows == len(first) + sum(
        "Nonsense" not in row.values() for row in second
    )
    assert ingest([str(two)], path, replace=True).replaced[0].before > 0


def test_one_of_azures_sets_does_not_silently_take_the_place_of_both(tmp_path: Path) -> None:
    path = tmp_path / "l.duckdb"
    actual, amortized = write_azure(demo_scenario("azure", days=5), tmp_path / "export").files
    # The second set adds what the first does not know.
    ingest([str(actual)], path)
    ingest([str(tmp_path / "export")], path)
    with pytest.raises(InputError, match="the ledger has effective charges of"):
        ingest([str(actual)], path)
    with pytest.raises(InputError, match="the ledger has billed charges of"):
        ingest([str(amortized)], path)


def test_a_bill_that_grows_or_changes_a_little_is_replaced_without_asking(
    cur_csv: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "l.duckdb"
    ingest([str(cur_csv({}, {}))], path)
    credit = {"line_item_line_item_type": "Credit", "line_item_unblended_cost": "-0.15"}
    cheaper = {"line_item_unblended_cost": "0.09"}
    for number, rows in enumerate(([{}, cheaper], [{}, cheaper, credit], [{}, {}, {}, credit])):
        report = ingest([str(cur_csv(*rows, name=f"{number}.csv"))], path)
        assert len(report.replaced) == 1


def test_an_amortised_set_alone_adds_up_to_what_its_file_says(
    shared_data: Path, tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    path = shared_data / "billing" / "azure_EA_AmortizedCost_Small.csv"
    with path.open(encoding="utf-8-sig", newline="") as source:
        costs = [(Decimal(row["Cost"]), row["PricingModel"]) for row in csv.DictReader(source)]
    (bill,) = ingest([str(path)], tmp_path / "l.duckdb").bills
    assert abs(bill.cost_in - sum(cost for cost, _ in costs)) < Decimal("1e-9")
    assert abs(bill.cost_shared - sum(cost for cost, model in costs if model != "OnDemand")) < Decimal("1e-9")
    assert bill.cost_in == bill.cost_out + bill.cost_shared
    sums = ledger_rows(tmp_path / "l.duckdb", "SELECT sum(BilledCost), sum(EffectiveCost) FROM ledger")
    assert sums == [(bill.cost_out, bill.cost_in)]
    # Beside the actual set the amortised one invoices nothing and its shares stand in no sum.
    both = ingest(
        [str(path), str(path.with_name("azure_EA_ActualCost_Small.csv"))], tmp_path / "l.duckdb", replace=True
    )
    assert both.bills[0].cost_shared == 0
    assert both.bills[0].cost_in == both.bills[0].cost_out
