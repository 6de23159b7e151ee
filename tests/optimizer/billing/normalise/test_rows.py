"""Row by row: what each provider's lines become in FOCUS."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
import pytest

from optimizer.billing.ingest import ingest
from optimizer.billing.normalise import normalise, on_demand_equivalents
from optimizer.billing.sources import Format
from optimizer.billing.sources.fields import raw_schema

Rows = list[tuple[Any, ...]]
LedgerRows = Callable[..., Rows]
SP = {"savings_plan_savings_plan_a_r_n": "arn:sp"}
RI = {"reservation_reservation_a_r_n": "arn:ri"}


def line(kind: str, cost: str, **more: str) -> dict[str, str]:
    return {
        "line_item_line_item_type": kind,
        "line_item_unblended_cost": cost,
        "identity_line_item_id": kind,
    } | more


def test_aws_line_item_types(cur_csv: Callable[..., Path], tmp_path: Path, ledger_rows: LedgerRows) -> None:
    spot = {"line_item_usage_type": "USE2-SpotUsage:m5.large", "pricing_public_on_demand_cost": ""}
    spot |= {"pricing_public_on_demand_rate": "", "pricing_rate_code": "SKU2.A.B"}
    path = cur_csv(
        line("Usage", "0.096"),
        line("Usage", "0.03", **spot | {"product_sku": "", "pricing_rate_code": ""}),
        line("SavingsPlanCoveredUsage", "0.096", savings_plan_savings_plan_effective_cost="0.07", **SP),
        line("SavingsPlanNegation", "-0.096", **SP),
        line("DiscountedUsage", "0", reservation_effective_cost="0.06", **RI),
        line(
            "SavingsPlanRecurringFee",
            "0.10",
            savings_plan_total_commitment_to_date="0.10",
            savings_plan_used_commitment="0.07",
            **SP,
        ),
        line(
            "RIFee",
            "5",
            reservation_unused_recurring_fee="1.5",
            reservation_unused_amortized_upfront_fee_for_billing_period="0.5",
            **RI,
        ),
        line("SavingsPlanUpfrontFee", "100", **SP),
        line("Fee", "50", **RI),
        line("Fee", "9", line_item_product_code="AWSSupport"),
        line("Tax", "1.1"),
        line("Credit", "-2"),
        line("Refund", "-3"),
        line("EdpDiscount", "-0.5"),
    )
    ingest([str(path)], tmp_path / "l.duckdb")
    columns = (
        "x_SourceLine, ChargeCategory, ChargeClass, PricingCategory, CommitmentDiscountStatus, BilledCost,"
        " EffectiveCost"
    )
    rows = ledger_rows(
        tmp_path / "l.duckdb",
        f"SELECT {columns} FROM ledger ORDER BY 1, CommitmentDiscountStatus NULLS FIRST",
    )
    d = Decimal
    assert rows == [
        (2, "Usage", None, "Standard", None, d("0.096"), d("0.096")),
        (3, "Usage", None, "Dynamic", None, d("0.03"), d("0.03")),
        (4, "Usage", None, "Committed", "Used", 0, d("0.07")),
        (6, "Usage", None, "Committed", "Used", 0, d("0.06")),
        (7, "Purchase", None, "Standard", None, d("0.1"), 0),
        (7, "Usage", None, "Committed", "Unused", 0, d("0.03")),
        (8, "Purchase", None, "Standard", None, 5, 0),
        (8, "Usage", None, "Committed", "Unused", 0, 2),
        (9, "Purchase", None, "Standard", None, 100, 0),
        (10, "Purchase", None, "Standard", None, 50, 0),
        (11, "Purchase", None, "Standard", None, 9, 9),
        (12, "Tax", None, None, None, d("1.1"), d("1.1")),
        (13, "Credit", None, None, None, -2, -2),
        (14, "Adjustment", "Correction", None, None, -3, -3),
        (15, "Credit", None, None, None, d("-0.5"), d("-0.5")),
    ]
    details = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT CommitmentDiscountCategory, CommitmentDiscountType, CommitmentDiscountId,"
        " CommitmentDiscountQuantity,"
        " CommitmentDiscountUnit FROM ledger WHERE x_SourceLine IN (4, 6) ORDER BY x_SourceLine",
    )
    assert details == [
        ("Spend", "Savings Plan", "arn:sp", d("0.07"), "USD"),
        ("Usage", "Reserved Instance", "arn:ri", 1, "Hours"),
    ]
    # The spot line has no public price; the on-demand line of the same meter has.
    one = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT x_OnDemandEquivalentCost, x_InstanceType, x_InstanceHours, ServiceSubcategory,"
        " RegionId, Tags,"
        " SkuPriceDetails FROM ledger WHERE x_SourceLine = 3",
    )[0]
    assert one[:5] == (d("0.096"), "m5.large", 1, "Virtual Machines", "us-east-2")
    assert json.loads(one[5]) == {"app": "web"}
    assert json.loads(one[6]) == {"InstanceType": "m5.large"}


def test_aws_net_costs_are_preferred(
    cur_csv: Callable[..., Path], tmp_path: Path, ledger_rows: LedgerRows
) -> None:
    net = {"line_item_net_unblended_cost": "0.08"}
    covered = {
        "savings_plan_savings_plan_effective_cost": "0.07",
        "savings_plan_net_savings_plan_effective_cost": "0.05",
    }
    path = cur_csv(
        line("Usage", "0.096", **net),
        line("SavingsPlanCoveredUsage", "0.096", line_item_net_unblended_cost="0", **covered, **SP),
        line("EdpDiscount", "-0.016", line_item_net_unblended_cost="0"),
    )
    report = ingest([str(path)], tmp_path / "l.duckdb")
    assert report.bills[0].cost_in == Decimal("0.08")
    rows = ledger_rows(
        tmp_path / "l.duckdb", "SELECT BilledCost, EffectiveCost FROM ledger ORDER BY x_SourceLine"
    )
    assert rows == [(Decimal("0.08"), Decimal("0.08")), (0, Decimal("0.05")), (0, 0)]


def test_aws_rows_that_need_a_remark(
    cur_csv: Callable[..., Path], tmp_path: Path, ledger_rows: LedgerRows
) -> None:
    path = cur_csv(
        {"line_item_usage_end_date": "2024-03-06T10:00:00.000Z", "line_item_usage_amount": "24"},
        {"line_item_usage_amount": "-1", "line_item_unblended_cost": "-0.096"},
        {"resource_tags": "app=web; owner"},
        {"resource_tags": "{}"},
        {"line_item_usage_type": "EBS:VolumeUsage.gp3", "line_item_resource_id": "vol-1"},
        {"line_item_usage_type": "UnusedBox:m5.large"},
    )
    ingest([str(path)], tmp_path / "l.duckdb")
    rows = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT x_Flags, Tags, x_InstanceHours, ResourceType, ServiceSubcategory FROM ledger ORDER"
        " BY x_SourceLine",
    )
    tags = '{"app":"web"}'
    assert rows == [
        ("long-row", tags, 24, "instance", "Virtual Machines"),
        ("negative-usage", tags, -1, "instance", "Virtual Machines"),
        ("tags-not-json", None, 1, "instance", "Virtual Machines"),
        (None, None, 1, "instance", "Virtual Machines"),
        (None, tags, None, "volume", "Virtual Machines"),
        (None, tags, None, "instance", "Virtual Machines"),
    ]


GCP_LINE: dict[str, Any] = {
    "billing_account_id": "ACC",
    "service": {"id": "S", "description": "Compute Engine"},
    "sku": {"id": "K", "description": "N2 Instance Core running in Americas"},
    "usage_start_time": "2024-03-05 10:00:00 UTC",
    "usage_end_time": "2024-03-05 11:00:00 UTC",
    "project": {"id": "p", "name": "project"},
    "labels": [{"key": "app", "value": "web"}],
    "system_labels": [
        {"key": "compute.googleapis.com/cores", "value": "4"},
        {"key": "compute.googleapis.com/machine_spec", "value": "n2-standard-4"},
    ],
    "location": {"location": "us-central1", "region": "us-central1", "zone": "us-central1-a"},
    "cost": 0.2,
    "currency": "USD",
    "usage": {"amount": 14400, "unit": "seconds", "amount_in_pricing_units": 4, "pricing_unit": "hour"},
    "credits": [],
    "invoice": {"month": "202403"},
    "cost_type": "regular",
    "cost_at_list": 0.25,
}


def gcp_lines(path: Path, *changes: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(GCP_LINE | change) + "\n" for change in changes))
    return path


def spec(machine: str, cores: str | None = None) -> list[dict[str, str]]:
    labels = [{"key": "compute.googleapis.com/machine_spec", "value": machine}]
    return labels + ([{"key": "compute.googleapis.com/cores", "value": cores}] if cores else [])


def sku(text: str) -> dict[str, dict[str, str]]:
    return {"sku": {"id": "K", "description": text}}


def test_gcp_lines(tmp_path: Path, ledger_rows: LedgerRows) -> None:
    credit = {"name": "CUD", "amount": -0.2, "id": "c", "type": "COMMITTED_USAGE_DISCOUNT_DOLLAR_BASE"}
    micro = {"amount": 900, "unit": "seconds", "amount_in_pricing_units": 0.25, "pricing_unit": "hour"}
    path = gcp_lines(
        tmp_path / "g.jsonl",
        {},
        sku("Spot Preemptible N2 Instance Core running in Americas"),
        sku("Preemptible N1 Predefined Instance Core running in Americas"),
        {"credits": [credit], "subscription": {"instance_id": "sub"}},
        {"system_labels": spec("n2-custom-8-16384"), "usage": GCP_LINE["usage"] | {"amount": 28800}},
        {"system_labels": spec("e2-micro", "2"), "usage": micro},
        {"cost_type": "tax"},
        {"cost_type": "rounding_error", "cost": -0.01},
        {"cost_type": "Adjustment", "adjustment_info": {"id": "a", "type": "GENERAL"}, "cost": -1},
        {"cost_type": "surprise"},
        {"invoice": {"month": "2024-03"}},
        {"cost": "free"},
        {"credits": [credit | {"amount": "some"}]},
    )
    path.write_text(path.read_text() + "this is not JSON\n")
    report = ingest([str(path)], tmp_path / "l.duckdb")
    rows = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT x_SourceLine, ChargeCategory, ChargeClass, PricingCategory, BilledCost,"
        " EffectiveCost, x_InstanceHours"
        " FROM ledger ORDER BY 1, 2 DESC",
    )
    d = Decimal
    assert rows == [
        (1, "Usage", None, "Standard", d("0.2"), d("0.2"), 1),
        (2, "Usage", None, "Dynamic", d("0.2"), d("0.2"), 1),
        (3, "Usage", None, "Dynamic", d("0.2"), d("0.2"), 1),
        (4, "Usage", None, "Committed", d("0.2"), 0, 1),
        (4, "Credit", None, None, d("-0.2"), 0, None),
        (5, "Usage", None, "Standard", d("0.2"), d("0.2"), 1),
        (6, "Usage", None, "Standard", d("0.2"), d("0.2"), 1),
        (7, "Tax", None, None, d("0.2"), d("0.2"), None),
        (8, "Adjustment", None, None, d("-0.01"), d("-0.01"), None),
        (9, "Adjustment", "Correction", None, -1, -1, None),
    ]
    assert report.rejected == {
        "the line is not JSON": 1,
        "cost: not a number: free": 1,
        "credits.amount: not a number": 1,
        "invoice.month is not YYYYMM: 2024-03": 1,
        "unknown cost type surprise": 1,
    }
    lines = ledger_rows(tmp_path / "l.duckdb", "SELECT source_line FROM rejected_rows ORDER BY 1")
    assert lines == [(10,), (11,), (12,), (13,), (14,)]
    spend = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT CommitmentDiscountCategory, CommitmentDiscountStatus, CommitmentDiscountId, ListCost"
        " FROM ledger WHERE PricingCategory = 'Committed'",
    )
    assert spend == [("Spend", "Used", "sub", d("0.25"))]


@pytest.mark.parametrize(
    ("month", "begin", "end"),
    [
        ("202403", "2024-03-01 08:00:00", "2024-04-01 07:00:00"),
        ("202411", "2024-11-01 07:00:00", "2024-12-01 08:00:00"),
        ("202312", "2023-12-01 08:00:00", "2024-01-01 08:00:00"),
    ],
)
def test_gcp_invoice_months_are_those_of_los_angeles(
    month: str, begin: str, end: str, query: Callable[..., Rows]
) -> None:
    from zoneinfo import ZoneInfo

    from optimizer.billing.normalise.gcp import invoice_period

    table = ibis.table({"month": "string"}, name="t")
    first, last = invoice_period(table.month)
    text = ibis.to_sql(table.select(first=first, last=last), dialect="duckdb")
    found = query(f"WITH t AS (SELECT '{month}' AS month) SELECT first::VARCHAR, last::VARCHAR FROM ({text})")
    assert found == [(begin, end)]
    from datetime import UTC, datetime

    local = datetime(int(month[:4]), int(month[4:]), 1, tzinfo=ZoneInfo("America/Los_Angeles"))
    assert local.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") == begin


def azure_row(**change: str) -> dict[str, str]:
    return {
        "BillingAccountId": "A",
        "BillingPeriodStartDate": "9/1/2023",
        "BillingPeriodEndDate": "9/30/2023",
        "Date": "9/2/2023",
        "SubscriptionId": "S",
        "MeterCategory": "Virtual Machines",
        "MeterName": "D2s v3",
        "MeterId": "M",
        "UnitOfMeasure": "1 Hour",
        "Quantity": "24",
        "EffectivePrice": "0.1",
        "Cost": "2.4",
        "UnitPrice": "0.1",
        "PayGPrice": "0.12",
        "BillingCurrency": "EUR",
        "ResourceLocation": "East US",
        "ResourceId": "/subscriptions/S/resourceGroups/r/providers/Microsoft.Compute/virtualMachines/v",
        "ResourceName": "v",
        "AdditionalInfo": '{"ServiceType": "Standard_D2s_v3", "VCPUs": 2}',
        "Tags": '"app": "web","Env": "prod"',
        "ChargeType": "Usage",
        "Frequency": "UsageBased",
        "PricingModel": "OnDemand",
        "benefitId": "",
    } | change


def test_azure_lines(tmp_path: Path, ledger_rows: LedgerRows, write_csv: Callable[..., Path]) -> None:
    plan = "/providers/Microsoft.BillingBenefits/savingsPlanOrders/o/savingsPlans/p"
    order = "/providers/Microsoft.Capacity/reservationOrders/o/reservations/r"
    path = write_csv(
        tmp_path / "cost.csv",
        [
            azure_row(),
            azure_row(
                PricingModel="Spot",
                MeterName="D2s v3 Spot",
                Cost="0.5",
                EffectivePrice="0.0208",
                PayGPrice="0",
            ),
            azure_row(PricingModel="Reservation", benefitId=order, Cost="1.5"),
            azure_row(PricingModel="SavingsPlan", benefitId=plan, Cost="1.7"),
            azure_row(
                ChargeType="UnusedReservation", PricingModel="Reservation", benefitId=order, Cost="0.9"
            ),
            azure_row(ChargeType="Purchase", PricingModel="OnDemand", Cost="7", Frequency="OneTime"),
            azure_row(ChargeType="RoundingAdjustment", PricingModel="", Cost="0.01"),
            azure_row(
                MeterCategory="Storage", UnitOfMeasure="10K", Quantity="20000", Cost="0.2", AdditionalInfo=""
            ),
            azure_row(UnitOfMeasure="100 Hours", Quantity="0.24", EffectivePrice="10", Cost="2.4"),
            azure_row(AdditionalInfo='{"UsageType":"ComputeCR","ServiceType":"Standard_D2s_v3"}'),
            azure_row(AdditionalInfo="", MeterName="D3 v2/DS3 v2", Tags="not: json"),
            azure_row(ChargeType="Mystery"),
            azure_row(Date="2023-09-03"),
            azure_row(Date="31/31/2023"),
        ],
    )
    report = ingest([str(path)], tmp_path / "l.duckdb")
    rows = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT ChargeCategory, PricingCategory, CommitmentDiscountStatus,"
        " CommitmentDiscountCategory, BilledCost,"
        " EffectiveCost, x_InstanceType, x_InstanceHours FROM ledger ORDER BY x_SourceLine",
    )
    d, kind = Decimal, "Standard_D2s_v3"
    assert rows == [
        ("Usage", "Standard", None, None, d("2.4"), d("2.4"), kind, 24),
        ("Usage", "Dynamic", None, None, d("0.5"), d("0.5"), kind, 24),
        ("Usage", "Committed", "Used", "Usage", 0, d("1.5"), kind, 24),
        ("Usage", "Committed", "Used", "Spend", 0, d("1.7"), kind, 24),
        ("Usage", "Committed", "Unused", "Usage", 0, d("0.9"), None, None),
        ("Purchase", "Standard", None, None, 7, 7, None, None),
        ("Adjustment", None, None, None, d("0.01"), d("0.01"), None, None),
        ("Usage", "Standard", None, None, d("0.2"), d("0.2"), None, None),
        ("Usage", "Standard", None, None, d("2.4"), d("2.4"), kind, 24),
        ("Usage", "Standard", None, None, d("2.4"), d("2.4"), None, None),
        ("Usage", "Standard", None, None, d("2.4"), d("2.4"), "Standard_D3_v2", 24),
        ("Usage", "Standard", None, None, d("2.4"), d("2.4"), kind, 24),
    ]
    assert report.rejected == {"date: not a time: 31/31/2023": 1, "unknown charge type Mystery": 1}
    assert "actual set too" in report.warnings[0]
    first = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT BillingPeriodEnd::VARCHAR, ChargePeriodEnd::VARCHAR, Tags->>'Env', RegionId,"
        " PricingUnit, ListCost,"
        " ListUnitPrice, ResourceType, x_Flags FROM ledger ORDER BY x_SourceLine LIMIT 1",
    )[0]
    assert first == (
        "2023-10-01 00:00:00",
        "2023-09-03 00:00:00",
        "prod",
        "eastus",
        "Hours",
        d("2.88"),
        d("0.12"),
        "microsoft.compute/virtualmachines",
        "daily",
    )
    block = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT PricingQuantity, ConsumedQuantity FROM ledger WHERE ServiceCategory = 'Storage'",
    )
    assert block == [(2, 20000)]
    flags = ledger_rows(tmp_path / "l.duckdb", "SELECT x_Flags FROM ledger WHERE Tags IS NULL")
    assert flags == [("daily,tags-not-json",)]


def test_focus_rows_are_kept_and_completed(
    tmp_path: Path, ledger_rows: LedgerRows, write_csv: Callable[..., Path]
) -> None:
    row = {
        "BilledCost": "1",
        "BillingAccountId": "A",
        "BillingCurrency": "USD",
        "BillingPeriodStart": "2024-03-01T00:00:00Z",
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-based",
        "ChargePeriodStart": "2024-03-05T10:00:00Z",
        "ChargePeriodEnd": "2024-03-05T11:00:00Z",
        "ServiceName": "EC2",
        "ServiceCategory": "Compute",
        "ConsumedQuantity": "1",
        "ConsumedUnit": "Hours",
        "PricingCategory": "Standard",
        "ChargeDescription": "c5.2xlarge Linux/UNIX Instance-hour",
        "contractedcost": "NULL",
        "ProviderName": "AWS",
    }
    path = write_csv(
        tmp_path / "focus.csv",
        [
            row,
            row | {"ChargeDescription": "c5.2xlarge Linux/UNIX Spot Instance-hour"},
            row | {"PricingCategory": "Dynamic"},
            row | {"ChargeDescription": "Spot datafeed", "ConsumedUnit": "GB"},
            row | {"ChargeCategory": "Gift"},
        ],
    )
    report = ingest([str(path)], tmp_path / "l.duckdb")
    assert report.rejected == {"unknown ChargeCategory Gift": 1}
    rows = ledger_rows(
        tmp_path / "l.duckdb",
        "SELECT PricingCategory, x_InstanceType, x_Flags, ContractedCost, EffectiveCost, ChargeFrequency,"
        " BillingPeriodEnd::VARCHAR FROM ledger ORDER BY x_SourceLine",
    )
    rest = (1, 1, "Usage-Based", "2024-04-01 00:00:00")
    assert rows == [
        ("Standard", "c5.2xlarge", None, *rest),
        ("Dynamic", "c5.2xlarge", "spot-corrected", *rest),
        ("Dynamic", "c5.2xlarge", None, *rest),
        ("Standard", None, None, *rest),
    ]


@pytest.mark.parametrize("dialect", ["trino", "bigquery", "pyspark"])
@pytest.mark.parametrize("source_format", ["aws-cur", "gcp", "azure", "focus"])
def test_the_expressions_compile_for_every_engine(
    dialect: str, source_format: Format, spark_options: Callable[[], None]
) -> None:
    spark_options()
    lines = ibis.table(raw_schema(source_format, credits=True), name="c") if source_format == "gcp" else None
    normalised = normalise(ibis.table(raw_schema(source_format), name="raw"), lines, source_format)
    priced = on_demand_equivalents(normalised.accepted)
    for table in (priced, normalised.rejected, *normalised.derived):
        assert "SELECT" in str(ibis.to_sql(table, dialect=dialect))
