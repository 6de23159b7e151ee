"""Writes a synthetic FOCUS 1.2 export, with all 57 columns, as parquet or CSV."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from optimizer.billing.focus import COLUMNS
from optimizer.billing.sample.scenario import OPTIONS, PlantedWorkload, Scenario, instance_token, usage
from optimizer.billing.sample.truth import Truth, money

_ARROW = {
    "String": pa.string(),
    "Decimal": pa.float64(),
    "Date/Time": pa.timestamp("us"),
    "JSON": pa.string(),
}
EXPORT_SCHEMA = pa.schema([(column.name, _ARROW[column.kind]) for column in COLUMNS])


def write_focus(
    scenario: Scenario,
    folder: Path,
    *,
    format: Literal["parquet", "csv"] = "parquet",  # noqa: A002 (the command-line word)
) -> Truth:
    """Write `scenario` as a FOCUS 1.2 export of an AWS bill and return its planted truth."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = Truth()
    lines: list[dict[str, Any]] = []
    options: list[str] = []
    for month, hours in scenario.months():
        rows = usage(scenario, hours)
        truth.count(rows.option)
        common = _common(scenario, month)
        for index, hour, option, instance in zip(
            rows.workload, rows.hour, rows.option, rows.instance, strict=True
        ):
            w = scenario.workloads[int(index)]
            lines.append(common | _instance_hour(scenario, w, int(hour), int(option), int(instance)))
            options.append(OPTIONS[int(option)])
        extra = _commitments(scenario, hours, truth) + _other(scenario, month, hours)
        lines += [common | line for line in extra]
        options += [""] * len(extra)
    for line in lines:
        truth.billed[line["InvoiceId"], scenario.currency] += money(line["BilledCost"])
        truth.effective += money(line["EffectiveCost"])
    path = folder / f"sample-focus-1.2.{format}"
    table = pa.Table.from_pylist(lines, schema=EXPORT_SCHEMA)
    if format == "parquet":
        pq.write_table(table, path)
    else:
        pyarrow.csv.write_csv(table, path)
    truth.files.append(path)
    truth.lines[path.name] = options if format == "parquet" else ["", *options]
    return truth


def _common(scenario: Scenario, month: datetime) -> dict[str, Any]:
    following = (month + timedelta(days=32)).replace(day=1)
    return {
        "BillingAccountId": scenario.billing_account,
        "BillingAccountName": "Synthetic payer",
        "BillingAccountType": "AWS Organization",
        "BillingCurrency": scenario.currency,
        "BillingPeriodStart": month.replace(tzinfo=None),
        "BillingPeriodEnd": following.replace(tzinfo=None),
        "ChargeFrequency": "Usage-Based",
        "InvoiceId": f"INV-{month:%Y%m}",
        "InvoiceIssuerName": "Amazon Web Services, Inc.",
        "PricingCurrency": scenario.currency,
        "ProviderName": "AWS",
        "PublisherName": "Amazon Web Services, Inc.",
        "ServiceCategory": "Compute",
        "ServiceName": "Amazon Elastic Compute Cloud",
        "ServiceSubcategory": "Virtual Machines",
        "SubAccountId": scenario.billing_account,
        "SubAccountName": "payer",
        "SubAccountType": "AWS Account",
        "Tags": json.dumps({"synthetic": "true"}),
    }


def _span(begin: datetime, hours: int) -> dict[str, Any]:
    start = begin.replace(tzinfo=None)
    return {"ChargePeriodStart": start, "ChargePeriodEnd": start + timedelta(hours=hours)}


def _costs(billed: float, effective: float, listed: float, quantity: float, unit: str) -> dict[str, Any]:
    return {
        "BilledCost": billed,
        "EffectiveCost": effective,
        "ListCost": listed,
        "ContractedCost": listed,
        "ListUnitPrice": listed / quantity,
        "ContractedUnitPrice": listed / quantity,
        "PricingCurrencyEffectiveCost": effective,
        "PricingCurrencyListUnitPrice": listed / quantity,
        "PricingCurrencyContractedUnitPrice": listed / quantity,
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
    }


def _arn(scenario: Scenario, w: PlantedWorkload) -> str:
    return f"arn:aws:savingsplans::{scenario.billing_account}:savingsplan/{w.name}"


def _commitment(scenario: Scenario, w: PlantedWorkload, status: str) -> dict[str, Any]:
    return {
        "CommitmentDiscountCategory": "Spend",
        "CommitmentDiscountId": _arn(scenario, w),
        "CommitmentDiscountName": w.name,
        "CommitmentDiscountStatus": status,
        "CommitmentDiscountType": "Compute Savings Plan",
        "CommitmentDiscountUnit": "USD",
        "PricingCategory": "Committed",
    }


