"""What one line of an AWS report is in FOCUS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis

from optimizer.billing.normalise import services
from optimizer.billing.normalise.row import (
    joined_flags,
    money,
    product,
    quotient,
    sku_details,
    span_hours,
    when,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

COVERED = ("SavingsPlanCoveredUsage", "DiscountedUsage")
USAGE = ("Usage", *COVERED)
RECURRING_FEES = ("RIFee", "SavingsPlanRecurringFee")
PURCHASES = ("Fee", "RIFee", "SavingsPlanRecurringFee", "SavingsPlanUpfrontFee", "FlatRateSubscription")
DISCOUNTS = (
    "BundledDiscount",
    "Discount",
    "DistributorDiscount",
    "EdpDiscount",
    "PrivateRateDiscount",
    "RiVolumeDiscount",
    "SppDiscount",
)
NEGATION = "SavingsPlanNegation"
KNOWN = (*USAGE, *PURCHASES, "Tax", "Credit", "Refund", NEGATION, *DISCOUNTS)
"""Every line item type that has a place in FOCUS; others are rejected and counted."""

_INSTANCE_METER = r"(^|-)(BoxUsage|SpotUsage|DedicatedUsage|HostBoxUsage)(:|$)"
_UNITS = (
    ("Hrs", "Hours"),
    ("Hr", "Hours"),
    ("hours", "Hours"),
    ("Request", "Requests"),
)


def line_cost(raw: ir.Table) -> ir.DecimalValue:
    """Return what the line costs, after discounts where the report has them."""
    return ibis.coalesce(raw.line_item_net_unblended_cost, raw.line_item_unblended_cost)


@dataclass(frozen=True)
class _Line:
    """A line of the report, and what kind of charge it is.

    Attributes:
        raw: The line.
        kind: Its line item type.
        usage: Usage, committed or not.
        covered: Usage under a commitment.
        priced: Usage or purchase.
        on_commitment: It names the commitment that it uses or pays for.
        spot: Usage of spot capacity.
        instance: Running time of an instance.
    """

    raw: ir.Table
    kind: ir.StringValue
    usage: ir.BooleanValue
    covered: ir.BooleanValue
    priced: ir.BooleanValue
    on_commitment: ir.BooleanValue
    spot: ir.BooleanValue
    instance: ir.BooleanValue

    @classmethod
    def of(cls, raw: ir.Table) -> _Line:
        kind = raw.line_item_line_item_type
        usage = kind.isin(USAGE)
        covered = kind.isin(COVERED)
        reservation = raw.reservation_reservation_a_r_n
        paid = covered | kind.isin(RECURRING_FEES) | ((kind == "Fee") & reservation.notnull())
        return cls(
            raw=raw,
            kind=kind,
            usage=usage,
            covered=covered,
            priced=usage | kind.isin(PURCHASES),
            on_commitment=paid | (kind == "SavingsPlanUpfrontFee"),
            spot=usage & raw.line_item_usage_type.contains("SpotUsage"),
            instance=usage
            & raw.line_item_usage_type.re_search(_INSTANCE_METER)
            & (raw.line_item_product_code == "AmazonEC2"),
        )


def line_values(raw: ir.Table) -> dict[str, Any]:
    """Return the columns of the ledger row of a line, without its format."""
    line = _Line.of(raw)
    listed = _list_cost(raw, line_cost(raw), line.usage)
    values = line_identity(raw, raw.line_item_currency_code, line.kind)
    values |= _costs(line, listed)
    values |= _quantities(line)
    values |= _under_commitment(line, values["EffectiveCost"])
    values |= _place(raw)
    values |= _instance(line, listed)
    values |= {
        "PricingCategory": ibis.cases(
            (line.covered, "Committed"),
            (line.spot, "Dynamic"),
            (line.priced, "Standard"),
            else_=ibis.null("string"),
        ),
        "Tags": raw.resource_tags,
        "x_Flags": joined_flags(
            (raw.resource_tags_broken, "tags-not-json"),
            (line.usage & (raw.line_item_usage_amount < money(0)), "negative-usage"),
            (
                line.usage
                & (span_hours(raw.line_item_usage_start_date, raw.line_item_usage_end_date) > 1.01),
                "long-row",
            ),
        ),
    }
    return values | _in_pricing_currency(raw, values)


def _costs(line: _Line, listed: ir.DecimalValue) -> dict[str, Any]:
    raw, cost, amount = line.raw, line_cost(line.raw), line.raw.line_item_usage_amount
    contracted = ibis.cases(
        (line.kind == "DiscountedUsage", listed),
        (line.usage, ibis.coalesce(raw.line_item_unblended_cost, listed)),
        else_=cost,
    )
    return {
        "BilledCost": ibis.cases((line.covered, money(0)), else_=cost),
        "EffectiveCost": _effective(raw, cost),
        "ListCost": listed,
        "ContractedCost": contracted,
        "ListUnitPrice": when(line.priced, quotient(listed, amount)),
        "ContractedUnitPrice": when(line.priced, quotient(contracted, amount)),
    }


def _quantities(line: _Line) -> dict[str, Any]:
    raw, amount = line.raw, line.raw.line_item_usage_amount
    unit = ibis.coalesce(raw.pricing_unit.cases(*_UNITS, else_=raw.pricing_unit), "Units")
    # FOCUS writes the time of a compound unit in full: GB-Mo, Obj-Month → GB-Months, Obj-Months.
    unit = unit.re_replace(r"-(Mo|Month|month)$", "-Months").re_replace(r"-([Hh]rs?|[Hh]ours?)$", "-Hours")
    return {
        "PricingQuantity": when(line.priced, amount),
        "PricingUnit": when(line.priced & amount.notnull(), unit),
        "ConsumedQuantity": when(line.usage, amount),
        "ConsumedUnit": when(line.usage & amount.notnull(), unit),
    }


def _under_commitment(line: _Line, effective: ir.DecimalValue) -> dict[str, Any]:
    raw, cost, amount = line.raw, line_cost(line.raw), line.raw.line_item_usage_amount
    plan, reservation = raw.savings_plan_savings_plan_a_r_n, raw.reservation_reservation_a_r_n
    return {
        "CommitmentDiscountId": when(line.on_commitment, ibis.coalesce(plan, reservation)),
        "CommitmentDiscountStatus": when(line.covered, "Used"),
        "CommitmentDiscountQuantity": ibis.cases(
            (line.covered & plan.notnull(), effective),
            (line.covered, amount),
            (line.on_commitment & plan.notnull(), cost),
            (line.on_commitment, amount),
            else_=None,
        ),
        "CommitmentDiscountUnit": _commitment_unit(
            line.on_commitment, plan, reservation, raw.line_item_currency_code
        ),
    }


def _place(raw: ir.Table) -> dict[str, Any]:
    """Return where it was, on what resource, of which service."""
    region = ibis.coalesce(
        raw.product_region_code,
        raw.product_region,
        raw.line_item_availability_zone.re_replace("[a-z]$", ""),
    )
    category = services.category("aws", raw.line_item_product_code)
    resource = raw.line_item_resource_id
    return {
        "AvailabilityZone": raw.line_item_availability_zone,
        "RegionId": region,
        "RegionName": when(region.notnull(), ibis.coalesce(raw.product_location, region)),
        "ResourceId": resource,
        "ResourceType": when(resource.notnull(), _resource_type(resource, raw.product_product_family)),
        "ServiceCategory": category,
        "ServiceName": ibis.coalesce(raw.product_product_name, services.aws_name(raw.line_item_product_code)),
        "ServiceSubcategory": services.subcategory("aws", raw.line_item_product_code, category),
    }


def _instance(line: _Line, listed: ir.DecimalValue) -> dict[str, Any]:
    """Return what was metered, and of which type it is where that is an instance."""
    raw = line.raw
    # Spot lines come without a SKU in many reports; what is metered names the SKU then.
    sku = ibis.coalesce(raw.product_sku, raw.line_item_usage_type)
    instance_type = when(
        line.instance,
        ibis.coalesce(
            raw.line_item_usage_type.re_extract(r":([a-z0-9-]+\.[a-z0-9-]+)", 1).nullif(""),
            raw.product_instance_type,
        ),
    )
    return {
        "SkuId": when(line.priced, sku),
        "SkuMeter": when(line.priced, raw.line_item_usage_type),
        "SkuPriceId": when(line.priced, ibis.coalesce(raw.pricing_rate_code, sku)),
        "SkuPriceDetails": sku_details(instance_type, raw.product_vcpu, raw.product_operating_system),
        "x_InstanceType": instance_type,
        "x_InstanceHours": when(line.instance, raw.line_item_usage_amount),
        "x_OnDemandEquivalentCost": _on_demand(raw, line.instance, line.spot, listed),
    }


def line_identity(raw: ir.Table, currency: ir.StringValue, kind: ir.StringValue) -> dict[str, Any]:
    """Return who is billed, by whom, when, for which kind of charge."""
    period = raw.bill_billing_period_start_date
    issuer = ibis.coalesce(raw.bill_invoicing_entity, "Amazon Web Services, Inc.")
    plan, reservation = raw.savings_plan_savings_plan_a_r_n, raw.reservation_reservation_a_r_n
    committed = kind.isin((*COVERED, *RECURRING_FEES, "SavingsPlanUpfrontFee"))
    is_plan = committed & plan.notnull()
    is_reservation = (committed | (kind == "Fee")) & plan.isnull() & reservation.notnull()
    return {
        "BillingAccountId": raw.bill_payer_account_id,
        "BillingAccountName": ibis.coalesce(raw.bill_payer_account_name, raw.bill_payer_account_id),
        "BillingAccountType": "Payer Account",
        "BillingCurrency": currency,
        "BillingPeriodStart": period,
        "BillingPeriodEnd": ibis.coalesce(raw.bill_billing_period_end_date, period + ibis.interval(months=1)),
        "ChargeCategory": ibis.cases(
            (kind.isin(USAGE), "Usage"),
            (kind.isin(PURCHASES), "Purchase"),
            (kind == "Tax", "Tax"),
            (kind == "Refund", "Adjustment"),
            else_="Credit",
        ),
        "ChargeClass": when(kind == "Refund", "Correction"),
        "ChargeDescription": raw.line_item_line_item_description,
        "ChargeFrequency": ibis.cases(
            (kind.isin(USAGE), "Usage-Based"), (kind.isin(RECURRING_FEES), "Recurring"), else_="One-Time"
        ),
        "ChargePeriodStart": raw.line_item_usage_start_date,
        "ChargePeriodEnd": raw.line_item_usage_end_date,
        "CommitmentDiscountCategory": ibis.cases((is_plan, "Spend"), (is_reservation, "Usage"), else_=None),
        "CommitmentDiscountType": ibis.cases(
            (is_plan, ibis.coalesce(raw.savings_plan_offering_type, "Savings Plan")),
            (is_reservation, ibis.literal("Reserved Instance")),
            else_=None,
        ),
        "InvoiceId": raw.bill_invoice_id,
        "InvoiceIssuerName": issuer,
        "ProviderName": "AWS",
        "PublisherName": ibis.coalesce(raw.line_item_legal_entity, issuer),
        "SubAccountId": raw.line_item_usage_account_id,
        "SubAccountName": ibis.coalesce(raw.line_item_usage_account_name, raw.line_item_usage_account_id),
        "SubAccountType": when(raw.line_item_usage_account_id.notnull(), "Member Account"),
        "x_SourceFile": raw.source_file,
        "x_SourceLine": raw.source_line,
    }


def _in_pricing_currency(raw: ir.Table, values: dict[str, Any]) -> dict[str, Any]:
    pricing = ibis.coalesce(raw.pricing_currency, raw.line_item_currency_code)
    same = pricing == raw.line_item_currency_code
    return {
        "PricingCurrency": pricing,
        "PricingCurrencyContractedUnitPrice": when(same, values["ContractedUnitPrice"]),
        "PricingCurrencyEffectiveCost": when(same, values["EffectiveCost"]),
        "PricingCurrencyListUnitPrice": when(same, values["ListUnitPrice"]),
    }


def _list_cost(raw: ir.Table, cost: ir.DecimalValue, usage: ir.BooleanValue) -> ir.DecimalValue:
    """Return the public on-demand cost; a zero beside a real charge means that there is no public price."""
    at_rate = product(raw.pricing_public_on_demand_rate, raw.line_item_usage_amount)
    public = ibis.coalesce(raw.pricing_public_on_demand_cost, at_rate)
    known = usage & public.notnull() & ((public != money(0)) | (raw.line_item_unblended_cost == money(0)))
    return ibis.cases((known, public), (usage, raw.line_item_unblended_cost), else_=cost)


def _on_demand(
    raw: ir.Table, instance: ir.BooleanValue, spot: ir.BooleanValue, listed: ir.DecimalValue
) -> ir.DecimalValue:
    """Return what the usage costs on demand; null for spot without a public price."""
    public = ibis.coalesce(
        raw.pricing_public_on_demand_cost.nullif(money(0)),
        product(raw.pricing_public_on_demand_rate.nullif(money(0)), raw.line_item_usage_amount),
    )
    # Spot rows of some reports repeat the spot price as the public one: no saving at all is not a price.
    told = public > raw.line_item_unblended_cost
    return ibis.cases((spot & told, public), (instance & ~spot, listed), else_=None)


def _effective(raw: ir.Table, cost: ir.DecimalValue) -> ir.DecimalValue:
    kind = raw.line_item_line_item_type
    upfront = (kind == "SavingsPlanUpfrontFee") | (
        (kind == "Fee") & raw.reservation_reservation_a_r_n.notnull()
    )
    return ibis.cases(
        (
            kind == "SavingsPlanCoveredUsage",
            ibis.coalesce(
                raw.savings_plan_net_savings_plan_effective_cost,
                raw.savings_plan_savings_plan_effective_cost,
                money(0),
            ),
        ),
        (
            kind == "DiscountedUsage",
            ibis.coalesce(raw.reservation_net_effective_cost, raw.reservation_effective_cost, money(0)),
        ),
        (kind.isin(RECURRING_FEES) | upfront, money(0)),
        else_=cost,
    )


def _commitment_unit(
    on_commitment: ir.BooleanValue,
    plan: ir.StringValue,
    reservation: ir.StringValue,
    currency: ir.StringValue,
) -> ir.StringValue:
    return ibis.cases(
        (on_commitment & plan.notnull(), currency),
        (on_commitment & reservation.notnull(), ibis.literal("Hours")),
        else_=None,
    )


def _resource_type(resource: ir.StringValue, family: ir.StringValue) -> ir.StringValue:
    return ibis.cases(
        (resource.startswith("i-"), ibis.literal("instance")),
        (resource.startswith("vol-"), ibis.literal("volume")),
        (resource.startswith("nat-"), ibis.literal("natgateway")),
        (resource.re_search(r"^arn:aws[a-z-]*:s3:::"), ibis.literal("bucket")),
        (
            resource.startswith("arn:"),
            resource.re_extract(r"^arn:[^:]*:[^:]*:[^:]*:[^:]*:([A-Za-z0-9-]+)", 1),
        ),
        else_=ibis.coalesce(family, "Resource"),
    )
