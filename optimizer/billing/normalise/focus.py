"""FOCUS exports of any provider: read as they are, and completed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis

from optimizer.billing.bills import account_id, provider_name
from optimizer.billing.focus import CHARGE_CATEGORIES, NAMES
from optimizer.billing.normalise import services
from optimizer.billing.normalise.row import (
    Normalised,
    assemble,
    first_reason,
    joined_flags,
    money,
    quotient,
    sku_details,
    span_hours,
    when,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

_TIME_UNITS = r"(?i)^(1 )?(hours?|hrs?|instance-hours?|h)$"
_INSTANCE_METER = r"(?i)(BoxUsage|SpotUsage|DedicatedUsage|Instance Core|Instance-hour|Instance Hour)"
_SPOT_METER = r"(?i)\b(spot|spotusage|preemptible|SpotUsage:.*)\b"
_TYPE_IN_TEXT = r"\b([a-z][a-z0-9-]*\.(?:nano|micro|small|medium|large|[0-9]*xlarge|metal(?:-[0-9a-z]+)?))\b"


def normalise_focus(raw: ir.Table) -> Normalised:
    """Return the rows of a FOCUS export with what later versions ask for and our own columns filled in.

    What is there is kept, but provider and billing account get the spelling that native exports have, so that
    both exports of a bill are one bill. Costs that are null become the next best cost of the row; the case of
    ChargeFrequency is repaired; instance usage whose meter or description says spot is `Dynamic` even where
    the exporter says `Standard`, flagged `spot-corrected`.
    """
    rows = assemble(
        raw,
        _values(raw),
        reject_reason=_reasons(raw),
        dropped=ibis.literal(False),
        source_cost=raw.BilledCost,
    )
    return Normalised(rows)


def _reasons(raw: ir.Table) -> ir.StringValue:
    empty = (
        "BilledCost",
        "BillingAccountId",
        "BillingCurrency",
        "BillingPeriodStart",
        "ChargeCategory",
        "ChargePeriodStart",
        "ChargePeriodEnd",
    )
    return first_reason(
        (raw.parse_error.notnull(), raw.parse_error),
        *((raw[name].isnull(), f"{name} is empty") for name in empty),
        (
            ~raw.ChargeCategory.isin(CHARGE_CATEGORIES),
            ibis.literal("unknown ChargeCategory ") + raw.ChargeCategory,
        ),
        (raw.ChargePeriodEnd < raw.ChargePeriodStart, ibis.literal("the charge ends before it begins")),
    )


@dataclass(frozen=True)
class _Machine:
    """Whether a row is running time of an instance, and of which type.

    Attributes:
        instance: It is.
        type: Its type, where it is named at all.
        spot: It is spot capacity, whatever the exporter says.
        says_spot: It is an instance whose meter or description says so.
    """

    instance: ir.BooleanValue
    type: ir.StringValue
    spot: ir.BooleanValue
    says_spot: ir.BooleanValue

    @classmethod
    def of(cls, raw: ir.Table) -> _Machine:
        text = ibis.coalesce(raw.SkuMeter, "") + " " + ibis.coalesce(raw.ChargeDescription, "")
        unused = ibis.coalesce(raw.CommitmentDiscountStatus == "Unused", ibis.literal(False))
        told_type = raw.SkuPriceDetails.re_extract(
            r'"(?:x_)?(?:[Ii]nstanceType|ServiceType)"\s*:\s*"([^"]+)"', 1
        ).nullif("")
        found_type = ibis.coalesce(
            told_type,
            raw.SkuMeter.re_extract(r":([a-z0-9-]+\.[a-z0-9-]+)", 1).nullif(""),
            raw.ChargeDescription.re_extract(_TYPE_IN_TEXT, 1).nullif(""),
        )
        is_machine = (
            text.re_search(_INSTANCE_METER)
            | ibis.coalesce(raw.ServiceSubcategory == services.VIRTUAL_MACHINES, ibis.literal(False))
            | ibis.coalesce(
                raw.ResourceType.lower().isin(("virtual machine", "microsoft.compute/virtualmachines")),
                ibis.literal(False),
            )
        )
        instance = (
            (raw.ChargeCategory == "Usage")
            & ~unused
            & is_machine
            & found_type.notnull()
            & ibis.coalesce(raw.ConsumedUnit, raw.PricingUnit).re_search(_TIME_UNITS)
            & (ibis.coalesce(raw.ServiceCategory, "Compute") == "Compute")
        )
        instance = ibis.coalesce(instance, ibis.literal(False))
        says_spot = instance & text.re_search(_SPOT_METER)
        return cls(instance, found_type, (raw.PricingCategory == "Dynamic") | says_spot, says_spot)


def _values(raw: ir.Table) -> dict[str, Any]:
    usage = raw.ChargeCategory == "Usage"
    machine = _Machine.of(raw)
    category = ibis.coalesce(raw.ServiceCategory, "Other")
    costs = _costs(raw)
    values: dict[str, Any] = {name: raw[name] for name in NAMES}
    return (
        values
        | costs
        | _identity(raw)
        | _instance(raw, machine, costs["ListCost"])
        | {
            "ChargeFrequency": ibis.coalesce(raw.ChargeFrequency, "Usage-Based")
            .lower()
            .cases(("one-time", "One-Time"), ("recurring", "Recurring"), else_="Usage-Based"),
            "PricingCategory": ibis.cases(
                (machine.spot & usage, ibis.literal("Dynamic")),
                (
                    raw.PricingCategory.isnull() & usage & raw.CommitmentDiscountId.notnull(),
                    ibis.literal("Committed"),
                ),
                (
                    raw.PricingCategory.isnull() & raw.ChargeCategory.isin(("Usage", "Purchase")),
                    ibis.literal("Standard"),
                ),
                else_=raw.PricingCategory,
            ),
            "ServiceCategory": category,
            "ServiceName": ibis.coalesce(raw.ServiceName, "Unknown"),
            "ServiceSubcategory": ibis.coalesce(
                raw.ServiceSubcategory, services.subcategory("focus", raw.ServiceName, category)
            ),
            "x_Flags": joined_flags(
                (raw.Tags_broken, "tags-not-json"),
                (usage & (raw.ConsumedQuantity < money(0)), "negative-usage"),
                (usage & (span_hours(raw.ChargePeriodStart, raw.ChargePeriodEnd) > 1.01), "long-row"),
                (machine.says_spot & (raw.PricingCategory == "Standard"), "spot-corrected"),
            ),
            "x_SourceFormat": "focus",
            "x_SourceFile": raw.source_file,
            "x_SourceLine": raw.source_line,
        }
    )


def _costs(raw: ir.Table) -> dict[str, Any]:
    effective = ibis.coalesce(raw.EffectiveCost, raw.BilledCost)
    contracted = ibis.coalesce(raw.ContractedCost, raw.ListCost, effective)
    pricing_currency = ibis.coalesce(raw.PricingCurrency, raw.BillingCurrency)
    return {
        "EffectiveCost": effective,
        "ContractedCost": contracted,
        "ListCost": ibis.coalesce(raw.ListCost, contracted),
        "ListUnitPrice": ibis.coalesce(raw.ListUnitPrice, quotient(raw.ListCost, raw.PricingQuantity)),
        "ContractedUnitPrice": ibis.coalesce(
            raw.ContractedUnitPrice, quotient(contracted, raw.PricingQuantity)
        ),
        "PricingCurrency": pricing_currency,
        "PricingCurrencyEffectiveCost": ibis.coalesce(
            raw.PricingCurrencyEffectiveCost, when(pricing_currency == raw.BillingCurrency, effective)
        ),
    }


def _identity(raw: ir.Table) -> dict[str, Any]:
    """Return who bills whom, under the names that native exports have."""
    provider = provider_name(
        ibis.coalesce(raw.ProviderName, raw.PublisherName, raw.InvoiceIssuerName, "Unknown")
    )
    account = account_id(raw.BillingAccountId)
    # Some exports name the account of a customer agreement and the profile, which is billed, beside it.
    profile = when(account.contains(":"), account_id(raw.x_BillingProfileId))
    account = ibis.coalesce(profile, account)
    return {
        "BillingAccountId": account,
        "BillingAccountName": ibis.coalesce(raw.BillingAccountName, account),
        "BillingAccountType": ibis.coalesce(raw.BillingAccountType, "Billing Account"),
        "BillingPeriodEnd": ibis.coalesce(
            raw.BillingPeriodEnd, raw.BillingPeriodStart + ibis.interval(months=1)
        ),
        "InvoiceIssuerName": ibis.coalesce(raw.InvoiceIssuerName, provider),
        "ProviderName": provider,
        "PublisherName": ibis.coalesce(raw.PublisherName, provider),
        "SubAccountName": ibis.coalesce(raw.SubAccountName, raw.SubAccountId),
        "SubAccountType": ibis.coalesce(raw.SubAccountType, when(raw.SubAccountId.notnull(), "Sub Account")),
    }


def _instance(raw: ir.Table, machine: _Machine, listed: ir.DecimalValue) -> dict[str, Any]:
    details = when(machine.instance & raw.SkuPriceId.notnull(), sku_details(machine.type))
    return {
        "SkuPriceDetails": ibis.coalesce(raw.SkuPriceDetails, details),
        "x_InstanceType": when(machine.instance, machine.type),
        "x_InstanceHours": when(machine.instance, ibis.coalesce(raw.ConsumedQuantity, raw.PricingQuantity)),
        "x_OnDemandEquivalentCost": ibis.coalesce(
            raw.x_OnDemandEquivalentCost, when(machine.instance & ~machine.spot, listed)
        ),
    }
