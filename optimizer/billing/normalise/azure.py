"""Azure cost details, actual and amortised, to FOCUS 1.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis

from optimizer.billing.bills import account_id
from optimizer.billing.normalise import services
from optimizer.billing.normalise.row import (
    Normalised,
    assemble,
    first_reason,
    joined_flags,
    money,
    product,
    quotient,
    sku_details,
    when,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

UNUSED = ("unusedreservation", "unusedsavingsplan")
CHARGE_TYPES = ("usage", "purchase", "refund", "tax", "credit", "adjustment", "roundingadjustment", *UNUSED)
_COMMITTED_MODELS = ("reservation", "savingsplan")


def normalise_azure(raw: ir.Table) -> Normalised:
    """Return the FOCUS rows of cost details.

    The actual set says what is invoiced, the amortised set what usage under a commitment costs. Where a bill
    has both, usage under commitments and its unused part come from the amortised set and all else from the
    actual one: so what is billed is exactly the actual set. With the amortised set alone the purchases of
    commitments are not known; with the actual set alone the effective cost of what they cover is not, which
    `effective-cost-unknown` marks.
    """
    raw = _with_sets(raw)
    kind = raw.charge_type.lower()
    committed = raw.pricing_model.lower().isin(_COMMITTED_MODELS)
    under = (committed & (kind == "usage")) | kind.isin(UNUSED)
    dropped = raw.has_both & ibis.cases((raw.is_amortized, ~under), else_=under)
    alone = raw.is_amortized & ~raw.has_both & under
    invoiced = ibis.cases((raw.has_both & raw.is_amortized, money(0)), (alone, money(0)), else_=raw.cost)
    rows = assemble(
        raw,
        _values(raw),
        reject_reason=_reasons(raw),
        dropped=ibis.coalesce(dropped, ibis.literal(False)),
        source_cost=invoiced,
        shared_cost=ibis.cases((alone, raw.cost), else_=money(0)),
    )
    return Normalised(rows)


def _reasons(raw: ir.Table) -> ir.StringValue:
    empty = ("account", "period_start", "day", "cost", "currency", "charge_type", "pricing_model")
    return first_reason(
        (raw.parse_error.notnull(), raw.parse_error),
        # Taxes and roundings have no pricing model.
        *((raw[name].isnull(), f"{name} is empty") for name in empty if name != "pricing_model"),
        (~raw.charge_type.lower().isin(CHARGE_TYPES), ibis.literal("unknown charge type ") + raw.charge_type),
        (
            raw.pricing_model.isnull() & raw.charge_type.lower().isin(("usage", "purchase")),
            ibis.literal("pricing_model is empty"),
        ),
    )


def _with_sets(raw: ir.Table) -> ir.Table:
    """Return `raw` with `is_amortized` (of the file) and `has_both` (of the bill)."""
    kind = raw.charge_type.lower()
    usage_paid = (
        (kind == "usage") & raw.pricing_model.lower().isin(_COMMITTED_MODELS) & (raw.cost != money(0))
    )
    shows = kind.isin(UNUSED) | usage_paid | raw.source_file.lower().contains("amorti")
    files = raw.group_by(set_file=raw.source_file).agg(
        is_amortized=ibis.coalesce(shows.any(), ibis.literal(False))
    )
    marked = raw.join(files, raw.source_file == files.set_file)
    bills = marked.group_by(set_account=marked.account, set_period=marked.period_start).agg(
        has_both=marked.is_amortized.any() & (~marked.is_amortized).any()
    )
    joined = marked.left_join(
        bills, (marked.account == bills.set_account) & (marked.period_start == bills.set_period)
    )
    return joined.mutate(has_both=ibis.coalesce(joined.has_both, ibis.literal(False)))


def _block(unit: ir.StringValue) -> ir.FloatingValue:
    """Return the size of a block: 10 K → 10000, 100 Hours → 100, 1/Month → 1."""
    number = unit.re_extract(r"^([0-9]+)", 1).nullif("").try_cast("float64")
    letter = unit.re_extract(r"^[0-9]+ ?([KMB])$", 1)
    factor = letter.cases(("K", 1e3), ("M", 1e6), ("B", 1e9), else_=1.0)
    return ibis.coalesce(number, 1.0) * factor


def _unit_name(unit: ir.StringValue) -> ir.StringValue:
    bare = unit.re_replace(r"^[0-9]+ ?[KMB]?(/| )?", "")
    named = bare.cases(("Hour", "Hours"), ("Month", "Months"), ("Day", "Days"), ("", "Units"), else_=bare)
    return ibis.coalesce(named, "Units")


@dataclass(frozen=True)
class _Line:
    """A line, and what kind of charge it is.

    Attributes:
        raw: The line.
        kind: Its charge type in lower case.
        unused: The unused part of a commitment.
        committed: It uses or pays for a commitment.
        usage: Usage, used or not.
        priced: Usage, purchase or refund.
        spot: Usage of spot capacity.
        machine: Running time of an instance.
    """

    raw: ir.Table
    kind: ir.StringValue
    unused: ir.BooleanValue
    committed: ir.BooleanValue
    usage: ir.BooleanValue
    priced: ir.BooleanValue
    spot: ir.BooleanValue
    machine: ir.BooleanValue

    @classmethod
    def of(cls, raw: ir.Table) -> _Line:
        kind = raw.charge_type.lower()
        model = raw.pricing_model.lower()
        unused = kind.isin(UNUSED)
        usage = (kind == "usage") | unused
        machine = (
            (kind == "usage")
            & (raw.meter_category == "Virtual Machines")
            & raw.unit.re_search(r"(?i)^[0-9]+ hours?$")
        )
        # A capacity reservation is billed on the meter of the machine it is for, but is no running machine.
        reserves = raw.additional_info.re_search(r'"UsageType"\s*:\s*"ComputeCR"')
        says_spot = ibis.coalesce(raw.meter_name.re_search(r"(?i)\bspot$"), ibis.literal(False))
        return cls(
            raw=raw,
            kind=kind,
            unused=unused,
            committed=model.isin(_COMMITTED_MODELS) | unused,
            usage=usage,
            priced=usage | kind.isin(("purchase", "refund")),
            spot=usage & ((model == "spot") | says_spot),
            machine=machine & ~ibis.coalesce(reserves, ibis.literal(False)),
        )


def _values(raw: ir.Table) -> dict[str, Any]:
    line = _Line.of(raw)
    under = line.usage & line.committed
    block = _block(raw.unit)
    costs = _costs(line, block)
    instance_type = when(line.machine, _instance_type(raw))
    return (
        _identity(raw, line.kind)
        | _commitment(raw, line.committed)
        | costs
        | _quantities(line)
        | _place(raw)
        | {
            "PricingCategory": ibis.cases(
                (under, "Committed"),
                (line.spot, "Dynamic"),
                (line.priced, "Standard"),
                else_=ibis.null("string"),
            ),
            "CommitmentDiscountStatus": ibis.cases((line.unused, "Unused"), (under, "Used"), else_=None),
            "SkuId": when(line.priced, ibis.coalesce(raw.product_id, raw.meter_id)),
            "SkuMeter": when(line.priced, raw.meter_name),
            "SkuPriceId": when(line.priced, raw.meter_id),
            "SkuPriceDetails": when(
                raw.meter_id.notnull(),
                sku_details(instance_type, raw.additional_info.re_extract(r'"VCPUs"\s*:\s*"?([0-9]+)', 1)),
            ),
            "x_InstanceType": instance_type,
            "x_InstanceHours": when(line.machine, _hours(raw, block)),
            "x_OnDemandEquivalentCost": when(line.machine & ~line.spot, costs["ListCost"]),
            "x_Flags": joined_flags(
                (ibis.literal(True), "daily"),
                (raw.tags_broken, "tags-not-json"),
                (line.usage & (raw.quantity < money(0)), "negative-usage"),
                ((line.kind == "usage") & line.committed & ~raw.is_amortized, "effective-cost-unknown"),
            ),
        }
    )


def _costs(line: _Line, block: ir.FloatingValue) -> dict[str, Any]:
    """Return costs and prices; the unused part of a commitment has no price of its own."""
    raw, used = line.raw, line.usage & ~line.unused
    pricing = when(line.priced, (raw.quantity.cast("float64") / block).cast("decimal(38, 15)"))
    at_contract = product(raw.unit_price.nullif(money(0)), raw.quantity)
    at_list = ibis.coalesce(raw.payg_cost, product(raw.payg_price.nullif(money(0)), raw.quantity))
    listed = ibis.cases(
        (used, ibis.coalesce(at_list, at_contract, raw.cost)), (line.unused, money(0)), else_=raw.cost
    )
    contracted = ibis.cases(
        (used, ibis.coalesce(at_contract, at_list, raw.cost)), (line.unused, money(0)), else_=raw.cost
    )
    purchase = line.kind.isin(("purchase", "refund"))
    effective = ibis.cases((purchase & line.committed, money(0)), else_=raw.cost)
    same = ibis.coalesce(raw.pricing_currency, raw.currency) == raw.currency
    list_price, contract_price = quotient(listed, pricing), quotient(contracted, pricing)
    return {
        "BilledCost": ibis.cases((line.usage & line.committed, money(0)), else_=raw.cost),
        "EffectiveCost": effective,
        "ListCost": listed,
        "ContractedCost": contracted,
        "ListUnitPrice": list_price,
        "ContractedUnitPrice": contract_price,
        "PricingCurrency": ibis.coalesce(raw.pricing_currency, raw.currency),
        "PricingCurrencyContractedUnitPrice": when(same, contract_price),
        "PricingCurrencyEffectiveCost": when(same, effective),
        "PricingCurrencyListUnitPrice": when(same, list_price),
        "PricingQuantity": pricing,
        "PricingUnit": when(pricing.notnull(), _unit_name(raw.unit)),
    }


def _quantities(line: _Line) -> dict[str, Any]:
    raw, used = line.raw, line.usage & ~line.unused
    counted = line.committed & (line.kind != "refund")
    return {
        "ConsumedQuantity": when(used, raw.quantity),
        "ConsumedUnit": when(used & raw.quantity.notnull(), _unit_name(raw.unit)),
        "CommitmentDiscountQuantity": when(counted, raw.quantity),
        "CommitmentDiscountUnit": when(counted & raw.quantity.notnull(), _unit_name(raw.unit)),
    }


def _place(raw: ir.Table) -> dict[str, Any]:
    """Return where it was, on what resource, of which service."""
    category = services.category("azure", raw.meter_category)
    return {
        "AvailabilityZone": raw.zone,
        "RegionId": raw.location.lower().replace(" ", ""),
        "RegionName": raw.location,
        "ResourceId": raw.resource_id,
        "ResourceName": when(raw.resource_id.notnull(), raw.resource_name),
        "ResourceType": when(raw.resource_id.notnull(), _resource_type(raw.resource_id)),
        "ServiceCategory": category,
        "ServiceName": ibis.coalesce(raw.meter_category, raw.consumed_service, "Azure"),
        "ServiceSubcategory": services.subcategory("azure", raw.meter_category, category),
    }


def _hours(raw: ir.Table, block: ir.FloatingValue) -> ir.DecimalValue:
    """Return hours; where quantity × price is the cost, the quantity counts blocks of several hours."""
    at_price = raw.quantity.cast("float64") * raw.effective_price.cast("float64")
    counts_blocks = (at_price - raw.cost.cast("float64")).abs() <= 1e-6 + raw.cost.cast(
        "float64"
    ).abs() * 1e-3
    size = ibis.cases((counts_blocks, block), else_=1.0)
    return (raw.quantity.cast("float64") * size).cast("decimal(38, 15)")


def _instance_type(raw: ir.Table) -> ir.StringValue:
    told = raw.additional_info.re_extract(r'"ServiceType"\s*:\s*"([^"]+)"', 1).nullif("")
    # "D3 v2/DS3 v2" is one meter of two types; the first stands for both.
    size = (
        raw.meter_name.re_replace(r"(?i) (spot|low priority)$", "")
        .re_extract(r"^([^/]+)", 1)
        .replace(" ", "_")
    )
    return ibis.coalesce(told, ibis.literal("Standard_") + size.nullif(""))


def _resource_type(resource: ir.StringValue) -> ir.StringValue:
    path = resource.lower().re_extract(r"/providers/([^/]+/[^/]+)", 1)
    return ibis.coalesce(path.nullif(""), "resource")


def _commitment(raw: ir.Table, committed: ir.BooleanValue) -> dict[str, Any]:
    benefit = ibis.coalesce(raw.benefit_id, raw.reservation_id)
    reserved = benefit.lower().contains("/microsoft.capacity/") | (
        ~benefit.lower().contains("/") & (raw.pricing_model.lower() == "reservation")
    )
    there = committed & benefit.notnull()
    return {
        "CommitmentDiscountId": when(there, benefit),
        "CommitmentDiscountName": when(there, ibis.coalesce(raw.benefit_name, raw.reservation_name)),
        "CommitmentDiscountCategory": when(there, ibis.cases((reserved, "Usage"), else_="Spend")),
        "CommitmentDiscountType": when(there, ibis.cases((reserved, "Reservation"), else_="Savings Plan")),
    }


def _identity(raw: ir.Table, kind: ir.StringValue) -> dict[str, Any]:
    # A customer agreement has several profiles under one account, each with its own invoices.
    account, profile = account_id(raw.account), account_id(raw.profile)
    is_mca = account.contains(":")
    day = ibis.interval(days=1)
    return {
        "BillingAccountId": ibis.cases((is_mca, ibis.coalesce(profile, account)), else_=account),
        "BillingAccountName": ibis.cases(
            (is_mca, ibis.coalesce(raw.profile_name, raw.account_name)), else_=raw.account_name
        ),
        "BillingAccountType": ibis.cases((is_mca, "Billing Profile"), else_="Billing Account"),
        "BillingCurrency": raw.currency,
        "BillingPeriodStart": raw.period_start,
        "BillingPeriodEnd": ibis.coalesce(raw.period_end + day, raw.period_start + ibis.interval(months=1)),
        "ChargeCategory": ibis.cases(
            (kind.isin(("usage", *UNUSED)), "Usage"),
            (kind.isin(("purchase", "refund")), "Purchase"),
            (kind == "tax", "Tax"),
            (kind == "credit", "Credit"),
            else_="Adjustment",
        ),
        "ChargeClass": when(kind == "refund", "Correction"),
        "ChargeDescription": raw["product"],
        "ChargeFrequency": raw.frequency.lower().cases(
            ("usagebased", "Usage-Based"), ("recurring", "Recurring"), else_="One-Time"
        ),
        "ChargePeriodStart": raw.day,
        "ChargePeriodEnd": raw.day + day,
        "InvoiceId": raw.invoice_id,
        "InvoiceIssuerName": "Microsoft",
        "ProviderName": "Microsoft",
        "PublisherName": ibis.coalesce(raw.publisher_name, "Microsoft"),
        "SubAccountId": raw.subscription,
        "SubAccountName": ibis.coalesce(raw.subscription_name, raw.subscription),
        "SubAccountType": when(raw.subscription.notnull(), "Subscription"),
        "Tags": raw.tags,
        "x_SourceFormat": "azure",
        "x_SourceFile": raw.source_file,
        "x_SourceLine": raw.source_line,
    }
