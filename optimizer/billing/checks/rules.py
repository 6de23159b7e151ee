"""The row rules: what must hold for a single row of a FOCUS 1.2 ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import ibis

from optimizer.billing.focus import COLUMNS, Column
from optimizer.billing.normalise.row import money

if TYPE_CHECKING:
    import ibis.expr.types as ir

Severity = Literal["error", "warning"]
Predicate = Callable[["ir.Table"], "ir.BooleanValue"]

TOLERANCE = 1e-6
"""Costs agree when they differ by less than this, absolutely and relative to the larger."""

SPOT_METER = r"(?i)(\bspot\b|spotusage|\bpreemptible\b)"
HOUR_UNITS = ("Hours", "Hour", "Hrs")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        name: Stable name, shown and used in tests.
        about: What must hold, for the reader of a finding.
        broken: Whether a row breaks it; null counts as kept.
        severity: `warning` where correct bills may break it.
    """

    name: str
    about: str
    broken: Predicate
    severity: Severity = "error"


def rules() -> tuple[Rule, ...]:
    """Return every row rule."""
    return (*_values(), *_required(), *_identities(), *_times(), *_spot(), *_places(), *_instances())


def _values() -> list[Rule]:
    found = []
    for column in COLUMNS:
        if column.allowed:
            found.append(_allowed(column))
        if column.level == "Mandatory" and not column.nullable:
            found.append(_present(column.name))
    found += [
        _matches(f"{name}-json", name, "is a JSON object", _JSON_OBJECT)
        for name in ("Tags", "SkuPriceDetails")
    ]
    for name in ("BillingCurrency", "PricingCurrency"):
        found.append(_matches(f"{name}-code", name, "is a code of three capitals", "^[A-Z]{3}$"))
    return found


_PAIR = r'"([^"\\]|\\.)*"\s*:\s*("([^"\\]|\\.)*"|-?[0-9.eE+-]+|true|false|null|\{.*\}|\[.*\])'
_JSON_OBJECT = rf"(?s)^\s*\{{\s*({_PAIR}\s*(,\s*{_PAIR}\s*)*)?\}}\s*$"


def _allowed(column: Column) -> Rule:
    def broken(t: ir.Table) -> ir.BooleanValue:
        return t[column.name].notnull() & ~t[column.name].isin(column.allowed)

    return Rule(f"{column.name}-allowed", f"{column.name} is one of {', '.join(column.allowed)}", broken)


def _present(name: str) -> Rule:
    return Rule(f"{name}-present", f"{name} is not null", lambda t: t[name].isnull())


def _matches(rule: str, name: str, what: str, pattern: str) -> Rule:
    return Rule(rule, f"{name} {what}", lambda t: ~t[name].re_search(pattern))


def _priced(t: ir.Table) -> ir.BooleanValue:
    return t.ChargeCategory.isin(["Usage", "Purchase"]) & t.ChargeClass.isnull()


def _unused(t: ir.Table) -> ir.BooleanValue:
    return ibis.coalesce(t.CommitmentDiscountStatus == "Unused", ibis.literal(False))


def _together(name: str, left: str, right: str) -> Rule:
    return Rule(
        name,
        f"{left} and {right} are both there or both null",
        lambda t: t[left].isnull() != t[right].isnull(),
    )


def _implies(name: str, left: str, right: str) -> Rule:
    return Rule(name, f"{left} stands only beside {right}", lambda t: t[left].notnull() & t[right].isnull())


