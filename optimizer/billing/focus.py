"""The 57 columns of FOCUS 1.2 and the columns Spotwise adds to them.

The names, feature levels and allowed values are facts of the FinOps Open Cost and Usage Specification 1.2.
Everything in a ledger is one of these columns; columns of our own carry the prefix `x_`, as FOCUS asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["String", "Decimal", "Date/Time", "JSON"]
Level = Literal["Mandatory", "Conditional", "Recommended"]

MONEY = "decimal(38, 15)"
"""Ibis type of every amount, price and quantity: exact sums, and the 15 places that exports carry."""

IBIS_TYPES: dict[Kind, str] = {
    "String": "string",
    "Decimal": MONEY,
    "Date/Time": "timestamp",
    "JSON": "string",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One FOCUS column.

    Attributes:
        name: Its name in the specification.
        kind: Its FOCUS data type. Times are naive UTC; JSON is text.
        level: Feature level.
        nullable: Whether the specification allows null at all.
        allowed: The closed list of values, or empty.
    """

    name: str
    kind: Kind
    level: Level
    nullable: bool
    allowed: tuple[str, ...] = ()

    @property
    def ibis_type(self) -> str:
        """The type of the column in a ledger, in Ibis' notation."""
        return IBIS_TYPES[self.kind]


CHARGE_CATEGORIES = ("Usage", "Purchase", "Tax", "Credit", "Adjustment")
CHARGE_FREQUENCIES = ("One-Time", "Recurring", "Usage-Based")
PRICING_CATEGORIES = ("Standard", "Dynamic", "Committed", "Other")
SERVICE_CATEGORIES = (
    "AI and Machine Learning",
    "Analytics",
    "Business Applications",
    "Compute",
    "Databases",
    "Developer Tools",
    "Multicloud",
    "Identity",
    "Integration",
    "Internet of Things",
    "Management and Governance",
    "Media",
    "Migration",
    "Mobile",
    "Networking",
    "Security",
    "Storage",
    "Web",
    "Other",
)
USED_UNUSED = ("Used", "Unused")

# fmt: off
COLUMNS: tuple[Column, ...] = (
    Column("AvailabilityZone", "String", "Recommended", True),
    Column("BilledCost", "Decimal", "Mandatory", False),
    Column("BillingAccountId", "String", "Mandatory", False),
    Column("BillingAccountName", "String", "Mandatory", True),
    Column("BillingAccountType", "String", "Conditional", False),
    Column("BillingCurrency", "String", "Mandatory", False),
    Column("BillingPeriodEnd", "Date/Time", "Mandatory", False),
    Column("BillingPeriodStart", "Date/Time", "Mandatory", False),
    Column("CapacityReservationId", "String", "Conditional", True),
    Column("CapacityReservationStatus", "String", "Conditional", True, USED_UNUSED),
    Column("ChargeCategory", "String", "Mandatory", False, CHARGE_CATEGORIES),
    Column("ChargeClass", "String", "Mandatory", True, ("Correction",)),
    Column("ChargeDescription", "String", "Mandatory", True),
    Column("ChargeFrequency", "String", "Recommended", False, CHARGE_FREQUENCIES),
    Column("ChargePeriodEnd", "Date/Time", "Mandatory", False),
    Column("ChargePeriodStart", "Date/Time", "Mandatory", False),
    Column("CommitmentDiscountCategory", "String", "Conditional", True, ("Spend", "Usage")),
    Column("CommitmentDiscountId", "String", "Conditional", True),
    Column("CommitmentDiscountName", "String", "Conditional", True),
    Column("CommitmentDiscountQuantity", "Decimal", "Conditional", True),
    Column("CommitmentDiscountStatus", "String", "Conditional", True, USED_UNUSED),
    Column("CommitmentDiscountType", "String", "Conditional", True),
    Column("CommitmentDiscountUnit", "String", "Conditional", True),
    Column("ConsumedQuantity", "Decimal", "Conditional", True),
    Column("ConsumedUnit", "String", "Conditional", True),
    Column("ContractedCost", "Decimal", "Mandatory", False),
    Column("ContractedUnitPrice", "Decimal", "Conditional", True),
    Column("EffectiveCost", "Decimal", "Mandatory", False),
    Column("InvoiceId", "String", "Recommended", True),
    Column("InvoiceIssuerName", "String", "Mandatory", False),
    Column("ListCost", "Decimal", "Mandatory", False),
    Column("ListUnitPrice", "Decimal", "Conditional", True),
    Column("PricingCategory", "String", "Conditional", True, PRICING_CATEGORIES),
    Column("PricingCurrency", "String", "Conditional", True),
    Column("PricingCurrencyContractedUnitPrice", "Decimal", "Conditional", True),
    Column("PricingCurrencyEffectiveCost", "Decimal", "Conditional", True),
    Column("PricingCurrencyListUnitPrice", "Decimal", "Conditional", True),
    Column("PricingQuantity", "Decimal", "Mandatory", True),
    Column("PricingUnit", "String", "Mandatory", True),
    Column("ProviderName", "String", "Mandatory", False),
    Column("PublisherName", "String", "Mandatory", False),
    Column("RegionId", "String", "Conditional", True),
    Column("RegionName", "String", "Conditional", True),
    Column("ResourceId", "String", "Conditional", True),
    Column("ResourceName", "String", "Conditional", True),
    Column("ResourceType", "String", "Conditional", True),
    Column("ServiceCategory", "String", "Mandatory", False, SERVICE_CATEGORIES),
    Column("ServiceName", "String", "Mandatory", False),
    Column("ServiceSubcategory", "String", "Recommended", False),
    Column("SkuId", "String", "Conditional", True),
    Column("SkuMeter", "String", "Conditional", True),
    Column("SkuPriceDetails", "JSON", "Conditional", True),
    Column("SkuPriceId", "String", "Conditional", True),
    Column("SubAccountId", "String", "Conditional", True),
    Column("SubAccountName", "String", "Conditional", True),
    Column("SubAccountType", "String", "Conditional", True),
    Column("Tags", "JSON", "Conditional", True),
)
# fmt: on

EXTRA_COLUMNS: dict[str, str] = {
    "x_OnDemandEquivalentCost": MONEY,
    "x_InstanceType": "string",
    "x_InstanceHours": MONEY,
    "x_Flags": "string",
    "x_SourceFormat": "string",
    "x_SourceFile": "string",
    "x_SourceLine": "int64",
    "x_IngestId": "int64",
}
"""Spotwise's own columns, with their Ibis types.

- `x_OnDemandEquivalentCost`: what the same usage costs on demand at list price; null where that is unknown.
- `x_InstanceType`, `x_InstanceHours`: set on the one row that stands for a compute instance's running time.
- `x_Flags`: comma-separated remarks (`tags-not-json`, `negative-usage`, `long-row`, `daily`,
  `effective-cost-unknown`, `currency-mixed`), or null.
- `x_SourceFormat`, `x_SourceFile`, `x_SourceLine`: where the row came from; line 1 is the first of the file.
- `x_IngestId`: the `ingests` row that wrote it.
"""

NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
LEDGER_SCHEMA: dict[str, str] = {column.name: column.ibis_type for column in COLUMNS} | EXTRA_COLUMNS
"""Every column of the `ledger` table in order, with its Ibis type."""
