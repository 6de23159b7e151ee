"""The checks find every planted error, and nothing on correct ledgers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ibis
import pytest

from optimizer.billing.checks import check_ledger
from optimizer.billing.checks.rules import rules
from optimizer.billing.focus import LEDGER_SCHEMA
from optimizer.billing.ingest import ingest
from optimizer.billing.ledger import Ledger
from optimizer.billing.sample import demo_scenario, write_azure, write_cur, write_gcp

ONE = "(SELECT rowid FROM ledger WHERE {where} ORDER BY hash(rowid) LIMIT 1)"


def update(change: str, where: str) -> str:
    """Return SQL that changes one row."""
    return f"UPDATE ledger SET {change} WHERE rowid = " + ONE.format(where=where)


def copy(where: str, change: str = "*") -> str:
    """Return SQL that doubles one row."""
    return f"INSERT INTO ledger BY NAME SELECT {change} FROM ledger WHERE rowid = " + ONE.format(where=where)


MACHINE = "x_InstanceHours > 0"
AWS_SPOT = f"{MACHINE} AND PricingCategory = 'Dynamic' AND ProviderName = 'AWS'"
USED = "CommitmentDiscountStatus = 'Used' AND ProviderName = 'AWS'"
UNUSED = "CommitmentDiscountStatus = 'Unused' AND ProviderName = 'AWS'"
FEE = "ChargeCategory = 'Purchase' AND ProviderName = 'AWS'"
ON_DEMAND = f"{MACHINE} AND PricingCategory = 'Standard' AND ProviderName = 'AWS'"

MUTANTS: dict[str, tuple[str, str]] = {
    # The seven of focus_mapping.md, of which the official validator catches one.
    "unknown PricingCategory": (update("PricingCategory = 'Cheap'", MACHINE), "PricingCategory-allowed"),
    "ListCost x 3": (update("ListCost = ListCost * 3", ON_DEMAND), "list-cost"),
    "EffectiveCost x 10": (update("EffectiveCost = EffectiveCost * 10", USED), "effective-committed"),
    "EffectiveCost x 10 on demand": (
        update("EffectiveCost = EffectiveCost * 10", ON_DEMAND),
        "effective-usage",
    ),
    "a duplicated row": (copy(ON_DEMAND), "duplicate-line"),
    "spot as Standard": (update("PricingCategory = 'Standard'", AWS_SPOT), "spot-is-dynamic"),
    "spot as Standard on Google": (
        update(
            "PricingCategory = 'Standard'", "PricingCategory = 'Dynamic' AND ProviderName = 'Google Cloud'"
        ),
        "spot-is-dynamic",
    ),
    "spot as Standard on Azure": (
        update("PricingCategory = 'Standard'", "PricingCategory = 'Dynamic' AND ProviderName = 'Microsoft'"),
        "spot-is-dynamic",
    ),
    "a null zone": (update("AvailabilityZone = NULL", ON_DEMAND), "instance-zone"),
    "null SKU details": (update("SkuPriceDetails = NULL", MACHINE), "instance-details"),
    "a dropped CommitmentDiscountId": (update("CommitmentDiscountId = NULL", USED), "commitment-named"),
    # Values.
    "unknown ChargeCategory": (
        update("ChargeCategory = 'Gift'", "ChargeCategory = 'Credit'"),
        "ChargeCategory-allowed",
    ),
    "unknown ServiceCategory": (update("ServiceCategory = 'Computing'", MACHINE), "ServiceCategory-allowed"),
    "wrong case of ChargeFrequency": (
        update("ChargeFrequency = 'Usage-based'", MACHINE),
        "ChargeFrequency-allowed",
    ),
    "no currency": (update("BillingCurrency = NULL", MACHINE), "BillingCurrency-present"),
    "currency in small letters": (update("BillingCurrency = 'usd'", MACHINE), "BillingCurrency-code"),
    "tags that are no JSON": (update("Tags = '{app: web}'", MACHINE), "Tags-json"),
    "details that are no JSON": (update("SkuPriceDetails = 'm5.large'", MACHINE), "SkuPriceDetails-json"),
    # Required by condition.
    "tax with a PricingCategory": (
        update("PricingCategory = 'Standard'", "ChargeCategory = 'Tax'"),
        "pricing-category-tax",
    ),
    "no PricingCategory": (update("PricingCategory = NULL", ON_DEMAND), "pricing-category-present"),
    "a quantity without unit": (update("ConsumedUnit = NULL", MACHINE), "consumed-unit"),
    "no quantity": (
        update("ConsumedQuantity = NULL, ConsumedUnit = NULL", MACHINE),
        "consumed-quantity-present",
    ),
    "status dropped": (update("CommitmentDiscountStatus = NULL", USED), "commitment-status"),
    "used as unused": (update("CommitmentDiscountStatus = 'Unused'", USED), "instance-usage"),
    "committed as standard": (update("PricingCategory = 'Standard'", USED), "commitment-committed"),
    "a resource without type": (update("ResourceType = NULL", MACHINE), "resource-type-present"),
    "no region": (update("RegionId = NULL, RegionName = NULL", ON_DEMAND), "instance-region"),
    # Costs.
    "PricingQuantity x 2": (update("PricingQuantity = PricingQuantity * 2", ON_DEMAND), "list-cost"),
    "ContractedCost + 1": (update("ContractedCost = ContractedCost + 1", ON_DEMAND), "contracted-cost"),
    "covered usage billed": (update("BilledCost = ListCost", USED), "billed-committed"),
    "a fee amortised twice": (update("EffectiveCost = BilledCost", FEE), "effective-purchase"),
    "unused without cost": (update("EffectiveCost = 0", UNUSED), "unused-effective"),
    "BilledCost + 1 cent": (
        update("BilledCost = BilledCost + 0.01", "ChargeCategory = 'Credit'"),
        "bill-balance",
    ),
    "a lost row": (f"DELETE FROM ledger WHERE rowid = {ONE.format(where=ON_DEMAND)}", "bill-balance"),
    "lost committed usage": (
        "DELETE FROM ledger WHERE CommitmentDiscountStatus = 'Used' AND ProviderName = 'AWS'"
        " AND hash(rowid) % 4 = 0",
        "commitment-balance",
    ),
    "spot dearer than on demand": (
        update("BilledCost = 5, EffectiveCost = 5", AWS_SPOT),
        "spot-price",
    ),
    "another pricing-currency cost": (
        update("PricingCurrencyEffectiveCost = EffectiveCost + 1", ON_DEMAND),
        "currency-effective",
    ),
    # Times.
    "time running backwards": (
        update("ChargePeriodStart = ChargePeriodEnd, ChargePeriodEnd = ChargePeriodStart", MACHINE),
        "charge-period",
    ),
    "a charge of another month": (
        update(
            "ChargePeriodStart = ChargePeriodStart - INTERVAL 2 MONTH,"
            " ChargePeriodEnd = ChargePeriodEnd - INTERVAL 2 MONTH",
            MACHINE,
        ),
        "charge-in-period",
    ),
    "a billing period of two months": (
        update("BillingPeriodEnd = BillingPeriodEnd + INTERVAL 1 MONTH", MACHINE),
        "billing-period",
    ),
    # Spot.
    "on demand as Dynamic": (update("PricingCategory = 'Dynamic'", ON_DEMAND), "dynamic-is-spot"),
    "spot under a commitment": (
        update("CommitmentDiscountId = 'x', CommitmentDiscountStatus = 'Used'", AWS_SPOT),
        "spot-uncommitted",
    ),
    # Places and machines.
    "a zone of another region": (update("AvailabilityZone = 'eu-west-1a'", ON_DEMAND), "zone-in-region"),
    "a price as zone": (
        update("AvailabilityZone = '0.02'", f"{MACHINE} AND ProviderName = 'Microsoft'"),
        "zone-name",
    ),
    "a region with blanks": (update("RegionId = 'US East (Ohio)'", MACHINE), "region-form"),
    "another type in the details": (
        update("""SkuPriceDetails = '{"InstanceType": "m5.24xlarge"}'""", MACHINE),
        "instance-type-agrees",
    ),
    "another type than the meter": (
        update("""x_InstanceType = 't3.nano', SkuPriceDetails = '{"InstanceType": "t3.nano"}'""", ON_DEMAND),
        "instance-meter-agrees",
    ),
    "three hours in one": (update("x_InstanceHours = 3", ON_DEMAND), "instance-span"),
    "an instance twice at a time": (
        copy(ON_DEMAND, "* REPLACE (x_SourceLine + 1000000 AS x_SourceLine)"),
        "instance-overlap",
    ),
    "the bill of a month twice in its file": (
        "INSERT INTO ledger BY NAME SELECT * REPLACE (x_SourceLine + 1000000 AS x_SourceLine) FROM ledger"
        " WHERE ProviderName = 'AWS'",
        "duplicate-charge",
    ),
    "the bill under another account": (
        "INSERT INTO ledger BY NAME SELECT * REPLACE ('other' AS BillingAccountId) FROM ledger"
        " WHERE ProviderName = 'AWS'",
        "billed-twice",
    ),
    "a charge from another export, of a bill that is called otherwise": (
        copy(
            "BilledCost > 0 AND ChargeCategory = 'Usage' AND ProviderName = 'Microsoft'",
            "* REPLACE ('Cloud' AS ProviderName, 'focus' AS x_SourceFormat, upper(ResourceId) AS ResourceId)",
        ),
        "billed-twice",
    ),
    "a machine without hours": (update("x_InstanceHours = NULL", ON_DEMAND), "instance-unmarked"),
    "a second export of the bill": (
        copy("ChargeCategory = 'Tax'", "* REPLACE ('focus' AS x_SourceFormat, 'other' AS x_SourceFile)"),
        "one-format",
    ),
}


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A correct ledger of all three clouds, open for writing."""
    folder = tmp_path_factory.mktemp("golden")
    write_cur(demo_scenario(days=9), folder / "export" / "aws")
    write_gcp(demo_scenario("gcp", days=3), folder / "export" / "gcp")
    write_azure(demo_scenario("azure", days=9), folder / "export" / "azure")
    ingest([str(folder / "export")], folder / "l.duckdb")
    with Ledger.open(folder / "l.duckdb", write=True) as ledger:
        yield ledger


