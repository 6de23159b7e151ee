"""The columns that are read from each export format, under one spelling and with one type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from optimizer.billing.sources.detect import Format

Type = Literal["string", "decimal", "time", "date", "json", "tags"]


@dataclass(frozen=True, slots=True)
class Field:
    """One column of an export.

    Attributes:
        name: Our name for it.
        type: `json` is text of JSON; `tags` is text of a JSON object whatever the export stores; `date` is a
            day
            that may be written the American way.
        required: Whether an export without it is refused.
        sources: Names in the export, first found wins; default is `name`. A dot goes into a struct.
    """

    name: str
    type: Type = "string"
    required: bool = False
    sources: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the export."""
        return self.sources or (self.name,)


def _strings(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name) for name in names)


def _decimals(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name, "decimal") for name in names)


AWS: tuple[Field, ...] = (
    Field("identity_line_item_id"),
    *_strings("bill_invoice_id", "bill_invoicing_entity", "bill_billing_entity", "bill_payer_account_name"),
    Field("bill_payer_account_id", required=True),
    Field("bill_billing_period_start_date", "time", required=True),
    Field("bill_billing_period_end_date", "time"),
    Field("line_item_usage_account_id", required=True),
    Field("line_item_usage_account_name"),
    Field("line_item_line_item_type", required=True),
    Field("line_item_usage_start_date", "time", required=True),
    Field("line_item_usage_end_date", "time", required=True),
    Field("line_item_product_code", required=True),
    Field("line_item_usage_type", required=True),
    *_strings("line_item_operation", "line_item_availability_zone", "line_item_resource_id"),
    Field("line_item_usage_amount", "decimal", required=True),
    Field("line_item_currency_code", required=True),
    Field("line_item_unblended_cost", "decimal", required=True),
    *_decimals("line_item_unblended_rate", "line_item_net_unblended_cost"),
    *_strings("line_item_line_item_description", "line_item_legal_entity"),
    Field(
        "product_product_name",
        sources=("product_product_name", "product.product_name", "product_servicename"),
    ),
    *_strings("product_product_family", "product_servicecode", "product_sku"),
    Field("product_instance_type", sources=("product_instance_type", "product.instance_type")),
    Field("product_vcpu", sources=("product_vcpu", "product.vcpu")),
    Field("product_operating_system", sources=("product_operating_system", "product.operating_system")),
    Field("product_region_code", sources=("product_region_code", "product.region_code")),
    Field("product_region", sources=("product_region", "product.region")),
    Field("product_location", sources=("product_location", "product.location")),
    *_strings("pricing_currency", "pricing_rate_code", "pricing_term", "pricing_unit"),
    *_decimals("pricing_public_on_demand_cost", "pricing_public_on_demand_rate"),
    Field("reservation_reservation_a_r_n"),
    *_decimals(
        "reservation_effective_cost",
        "reservation_net_effective_cost",
        "reservation_unused_recurring_fee",
        "reservation_net_unused_recurring_fee",
        "reservation_unused_amortized_upfront_fee_for_billing_period",
        "reservation_net_unused_amortized_upfront_fee_for_billing_period",
    ),
    *_strings("savings_plan_savings_plan_a_r_n", "savings_plan_offering_type"),
    *_decimals(
        "savings_plan_savings_plan_effective_cost",
        "savings_plan_net_savings_plan_effective_cost",
        "savings_plan_total_commitment_to_date",
        "savings_plan_used_commitment",
    ),
    Field("resource_tags", "tags"),
)

GCP: tuple[Field, ...] = (
    Field("billing_account_id", required=True),
    Field("service_description", required=True, sources=("service.description",)),
    Field("sku_id", required=True, sources=("sku.id",)),
    Field("sku_description", required=True, sources=("sku.description",)),
    Field("usage_start_time", "time", required=True),
    Field("usage_end_time", "time", required=True),
    Field("project_id", sources=("project.id",)),
    Field("project_name", sources=("project.name",)),
    Field("labels", "tags"),
    Field("tags", "tags"),
    Field("machine_spec", sources=("system_labels[compute.googleapis.com/machine_spec]",)),
    Field("cores", "decimal", sources=("system_labels[compute.googleapis.com/cores]",)),
    Field("location_region", sources=("location.region",)),
    Field("location_location", sources=("location.location",)),
    Field("location_zone", sources=("location.zone",)),
    Field("cost", "decimal", required=True),
    Field("currency", required=True),
    Field("usage_amount", "decimal", required=True, sources=("usage.amount",)),
    Field("usage_unit", required=True, sources=("usage.unit",)),
    Field("pricing_amount", "decimal", sources=("usage.amount_in_pricing_units",)),
    Field("pricing_unit", sources=("usage.pricing_unit",)),
    Field("invoice_month", required=True, sources=("invoice.month",)),
    Field("cost_type", required=True),
    Field("adjustment_id", sources=("adjustment_info.id",)),
    Field("adjustment_type", sources=("adjustment_info.type",)),
    Field("cost_at_list", "decimal"),
    Field("price_tier", sources=("price.tier_start_amount",)),
    Field("resource_name", sources=("resource.name",)),
    Field("resource_global_name", sources=("resource.global_name",)),
    Field("subscription_instance_id", sources=("subscription.instance_id",)),
    Field("seller_name"),
)