def _instance_hour(
    scenario: Scenario, w: PlantedWorkload, hour: int, option: int, instance: int
) -> dict[str, Any]:
    token = instance_token(w, option, instance)
    billed = (w.on_demand_price, w.spot_price, 0.0)[option]
    effective = (w.on_demand_price, w.spot_price, w.committed_price)[option]
    listed = w.spot_price if option == 1 else w.on_demand_price
    row = {
        "AvailabilityZone": w.zone,
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{OPTIONS[option]} Linux {w.instance_type} Instance Hour",
        "PricingCategory": ("Standard", "Dynamic", "Committed")[option],
        "RegionId": w.region,
        "RegionName": w.region,
        "ResourceId": f"i-{token}",
        "ResourceName": token,
        "ResourceType": "instance",
        "SkuId": f"SKU-{w.instance_type}",
        "SkuMeter": f"{'SpotUsage' if option == 1 else 'BoxUsage'}:{w.instance_type}",
        "SkuPriceDetails": json.dumps(
            {"InstanceType": w.instance_type, "CoreCount": w.vcpus, "OperatingSystem": "Linux"}
        ),
        "SkuPriceId": f"SKU-{w.instance_type}.{option}",
        "SubAccountId": w.account,
        "SubAccountName": f"account {w.account[-4:]}",
        "Tags": json.dumps(w.tags),
        **_span(scenario.time(hour), 1),
        **_costs(billed, effective, listed, 1.0, "Hours"),
    }
    if option == 2:
        row |= _commitment(scenario, w, "Used") | {"CommitmentDiscountQuantity": w.committed_price}
    return row


def _commitments(
    scenario: Scenario, hours: np.ndarray[Any, np.dtype[np.int64]], truth: Truth
) -> list[dict[str, Any]]:
    lines = []
    for w in scenario.workloads:
        for hour in hours if w.bought else ():
            fee = round(w.committed_price * w.bought, 9)
            idle = round(w.committed_price * int(w.bought - w.committed[hour]), 9)
            shared = {
                "SkuId": "SKU-SP",
                "SkuMeter": "ComputeSP:1yrNoUpfront",
                "SkuPriceId": "SKU-SP.1",
                "ResourceId": _arn(scenario, w),
                "ResourceType": "savingsplan",
            }
            shared |= _span(scenario.time(int(hour)), 1) | {"ResourceName": w.name}
            purchase = _commitment(scenario, w, "Used") | {
                "CommitmentDiscountStatus": None,
                "CommitmentDiscountQuantity": fee,
            }
            lines.append(
                shared
                | purchase
                | _costs(fee, 0.0, fee, 1.0, "Hours")
                | {
                    "ChargeCategory": "Purchase",
                    "ChargeFrequency": "Recurring",
                    "ConsumedQuantity": None,
                    "ConsumedUnit": None,
                }
                | {"ChargeDescription": "Compute Savings Plan", "PricingCategory": "Standard"}
            )
            if idle:
                truth.unused += money(idle)
                lines.append(
                    shared
                    | _commitment(scenario, w, "Unused")
                    | _costs(0.0, idle, 0.0, 1.0, "Hours")
                    | {"CommitmentDiscountQuantity": idle, "ConsumedQuantity": None, "ConsumedUnit": None}
                    | {"ChargeCategory": "Usage", "ChargeDescription": "Unused Compute Savings Plan"}
                )
    return lines


def _other(
    scenario: Scenario, month: datetime, hours: np.ndarray[Any, np.dtype[np.int64]]
) -> list[dict[str, Any]]:
    there = {int(h) for h in hours}
    nothing = dict.fromkeys(_costs(0, 0, 0, 1, ""))
    lines = []
    for anomaly in scenario.anomalies:
        if anomaly.hour in there:
            w = scenario.workloads[anomaly.workload]
            lines.append(
                _span(scenario.time(anomaly.hour), 1)
                | _costs(anomaly.cost, anomaly.cost, anomaly.cost, anomaly.cost / 0.09, "GB")
                | {
                    "ChargeCategory": "Usage",
                    "ChargeDescription": "Data transfer out",
                    "PricingCategory": "Standard",
                }
                | {
                    "SkuId": "SKU-DT",
                    "SkuPriceId": "SKU-DT.1",
                    "SkuMeter": "DataTransfer-Out-Bytes",
                    "RegionId": w.region,
                }
                | {
                    "ResourceId": f"i-{instance_token(w, 0, 0)}",
                    "ResourceType": "instance",
                    "SubAccountId": w.account,
                }
                | {"RegionName": w.region, "Tags": json.dumps(w.tags)}
            )
    for category, amount in (("Tax", 12.34), ("Credit", -scenario.credit)):
        costs = dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), amount)
        lines.append(
            _span(month, 24)
            | nothing
            | costs
            | {"ChargeCategory": category, "ChargeDescription": category, "ChargeFrequency": "One-Time"}
        )
    return lines