def found(ledger: Ledger) -> set[str]:
    return {finding.check for finding in check_ledger(ledger).findings}


def test_a_correct_ledger_has_no_finding(golden: Ledger) -> None:
    report = check_ledger(golden)
    assert report.findings == ()
    assert report.ok
    assert report.checks >= 80
    assert report.rows > 5000


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_killed(mutant: str, golden: Ledger) -> None:
    statement, check = MUTANTS[mutant]
    golden.connection.execute("BEGIN")
    try:
        changed = golden.rows(statement)[0][0]
        assert changed >= 1
        assert check in found(golden)
    finally:
        golden.connection.execute("ROLLBACK")


def test_many_equal_charges_are_an_error_and_a_cheap_one_a_warning(golden: Ledger) -> None:
    def severity(where: str) -> str:
        golden.connection.execute("BEGIN")
        golden.rows(
            "INSERT INTO ledger BY NAME SELECT * REPLACE ('copy' AS x_SourceFile) FROM ledger"
            f" WHERE {where} AND ProviderName = 'AWS' AND ChargeCategory = 'Usage' AND BilledCost > 0"
        )
        findings = check_ledger(golden).findings
        golden.connection.execute("ROLLBACK")
        return next(f.severity for f in findings if f.check == "duplicate-charge")

    assert severity("hash(rowid) % 2 = 0") == "error"
    cheapest = (
        "SELECT rowid FROM ledger WHERE BilledCost > 0 AND ProviderName = 'AWS' ORDER BY BilledCost LIMIT 1"
    )
    assert severity(f"rowid = ({cheapest})") == "warning"