AZURE: tuple[Field, ...] = (
    Field("account", required=True, sources=("billingaccountid",)),
    Field("account_name", sources=("billingaccountname",)),
    Field("profile", sources=("billingprofileid",)),
    Field("profile_name", sources=("billingprofilename",)),
    Field("invoice_id", sources=("invoiceid",)),
    Field("period_start", "date", required=True, sources=("billingperiodstartdate",)),
    Field("period_end", "date", sources=("billingperiodenddate",)),
    Field("day", "date", required=True, sources=("date", "usagedatetime")),
    Field("subscription", required=True, sources=("subscriptionid", "subscriptionguid")),
    Field("subscription_name", sources=("subscriptionname",)),
    Field("resource_group", sources=("resourcegroup", "resourcegroupname")),
    Field("location", sources=("resourcelocation", "location")),
    Field("product_id", sources=("productid", "partnumber")),
    Field("product", sources=("productname", "product")),
    Field("meter_category", required=True, sources=("metercategory",)),
    Field("meter_subcategory", sources=("metersubcategory",)),
    Field("meter_id", sources=("meterid",)),
    Field("meter_name", sources=("metername",)),
    Field("unit", sources=("unitofmeasure",)),
    Field("quantity", "decimal", required=True, sources=("quantity", "usagequantity")),
    Field("cost", "decimal", required=True, sources=("costinbillingcurrency", "cost", "pretaxcost")),
    Field("currency", required=True, sources=("billingcurrencycode", "billingcurrency", "currency")),
    Field("pricing_currency", sources=("pricingcurrency",)),
    Field("unit_price", "decimal", sources=("unitprice",)),
    Field("effective_price", "decimal", sources=("effectiveprice",)),
    Field("payg_price", "decimal", sources=("paygprice",)),
    Field("payg_cost", "decimal", sources=("paygcostinbillingcurrency",)),
    Field("consumed_service", sources=("consumedservice",)),
    Field("resource_id", sources=("resourceid", "instanceid")),
    Field("resource_name", sources=("resourcename",)),
    Field("tags", "tags"),
    Field("additional_info", "json", sources=("additionalinfo",)),
    Field("charge_type", required=True, sources=("chargetype",)),
    Field("frequency"),
    Field("pricing_model", required=True, sources=("pricingmodel",)),
    Field("publisher_type", sources=("publishertype",)),
    Field("publisher_name", sources=("publishername",)),
    Field("zone", sources=("availabilityzone",)),
    Field("benefit_id", sources=("benefitid",)),
    Field("benefit_name", sources=("benefitname",)),
    Field("reservation_id", sources=("reservationid",)),
    Field("reservation_name", sources=("reservationname",)),
)

_FOCUS_TYPES: dict[str, Type] = {
    "String": "string",
    "Decimal": "decimal",
    "Date/Time": "time",
    "JSON": "json",
}
_FOCUS_REQUIRED = frozenset(
    {
        "BilledCost",
        "BillingAccountId",
        "BillingCurrency",
        "BillingPeriodStart",
        "ChargeCategory",
        "ChargePeriodEnd",
        "ChargePeriodStart",
        "ServiceName",
    }
)
_FOCUS_LATER_NAMES = {
    # 1.3 renamed the provider, 1.4 removed the old name.
    "ProviderName": ("ProviderName", "ServiceProviderName", "HostProviderName"),
    # Azure's own export has the details of the SKU under its own prefix.
    "SkuPriceDetails": ("SkuPriceDetails", "x_SkuDetails"),
    # The 1.0 exports of AWS and Azure, before FOCUS had meters.
    "SkuMeter": ("SkuMeter", "x_UsageType", "x_SkuMeterName"),
}


def focus_fields() -> tuple[Field, ...]:
    """Return the fields of a FOCUS export: the 57 columns, our on-demand equivalent, Azure's profile."""
    from optimizer.billing.focus import COLUMNS

    return (
        *(
            Field(
                column.name,
                "tags" if column.name == "Tags" else _FOCUS_TYPES[column.kind],
                column.name in _FOCUS_REQUIRED,
                _FOCUS_LATER_NAMES.get(column.name, ()),
            )
            for column in COLUMNS
        ),
        Field("x_OnDemandEquivalentCost", "decimal"),
        Field("x_BillingProfileId"),
    )


def fields_of(format: Format) -> tuple[Field, ...]:  # noqa: A002 (the command-line word)
    """Return the columns read from exports of `format`."""
    if format in ("aws-cur", "aws-cur-legacy"):
        return AWS
    return {"gcp": GCP, "azure": AZURE}.get(format) or focus_fields()


def raw_schema(format: Format, *, credits: bool = False) -> dict[str, str]:  # noqa: A002 (the command-line word)
    """Return the columns of a raw table of `format` with Ibis types; `credits` those of its credit table."""
    from optimizer.billing.focus import MONEY

    kinds = {"decimal": MONEY, "time": "timestamp", "date": "timestamp"}
    schema: dict[str, str] = {}
    for field in fields_of(format):
        schema[field.name] = kinds.get(field.type, "string")
        if field.type == "tags":
            schema[f"{field.name}_broken"] = "boolean"
    if format == "gcp":
        schema |= {"credit_total": MONEY, "cud_total": MONEY, "cud_spend": MONEY}
    schema |= {"source_file": "string", "source_line": "int64", "parse_error": "string"}
    if credits:
        schema |= {
            "credit_name": "string",
            "credit_amount": MONEY,
            "credit_type": "string",
            "credit_id": "string",
        }
    return schema