def _required() -> list[Rule]:
    return [
        Rule(
            "pricing-category-present",
            "usage and purchases have a PricingCategory",
            lambda t: _priced(t) & t.PricingCategory.isnull(),
        ),
        Rule(
            "pricing-category-tax",
            "tax has no PricingCategory",
            lambda t: (t.ChargeCategory == "Tax") & t.PricingCategory.notnull(),
        ),
        Rule(
            "pricing-quantity-present",
            "usage and purchases have a PricingQuantity",
            lambda t: _priced(t) & ~_unused(t) & t.PricingQuantity.isnull(),
        ),
        Rule(
            "consumed-quantity-present",
            "usage has a ConsumedQuantity",
            lambda t: (
                (t.ChargeCategory == "Usage")
                & t.ChargeClass.isnull()
                & ~_unused(t)
                & t.ConsumedQuantity.isnull()
            ),
        ),
        Rule(
            "consumed-quantity-usage-only",
            "only usage has a ConsumedQuantity",
            lambda t: (t.ChargeCategory != "Usage") & t.ConsumedQuantity.notnull(),
        ),
        _together("pricing-unit", "PricingQuantity", "PricingUnit"),
        _together("consumed-unit", "ConsumedQuantity", "ConsumedUnit"),
        _together("commitment-category", "CommitmentDiscountId", "CommitmentDiscountCategory"),
        _together("commitment-type", "CommitmentDiscountId", "CommitmentDiscountType"),
        _together("commitment-unit", "CommitmentDiscountQuantity", "CommitmentDiscountUnit"),
        _together("region-name", "RegionId", "RegionName"),
        _together("sub-account-type", "SubAccountId", "SubAccountType"),
        _implies("resource-type", "ResourceType", "ResourceId"),
        _implies("resource-name", "ResourceName", "ResourceId"),
        _implies("sku-price", "SkuPriceId", "SkuId"),
        _implies("sku-details", "SkuPriceDetails", "SkuPriceId"),
        _implies("reservation-status", "CapacityReservationStatus", "CapacityReservationId"),
        Rule(
            "resource-type-present",
            "a resource has a type",
            lambda t: t.ResourceId.notnull() & t.ResourceType.isnull(),
            "warning",
        ),
        Rule(
            "commitment-status",
            "usage under a commitment says Used or Unused, other charges say nothing",
            lambda t: (
                ((t.ChargeCategory == "Usage") & t.CommitmentDiscountId.notnull())
                != t.CommitmentDiscountStatus.notnull()
            ),
        ),
        Rule(
            "commitment-named",
            "committed usage names its commitment",
            lambda t: (t.PricingCategory == "Committed") & t.CommitmentDiscountId.isnull(),
        ),
        Rule(
            "commitment-committed",
            "usage under a commitment is Committed",
            lambda t: t.CommitmentDiscountStatus.notnull() & (t.PricingCategory != "Committed"),
        ),
        Rule(
            "commitment-quantity",
            "a commitment has a quantity",
            lambda t: (
                t.CommitmentDiscountId.notnull()
                & t.ChargeClass.isnull()
                & t.CommitmentDiscountQuantity.isnull()
            ),
            "warning",
        ),
    ]


def _differ(left: ir.NumericValue, right: ir.NumericValue) -> ir.BooleanValue:
    a, b = left.cast("float64"), right.cast("float64")
    return (a - b).abs() > TOLERANCE + TOLERANCE * ibis.greatest(a.abs(), b.abs())


def _google(t: ir.Table) -> ir.BooleanValue:
    return t.ProviderName == "Google Cloud"


def _effective_like_billed(t: ir.Table) -> ir.BooleanValue:
    plain = (t.ChargeCategory == "Usage") & t.PricingCategory.isin(["Standard", "Dynamic", "Other"])
    # Google's credits stand on rows of their own, and lower the effective cost of the line.
    lowered = _google(t) & (t.EffectiveCost <= t.BilledCost) & (t.EffectiveCost >= money(0))
    return plain & ~lowered & _differ(t.EffectiveCost, t.BilledCost)


def _effective_elsewhere(t: ir.Table) -> ir.BooleanValue:
    other = t.ChargeCategory.isin(["Tax", "Credit", "Adjustment"])
    return other & (t.EffectiveCost != money(0)) & _differ(t.EffectiveCost, t.BilledCost)


def _committed_too_dear(t: ir.Table) -> ir.BooleanValue:
    used = t.CommitmentDiscountStatus == "Used"
    most = ibis.greatest(t.ListCost, t.ContractedCost, t.BilledCost)
    return used & (t.BilledCost >= money(0)) & (t.EffectiveCost > most) & _differ(t.EffectiveCost, most)


def _purchase_counted_twice(t: ir.Table) -> ir.BooleanValue:
    purchase = (t.ChargeCategory == "Purchase") & (t.BilledCost >= money(0))
    most = ibis.cases((t.CommitmentDiscountId.notnull(), money(0)), else_=t.BilledCost)
    return purchase & (t.EffectiveCost > most) & _differ(t.EffectiveCost, most)


def _spot_above_on_demand(t: ir.Table) -> ir.BooleanValue:
    most = t.x_OnDemandEquivalentCost
    return (t.PricingCategory == "Dynamic") & (t.BilledCost > most) & _differ(t.BilledCost, most)


