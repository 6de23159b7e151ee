"""Google Cloud detailed usage cost exports to FOCUS 1.2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis

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

COST_TYPES = ("regular", "tax", "adjustment", "rounding_error")
_SPOT = r"(?i)\b(spot|preemptible)\b"
_SHARED_CORES = (("e2-micro", 0.25), ("e2-small", 0.5), ("e2-medium", 1.0))
"""Shared-core types are billed by this fraction of a vCPU, whatever their label says."""


def normalise_gcp(raw: ir.Table, credit_lines: ir.Table | None) -> Normalised:
    """Return the FOCUS rows of a detailed export.

    A line is billed its cost; each of its credits is a row of its own, billed the (negative) credit. The
    effective cost is on the line: cost plus credits; credit rows have none, so that both columns add up to
    the invoice. A commitment fee is usage of the commitment; what the usage lines of its subscription did not
    use of it is a second, unused row, and its effective cost is taken from the first.
    """
    reasons = _reasons(raw)
    unused = _unused_by_line(raw.filter(reasons.isnull()))
    values = _values(raw)
    rows = assemble(
        raw,
        values,
        reject_reason=reasons,
        dropped=ibis.literal(False),
        source_cost=(raw.cost + raw.credit_total).cast("decimal(38, 15)"),
    )
    # The part of a fee that nobody used is effective on its own row.
    idle = unused.select(idle_file=unused.source_file, idle_line=unused.source_line, idle=unused.unused)
    joined = rows.left_join(
        idle, (rows.x_SourceFile == idle.idle_file) & (rows.x_SourceLine == idle.idle_line)
    )
    effective = joined.EffectiveCost - ibis.coalesce(joined.idle, money(0))
    left = effective.cast("decimal(38, 15)")
    rows = joined.mutate(EffectiveCost=left, PricingCurrencyEffectiveCost=left).select(*rows.columns)
    derived = [_unused_rows(unused)]
    if credit_lines is not None:
        derived.append(_credit_rows(credit_lines.filter(_reasons(credit_lines).isnull())))
    return Normalised(rows, tuple(derived))


def _reasons(raw: ir.Table) -> ir.StringValue:
    empty = (
        "billing_account_id",
        "usage_start_time",
        "usage_end_time",
        "cost",
        "currency",
        "invoice_month",
        "cost_type",
    )
    return first_reason(
        (raw.parse_error.notnull(), raw.parse_error),
        *((raw[name].isnull(), f"{name} is empty") for name in empty),
        (~raw.cost_type.lower().isin(COST_TYPES), ibis.literal("unknown cost type ") + raw.cost_type),
        (
            ~raw.invoice_month.re_search(r"^20[0-9]{2}(0[1-9]|1[0-2])$"),
            ibis.literal("invoice.month is not YYYYMM: ") + raw.invoice_month,
        ),
        (raw.usage_end_time < raw.usage_start_time, ibis.literal("the usage ends before it begins")),
    )


def invoice_period(month: ir.StringValue) -> tuple[ir.TimestampValue, ir.TimestampValue]:
    """Return begin and exclusive end in UTC of an invoice month (`YYYYMM`), which is a month of Los Angeles.

    Midnight of the first day is 08:00 UTC from December to March and 07:00 UTC from April to November: since
    2007 daylight-saving time begins on 8–14 March and ends on 1–7 November at 2 in the morning.
    """
    first = (month.left(4) + "-" + month.right(2) + "-01 00:00:00").try_cast("timestamp")
    following = first + ibis.interval(months=1)

    def in_utc(local: ir.TimestampValue) -> ir.TimestampValue:
        winter = local.month().isin((12, 1, 2, 3))
        return ibis.cases((winter, local + ibis.interval(hours=8)), else_=local + ibis.interval(hours=7))

    return in_utc(first), in_utc(following)


def _is_fee(raw: ir.Table) -> ir.BooleanValue:
    return (raw.cost_type.lower() == "regular") & raw.sku_description.re_search(r"^Commitment\b")


def _values(raw: ir.Table) -> dict[str, Any]:
    kind = raw.cost_type.lower()
    fee = _is_fee(raw)
    usage = kind == "regular"
    committed = usage & ((raw.cud_total < money(0)) | fee)
    spot = usage & ~fee & raw.sku_description.re_search(_SPOT)
    core = (
        usage
        & (raw.service_description == "Compute Engine")
        & raw.sku_description.re_search(r"\bInstance Core\b")
        & (raw.usage_unit == "seconds")
    )
    part = core | (usage & raw.sku_description.re_search(r"\bInstance Ram\b"))
    listed = ibis.cases((usage, ibis.coalesce(raw.cost_at_list, raw.cost)), else_=raw.cost)
    effective = (raw.cost + raw.credit_total).cast("decimal(38, 15)")
    category = services.category("gcp", raw.service_description)
    # The memory line carries the type too, so that a machine's price is the sum of its lines.
    instance_type = when(part, raw.machine_spec)
    cores = raw.cores.cast("int64").cast("string")
    region = ibis.coalesce(raw.location_region, when(raw.location_location == "global", "global"))
    resource = ibis.coalesce(raw.resource_global_name, raw.resource_name)
    quantity = when(usage, ibis.coalesce(raw.pricing_amount, raw.usage_amount))
    unit = ibis.coalesce(raw.pricing_unit, raw.usage_unit)
    tier = ibis.coalesce(raw.price_tier, "0")
    return _identity(raw) | {
        "BilledCost": raw.cost,
        "EffectiveCost": effective,
        "ListCost": listed,
        "ContractedCost": raw.cost,
        "ListUnitPrice": quotient(listed, quantity),
        "ContractedUnitPrice": quotient(raw.cost, quantity),
        "PricingQuantity": quantity,
        "PricingUnit": when(quantity.notnull(), _unit(unit)),
        "ConsumedQuantity": when(usage, raw.usage_amount),
        "ConsumedUnit": when(usage & raw.usage_amount.notnull(), _unit(raw.usage_unit)),
        "ChargeCategory": ibis.cases((usage, "Usage"), (kind == "tax", "Tax"), else_="Adjustment"),
        "ChargeClass": when(raw.adjustment_id.notnull() | raw.adjustment_type.notnull(), "Correction"),
        "ChargeDescription": raw.sku_description,
        "ChargeFrequency": ibis.cases((fee, "Recurring"), (usage, "Usage-Based"), else_="One-Time"),
        "PricingCategory": ibis.cases(
            (committed, "Committed"), (spot, "Dynamic"), (usage, "Standard"), else_=ibis.null("string")
        ),
        "CommitmentDiscountStatus": when(committed, "Used"),
        "CommitmentDiscountQuantity": when(committed, raw.usage_amount),
        "CommitmentDiscountUnit": when(committed & raw.usage_amount.notnull(), _unit(raw.usage_unit)),
        **_commitment(raw, committed),
        "AvailabilityZone": raw.location_zone,
        "RegionId": region,
        "RegionName": region,
        "ResourceId": resource,
        "ResourceName": when(resource.notnull(), raw.resource_name),
        "ResourceType": when(
            resource.notnull(),
            ibis.coalesce(resource.re_extract(r"/([a-zA-Z]+)/[^/]+$", 1).nullif(""), "Resource"),
        ),
        "ServiceCategory": category,
        "ServiceName": raw.service_description,
        "ServiceSubcategory": services.subcategory("gcp", raw.service_description, category),
        "SkuId": when(usage, raw.sku_id),
        "SkuMeter": when(usage, raw.sku_description),
        "SkuPriceId": when(usage, raw.sku_id + "/" + tier),
        "SkuPriceDetails": when(usage, sku_details(when(core, raw.machine_spec), cores)),
        "PricingCurrencyEffectiveCost": effective,
        "x_InstanceType": instance_type,
        "x_InstanceHours": when(core, _instance_hours(raw)),
        "x_OnDemandEquivalentCost": when(part & ~spot, listed),
        "x_Flags": joined_flags(
            (raw.labels_broken | raw.tags_broken, "tags-not-json"),
            (usage & (raw.usage_amount < money(0)), "negative-usage"),
            (usage & (span_hours(raw.usage_start_time, raw.usage_end_time) > 1.01), "long-row"),
        ),
    }


def _unit(unit: ir.StringValue) -> ir.StringValue:
    # The one compound unit of usage, as FOCUS writes units.
    return unit.cases(("byte-seconds", "B-Seconds"), else_=unit)


def _instance_hours(raw: ir.Table) -> ir.DecimalValue:
    """Return core-seconds ÷ 3600 ÷ vCPUs of the machine type; null when the type does not tell its vCPUs."""
    # n2-standard-4, n2-custom-4-16384, a2-highgpu-1g: the first number behind the family is the vCPUs, or the
    # GPUs.
    by_name = (
        raw.machine_spec.re_extract(r"^[a-z0-9]+-[a-z]+-([0-9]+)(-|$)", 1).nullif("").try_cast("float64")
    )
    shared = raw.machine_spec.cases(*_SHARED_CORES, else_=ibis.null("float64"))
    vcpus = ibis.coalesce(shared, raw.cores.cast("float64"), by_name).nullif(0.0)
    return (raw.usage_amount.cast("float64") / 3600.0 / vcpus).cast("decimal(38, 15)")


def _commitment(raw: ir.Table, under: ir.BooleanValue) -> dict[str, Any]:
    spend = (raw.cud_spend < money(0)) | raw.sku_description.re_search(r"(?i)dollar based")
    return {
        "CommitmentDiscountId": when(
            under, ibis.coalesce(raw.subscription_instance_id, "committed use discount")
        ),
        "CommitmentDiscountCategory": when(under, ibis.cases((spend, "Spend"), else_="Usage")),
        "CommitmentDiscountType": when(
            under, ibis.cases((spend, "Spend-based committed use"), else_="Resource-based committed use")
        ),
    }


def _identity(raw: ir.Table) -> dict[str, Any]:
    begin, end = invoice_period(raw.invoice_month)
    seller = ibis.coalesce(raw.seller_name, "Google LLC")
    # Two objects as texts become one.
    merged = raw.labels.re_replace(r"\}$", ", ") + raw.tags.re_replace(r"^\{", "")
    return {
        "BillingAccountId": raw.billing_account_id,
        "BillingAccountName": raw.billing_account_id,
        "BillingAccountType": "Billing Account",
        "BillingCurrency": raw.currency,
        "BillingPeriodStart": begin,
        "BillingPeriodEnd": end,
        "ChargePeriodStart": raw.usage_start_time,
        "ChargePeriodEnd": raw.usage_end_time,
        "InvoiceId": raw.invoice_month,
        "InvoiceIssuerName": "Google Cloud",
        "PricingCurrency": raw.currency,
        "ProviderName": "Google Cloud",
        "PublisherName": seller,
        "SubAccountId": raw.project_id,
        "SubAccountName": ibis.coalesce(raw.project_name, raw.project_id),
        "SubAccountType": when(raw.project_id.notnull(), "Project"),
        "Tags": ibis.coalesce(merged, raw.labels, raw.tags),
        "x_SourceFormat": "gcp",
        "x_SourceFile": raw.source_file,
        "x_SourceLine": raw.source_line,
    }


def _unused_by_line(raw: ir.Table) -> ir.Table:
    """Return the fee lines with `unused`, the part of their cost that no usage of their subscription covered.

    Used is what CUD credits paid of the usage, in units of usage (seconds of vCPU, or byte-seconds of
    memory), in the hour of the fee. A subscription that no usage line names is left out: its use is unknown,
    not zero.
    """
    fee = _is_fee(raw)
    ram = raw.sku_description.re_search(r"(?i)\b(ram|memory)\b")
    covered = raw.filter(
        ~fee & (raw.cud_total < money(0)) & (raw.cost > money(0)) & raw.subscription_instance_id.notnull()
    )
    share = covered.cud_total.cast("float64") * -1.0 / covered.cost.cast("float64")
    used = covered.group_by(
        used_subscription=covered.subscription_instance_id,
        used_from=covered.usage_start_time,
        used_ram=covered.sku_description.re_search(r"(?i)\b(ram|memory)\b"),
    ).agg(used=(covered.usage_amount.cast("float64") * share).sum())
    known = covered.select(known=covered.subscription_instance_id).distinct()
    fees = raw.mutate(is_ram=ram).filter(fee & (raw.usage_amount > money(0)))
    fees = fees.semi_join(known, fees.subscription_instance_id == known.known)
    joined = fees.left_join(
        used,
        (fees.subscription_instance_id == used.used_subscription)
        & (fees.usage_start_time == used.used_from)
        & (fees.is_ram == used.used_ram),
    )
    idle = 1.0 - ibis.coalesce(joined.used, 0.0) / joined.usage_amount.cast("float64")
    # Rounding of shares must not make a row of a millionth of a cent.
    idle = ibis.cases((idle < 1e-9, 0.0), else_=idle)
    cost = (joined.cost + joined.credit_total).cast("float64")
    return joined.mutate(unused=(cost * idle).cast("decimal(38, 15)")).filter(idle > 0.0)


def _unused_rows(unused: ir.Table) -> ir.Table:
    values = _identity(unused)
    full = _values(unused)
    kept = (
        "CommitmentDiscountCategory",
        "CommitmentDiscountId",
        "CommitmentDiscountType",
        "RegionId",
        "RegionName",
        "ServiceCategory",
        "ServiceName",
        "ServiceSubcategory",
        "SkuId",
        "SkuMeter",
        "SkuPriceId",
    )
    values |= {name: full[name] for name in kept}
    values |= {
        "BilledCost": money(0),
        "EffectiveCost": unused.unused,
        "PricingCurrencyEffectiveCost": unused.unused,
        "ListCost": money(0),
        "ContractedCost": money(0),
        "ChargeCategory": "Usage",
        "ChargeDescription": ibis.literal("Unused part of the commitment: ") + unused.sku_description,
        "ChargeFrequency": "Usage-Based",
        "CommitmentDiscountQuantity": unused.unused,
        "CommitmentDiscountStatus": "Unused",
        "CommitmentDiscountUnit": unused.currency,
        "PricingCategory": "Committed",
    }
    return assemble(unused, values)


def _credit_rows(credit_lines: ir.Table) -> ir.Table:
    full = _values(credit_lines)
    kept = (
        "AvailabilityZone",
        "RegionId",
        "RegionName",
        "ResourceId",
        "ResourceName",
        "ResourceType",
        "ServiceCategory",
        "ServiceName",
        "ServiceSubcategory",
    )
    values = _identity(credit_lines) | {name: full[name] for name in kept}
    amount = credit_lines.credit_amount
    values |= {
        "BilledCost": amount,
        "EffectiveCost": money(0),
        "PricingCurrencyEffectiveCost": money(0),
        "ListCost": amount,
        "ContractedCost": amount,
        "ChargeCategory": "Credit",
        "ChargeDescription": ibis.coalesce(credit_lines.credit_name, "Credit")
        + " "
        + ibis.coalesce(credit_lines.credit_id, ""),
        "ChargeFrequency": "One-Time",
    }
    return assemble(credit_lines, values)
