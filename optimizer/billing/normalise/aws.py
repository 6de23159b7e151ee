"""AWS Cost and Usage Reports, 2.0 and legacy, to FOCUS 1.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

from optimizer.billing.normalise.aws_line import (
    COVERED,
    KNOWN,
    NEGATION,
    RECURRING_FEES,
    line_cost,
    line_identity,
    line_values,
)
from optimizer.billing.normalise.row import Normalised, assemble, first_reason, money

if TYPE_CHECKING:
    import ibis.expr.types as ir


def normalise_aws(raw: ir.Table, source_format: str) -> Normalised:
    """Return the FOCUS rows of a Cost and Usage Report.

    Covered usage is billed nothing, since its fee is; Savings Plan negations, which cancel the on-demand
    price that the report puts on covered usage, are dropped. Where the two do not cancel, an adjustment row
    carries the rest. A fee row that tells of an unused part gives a second row for it.
    """
    values = line_values(raw)
    reasons = first_reason(
        (raw.parse_error.notnull(), raw.parse_error),
        *(
            (raw[name].isnull(), f"{name} is empty")
            for name in (
                "line_item_line_item_type",
                "bill_payer_account_id",
                "bill_billing_period_start_date",
                "line_item_usage_start_date",
                "line_item_usage_end_date",
                "line_item_currency_code",
                "line_item_unblended_cost",
            )
        ),
        (
            ~raw.line_item_line_item_type.isin(KNOWN),
            ibis.literal("unknown line item type ") + raw.line_item_line_item_type,
        ),
        (
            raw.line_item_usage_end_date < raw.line_item_usage_start_date,
            ibis.literal("the usage ends before it begins"),
        ),
    )
    values["x_SourceFormat"] = source_format
    dropped = raw.line_item_line_item_type == NEGATION
    rows = assemble(
        raw,
        values,
        reject_reason=reasons,
        dropped=ibis.coalesce(dropped, ibis.literal(False)),
        source_cost=line_cost(raw),
    )
    good = raw.filter(reasons.isnull())
    return Normalised(rows, (_unused(good, source_format), _imbalance(good, source_format)))


def _unused(raw: ir.Table, source_format: str) -> ir.Table:
    """Return a usage row per fee with an unused part: nothing billed, the unused amount effective."""
    fees = raw.filter(raw.line_item_line_item_type.isin(RECURRING_FEES))
    is_plan = fees.line_item_line_item_type == "SavingsPlanRecurringFee"
    reserved = ibis.coalesce(
        fees.reservation_net_unused_amortized_upfront_fee_for_billing_period,
        fees.reservation_unused_amortized_upfront_fee_for_billing_period,
        money(0),
    ) + ibis.coalesce(
        fees.reservation_net_unused_recurring_fee, fees.reservation_unused_recurring_fee, money(0)
    )
    # Without both figures the use of a plan is unknown, which is not zero.
    left = ibis.coalesce(
        fees.savings_plan_total_commitment_to_date - fees.savings_plan_used_commitment, money(0)
    )
    fees = fees.mutate(unused=ibis.cases((is_plan, left), else_=reserved))
    fees = fees.filter(fees.unused > money(0))
    kept = (
        "CommitmentDiscountId",
        "RegionId",
        "RegionName",
        "ServiceCategory",
        "ServiceName",
        "ServiceSubcategory",
    )
    values = line_identity(fees, fees.line_item_currency_code, fees.line_item_line_item_type)
    same = line_values(fees)
    values |= {
        name: same[name]
        for name in (*kept, "CommitmentDiscountUnit", "SkuId", "SkuMeter", "SkuPriceId", "Tags")
    }
    values |= {
        "BilledCost": money(0),
        "EffectiveCost": fees.unused,
        "ListCost": money(0),
        "ContractedCost": money(0),
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": ibis.literal("Unused part of the commitment: ")
        + ibis.coalesce(fees.line_item_line_item_description, ""),
        "CommitmentDiscountQuantity": fees.unused,
        "CommitmentDiscountStatus": "Unused",
        "CommitmentDiscountUnit": fees.line_item_currency_code,
        "PricingCategory": "Committed",
        "PricingCurrency": fees.line_item_currency_code,
        "PricingCurrencyEffectiveCost": fees.unused,
        "x_SourceFormat": source_format,
    }
    return assemble(fees, values)


def _imbalance(raw: ir.Table, source_format: str) -> ir.Table:
    """Return what covered usage and negations leave over per bill, where that is half a cent or more."""
    touched = raw.filter(raw.line_item_line_item_type.isin((*COVERED, NEGATION)))
    sums = touched.group_by(
        payer=touched.bill_payer_account_id,
        payer_name=touched.bill_payer_account_name,
        period=touched.bill_billing_period_start_date,
        invoice=touched.bill_invoice_id,
        currency=touched.line_item_currency_code,
    ).agg(
        rest=line_cost(touched).sum(),
        period_end=touched.bill_billing_period_end_date.max(),
        issuer=touched.bill_invoicing_entity.max(),
        file=touched.source_file.min(),
        line=touched.source_line.min(),
    )
    left = sums.filter(sums.rest.cast("float64").abs() >= 0.005)
    rest = left.rest.cast("decimal(38, 15)")
    issuer = ibis.coalesce(left.issuer, "Amazon Web Services, Inc.")
    return assemble(
        left,
        {
            "BilledCost": rest,
            "EffectiveCost": rest,
            "ListCost": rest,
            "ContractedCost": rest,
            "BillingAccountId": left.payer,
            "BillingAccountName": ibis.coalesce(left.payer_name, left.payer),
            "BillingAccountType": "Payer Account",
            "BillingCurrency": left.currency,
            "BillingPeriodStart": left.period,
            "BillingPeriodEnd": ibis.coalesce(left.period_end, left.period + ibis.interval(months=1)),
            "ChargeCategory": "Adjustment",
            "ChargeDescription": "Covered usage and Savings Plan negations of this bill do not cancel",
            "ChargeFrequency": "One-Time",
            "ChargePeriodStart": left.period,
            "ChargePeriodEnd": ibis.coalesce(left.period_end, left.period + ibis.interval(months=1)),
            "InvoiceId": left.invoice,
            "InvoiceIssuerName": issuer,
            "ProviderName": "AWS",
            "PublisherName": issuer,
            "ServiceCategory": "Other",
            "ServiceName": "AWS Savings Plans",
            "ServiceSubcategory": "Other (Other)",
            "SubAccountId": left.payer,
            "SubAccountName": ibis.coalesce(left.payer_name, left.payer),
            "SubAccountType": "Member Account",
            "x_Flags": "commitment-imbalance",
            "x_SourceFormat": source_format,
            "x_SourceFile": left.file,
            "x_SourceLine": left.line,
        },
    )