def _wrong_product(total: str, price: str) -> Predicate:
    def broken(t: ir.Table) -> ir.BooleanValue:
        product = t[price].cast("float64") * t.PricingQuantity.cast("float64")
        return t.ChargeClass.isnull() & _differ(t[total], product)

    return broken


def _identities() -> list[Rule]:
    return [
        Rule(
            "list-cost",
            "ListCost is ListUnitPrice × PricingQuantity",
            _wrong_product("ListCost", "ListUnitPrice"),
        ),
        Rule(
            "contracted-cost",
            "ContractedCost is ContractedUnitPrice × PricingQuantity",
            _wrong_product("ContractedCost", "ContractedUnitPrice"),
        ),
        Rule("effective-usage", "usage without a commitment costs what is billed", _effective_like_billed),
        Rule(
            "effective-other",
            "tax, credits and adjustments cost what is billed, or nothing",
            _effective_elsewhere,
        ),
        Rule(
            "effective-purchase",
            "a purchase costs at most what is billed, that of a commitment nothing",
            _purchase_counted_twice,
        ),
        Rule(
            "effective-committed",
            "committed usage costs no more than its list or contract price",
            _committed_too_dear,
        ),
        Rule(
            "billed-committed",
            "usage under a commitment is billed nothing, its purchase is",
            lambda t: t.CommitmentDiscountStatus.notnull() & ~_google(t) & (t.BilledCost != money(0)),
        ),
        Rule(
            "unused-effective",
            "an unused part has an effective cost",
            lambda t: _unused(t) & (t.EffectiveCost <= money(0)),
        ),
        Rule("spot-price", "spot is not dearer than on demand", _spot_above_on_demand, "warning"),
        Rule(
            "credit-sign",
            "a credit lowers the bill",
            lambda t: (t.ChargeCategory == "Credit") & (t.BilledCost > money(0)),
            "warning",
        ),
        Rule(
            "negative-usage",
            "usage is not negative",
            lambda t: (
                (t.ChargeCategory == "Usage") & t.ChargeClass.isnull() & (t.ConsumedQuantity < money(0))
            ),
            "warning",
        ),
        Rule(
            "currency-effective",
            "in the same currency PricingCurrencyEffectiveCost is EffectiveCost",
            lambda t: (
                (t.PricingCurrency == t.BillingCurrency)
                & _differ(t.PricingCurrencyEffectiveCost, t.EffectiveCost)
            ),
        ),
    ]


def _times() -> list[Rule]:
    day = 86400

    def billing_length(t: ir.Table) -> ir.BooleanValue:
        days = (t.BillingPeriodEnd.epoch_seconds() - t.BillingPeriodStart.epoch_seconds()) / day
        return (days < 27.9) | (days > 31.1)

    def outside(t: ir.Table) -> ir.BooleanValue:
        # Google invoices usage that it learns of late in the next month.
        late = ibis.cases((_google(t), 40 * day), else_=0)
        early = t.ChargePeriodStart.epoch_seconds() < t.BillingPeriodStart.epoch_seconds() - late
        return (
            t.ChargeClass.isnull()
            & (t.ChargeCategory != "Credit")
            & (early | (t.ChargePeriodEnd > t.BillingPeriodEnd))
        )

    return [
        Rule(
            "charge-period",
            "a charge begins before it ends",
            lambda t: t.ChargePeriodStart >= t.ChargePeriodEnd,
        ),
        Rule("billing-period", "a billing period is a month", billing_length),
        Rule("charge-in-period", "a charge lies in its billing period", outside),
        Rule(
            "usage-length",
            "usage rows are at most a month long",
            lambda t: (
                (t.ChargeCategory == "Usage")
                & (t.ChargePeriodEnd.epoch_seconds() - t.ChargePeriodStart.epoch_seconds() > 31.1 * day)
            ),
        ),
    ]


def _spot() -> list[Rule]:
    def says_spot(t: ir.Table) -> ir.BooleanValue:
        return t.SkuMeter.re_search(SPOT_METER)

    return [
        Rule(
            "spot-is-dynamic",
            "instance time on a spot meter is Dynamic",
            lambda t: (
                (t.ChargeCategory == "Usage")
                & (t.ServiceCategory == "Compute")
                & says_spot(t)
                & (t.PricingCategory != "Dynamic")
            ),
        ),
        Rule(
            "dynamic-is-spot",
            "Dynamic compute is on a spot meter",
            lambda t: (t.PricingCategory == "Dynamic") & (t.ServiceCategory == "Compute") & ~says_spot(t),
        ),
        Rule(
            "spot-uncommitted",
            "spot is under no commitment",
            lambda t: (t.PricingCategory == "Dynamic") & t.CommitmentDiscountId.notnull(),
        ),
    ]