def test_findings_have_counts_and_examples(golden: Ledger) -> None:
    golden.connection.execute("BEGIN")
    golden.rows(f"UPDATE ledger SET PricingCategory = 'Cheap' WHERE {AWS_SPOT}")
    count = golden.rows("SELECT count(*) FROM ledger WHERE PricingCategory = 'Cheap'")[0][0]
    report = check_ledger(golden, examples=2)
    golden.connection.execute("ROLLBACK")
    assert not report.ok
    finding = next(f for f in report.findings if f.check == "PricingCategory-allowed")
    assert finding.count == count > 100
    assert len(finding.examples) == 2
    assert finding.examples[0]["PricingCategory"] == "Cheap"
    assert finding.examples[0]["x_SourceLine"] > 0


def test_real_samples(shared_data: Path, tmp_path: Path) -> None:
    billing = shared_data / "billing"
    ingest(
        [str(billing / "aws_cur_legacy_sample.csv"), str(billing / "azure_ea*.csv")], tmp_path / "good.duckdb"
    )
    with Ledger.open(tmp_path / "good.duckdb") as ledger:
        assert check_ledger(ledger).findings == ()
    # The official FOCUS sample has costs rounded to whole dollars and prices in the zone column.
    ingest([str(billing / "focus_1.0_sample_1000.csv")], tmp_path / "focus.duckdb")
    with Ledger.open(tmp_path / "focus.duckdb") as ledger:
        report = check_ledger(ledger)
    counts: dict[str, int] = {f.check: f.count for f in report.findings}
    assert counts["zone-name"] == 50
    assert counts["effective-usage"] > 400
    assert not report.ok


def test_rule_names_are_unique_and_the_rules_compile_for_every_engine(
    spark_options: Callable[[], None],
) -> None:
    spark_options()
    names = [rule.name for rule in rules()]
    assert len(names) == len(set(names))
    table: Any = ibis.table(LEDGER_SCHEMA, name="ledger")
    for dialect in ("trino", "bigquery", "pyspark"):
        every = table.agg(**{rule.name.replace("-", "_"): rule.broken(table).sum() for rule in rules()})
        assert "SELECT" in str(ibis.to_sql(every, dialect=dialect))