def _places() -> list[Rule]:
    def foreign_zone(t: ir.Table) -> ir.BooleanValue:
        zone, region = t.AvailabilityZone, t.RegionId
        regional = t.ProviderName.isin(["AWS", "Google Cloud"])
        return ibis.cases(
            (regional, zone.notnull() & region.notnull() & ~zone.startswith(region)),
            else_=zone.notnull() & ~zone.re_search(r"(?i)^(z?-?[0-9]|[a-z].*)$"),
        )

    return [
        Rule("zone-in-region", "a zone lies in its region", foreign_zone),
        Rule(
            "zone-name",
            "a zone is no number with decimals",
            lambda t: t.AvailabilityZone.re_search(r"^[0-9]+\.[0-9]+$"),
        ),
        Rule(
            "region-form",
            "a region is lower case without blanks",
            lambda t: ~t.RegionId.re_search(r"^[a-z0-9-]+$"),
        ),
        Rule(
            "zone-has-region",
            "a zone stands beside its region",
            lambda t: t.AvailabilityZone.notnull() & t.RegionId.isnull(),
        ),
    ]


def _instances() -> list[Rule]:
    def is_machine(t: ir.Table) -> ir.BooleanValue:
        return t.x_InstanceHours.notnull()

    def told_type(t: ir.Table) -> ir.StringValue:
        return t.SkuPriceDetails.re_extract(r'"InstanceType"\s*:\s*"([^"]+)"', 1).nullif("")

    def hours(t: ir.Table) -> ir.BooleanValue:
        return t.ConsumedUnit.isin(HOUR_UNITS)

    return [
        Rule(
            "instance-usage",
            "instance time is used compute usage",
            lambda t: (
                is_machine(t)
                & ((t.ChargeCategory != "Usage") | _unused(t) | (t.ServiceCategory != "Compute"))
            ),
        ),
        Rule(
            "instance-type", "instance time has a type", lambda t: is_machine(t) & t.x_InstanceType.isnull()
        ),
        Rule("instance-region", "instance time has a region", lambda t: is_machine(t) & t.RegionId.isnull()),
        Rule(
            "instance-zone",
            "instance time on AWS and Google has a zone",
            lambda t: (
                is_machine(t) & t.ProviderName.isin(["AWS", "Google Cloud"]) & t.AvailabilityZone.isnull()
            ),
        ),
        Rule(
            "instance-details",
            "instance time has SkuPriceDetails with its type",
            lambda t: is_machine(t) & t.SkuPriceId.notnull() & told_type(t).isnull(),
        ),
        Rule(
            "instance-type-agrees",
            "SkuPriceDetails and x_InstanceType agree",
            lambda t: is_machine(t) & (told_type(t) != t.x_InstanceType),
        ),
        Rule(
            "instance-meter-agrees",
            "an AWS meter and x_InstanceType agree",
            lambda t: (
                is_machine(t)
                & (t.SkuMeter.re_extract(r":([a-z0-9-]+\.[a-z0-9-]+)$", 1).nullif("") != t.x_InstanceType)
            ),
        ),
        Rule(
            "instance-hours",
            "hours consumed are instance-hours",
            lambda t: is_machine(t) & hours(t) & _differ(t.x_InstanceHours, t.ConsumedQuantity),
            "warning",
        ),
        Rule(
            "instance-span",
            "a resource of its own does not run longer than the charge lasts",
            _longer_than_span,
        ),
        Rule(
            "instance-unmarked",
            "time on an instance meter has instance-hours",
            lambda t: (
                t.SkuMeter.re_search(r"(BoxUsage|SpotUsage):[a-z0-9-]+\.[a-z0-9-]+$")
                & (t.ServiceName == "Amazon Elastic Compute Cloud")
                & (t.ChargeCategory == "Usage")
                & ~_unused(t)
                & t.x_InstanceHours.isnull()
            ),
        ),
    ]


def _longer_than_span(t: ir.Table) -> ir.BooleanValue:
    span = (t.ChargePeriodEnd.epoch_seconds() - t.ChargePeriodStart.epoch_seconds()) / 3600.0
    single = t.ResourceId.notnull() & ~t.ResourceId.lower().contains("virtualmachinescalesets")
    return single & (t.x_InstanceHours.cast("float64") > span * 1.01 + 0.01)
