"""Writes synthetic Azure cost details: the actual and the amortised CSV, in the columns of EA or MCA."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np

from optimizer.billing.sample.scenario import OPTIONS, PlantedWorkload, Scenario, instance_token
from optimizer.billing.sample.truth import Truth, money

EA_COLUMNS = [
    "InvoiceSectionName",
    "AccountName",
    "AccountOwnerId",
    "SubscriptionId",
    "SubscriptionName",
    "ResourceGroup",
    "ResourceLocation",
    "Date",
    "ProductName",
    "MeterCategory",
    "MeterSubCategory",
    "MeterId",
    "MeterName",
    "MeterRegion",
    "UnitOfMeasure",
    "Quantity",
    "EffectivePrice",
    "CostInBillingCurrency",
    "CostCenter",
    "ConsumedService",
    "ResourceId",
    "Tags",
    "OfferId",
    "AdditionalInfo",
    "ServiceInfo1",
    "ServiceInfo2",
    "ResourceName",
    "ReservationId",
    "ReservationName",
    "UnitPrice",
    "ProductOrderId",
    "ProductOrderName",
    "Term",
    "PublisherType",
    "PublisherName",
    "ChargeType",
    "Frequency",
    "PricingModel",
    "AvailabilityZone",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrencyCode",
    "BillingPeriodStartDate",
    "BillingPeriodEndDate",
    "BillingProfileId",
    "BillingProfileName",
    "InvoiceSectionId",
    "IsAzureCreditEligible",
    "PartNumber",
    "PayGPrice",
    "PlanName",
    "ServiceFamily",
    "CostAllocationRuleName",
    "benefitId",
    "benefitName",
]
MCA_COLUMNS = [
    "invoiceId",
    "previousInvoiceId",
    "billingAccountId",
    "billingAccountName",
    "billingProfileId",
    "billingProfileName",
    "invoiceSectionId",
    "invoiceSectionName",
    "billingPeriodStartDate",
    "billingPeriodEndDate",
    "servicePeriodStartDate",
    "servicePeriodEndDate",
    "date",
    "serviceFamily",
    "productOrderId",
    "productOrderName",
    "consumedService",
    "meterId",
    "meterName",
    "meterCategory",
    "meterSubCategory",
    "meterRegion",
    "ProductId",
    "ProductName",
    "SubscriptionId",
    "subscriptionName",
    "publisherType",
    "publisherId",
    "publisherName",
    "resourceGroupName",
    "ResourceId",
    "resourceLocation",
    "location",
    "effectivePrice",
    "quantity",
    "unitOfMeasure",
    "chargeType",
    "billingCurrency",
    "pricingCurrency",
    "costInBillingCurrency",
    "costInPricingCurrency",
    "costInUsd",
    "paygCostInBillingCurrency",
    "paygCostInUsd",
    "exchangeRatePricingToBilling",
    "isAzureCreditEligible",
    "serviceInfo1",
    "serviceInfo2",
    "additionalInfo",
    "tags",
    "PayGPrice",
    "frequency",
    "term",
    "reservationId",
    "reservationName",
    "pricingModel",
    "unitPrice",
    "benefitId",
    "benefitName",
    "provider",
]

_MCA_NAMES = {name.lower(): name for name in MCA_COLUMNS} | {
    "billingcurrencycode": "billingCurrency",
    "resourcegroup": "resourceGroupName",
}


def write_azure(scenario: Scenario, folder: Path, *, agreement: Literal["ea", "mca"] = "ea") -> Truth:
    """Write `actual.csv` and `amortized.csv` and return the planted truth.

    Azure bills by day: a row's quantity is the hours an instance ran that day. In the actual set committed
    usage costs nothing and the purchase stands alone; in the amortised set usage carries its share, and what
    nobody used is an `UnusedReservation` or `UnusedSavingsPlan` row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truth = Truth()
    usage_rows = list(_instance_days(scenario, truth)) + list(_other(scenario))
    purchases = list(_purchases(scenario))
    unused = list(_unused(scenario, truth))
    files: tuple[tuple[str, list[tuple[dict[str, Any], str]], str], ...] = (
        ("actual.csv", usage_rows + purchases, "billed"),
        ("amortized.csv", usage_rows + unused, "amortized"),
    )
    for name, rows, basis in files:
        path = folder / name
        _write(path, rows, basis, agreement)
        truth.files.append(path)
        # The header is line 1.
        truth.lines[name] = ["", *(option for _, option in rows)]
        for row, _ in rows:
            amount = money(row[basis])
            if basis == "billed":
                truth.billed[f"{row['_month']:%Y-%m}", scenario.currency] += amount
            else:
                truth.effective += amount
    return truth


def _write(path: Path, rows: list[tuple[dict[str, Any], str]], basis: str, agreement: str) -> None:
    columns = EA_COLUMNS if agreement == "ea" else MCA_COLUMNS
    with path.open("w", encoding="utf-8-sig", newline="") as out:
        writer = csv.DictWriter(out, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        for row, _ in rows:
            cost = row[basis]
            quantity = float(row["Quantity"])
            full = row | {
                "CostInBillingCurrency": repr(cost),
                "EffectivePrice": repr(cost / quantity if quantity else 0.0),
                "Tags": json.dumps(row["_tags"]) if agreement == "mca" else json.dumps(row["_tags"])[1:-1],
                "Date": _date(row["_day"], agreement),
                "BillingPeriodStartDate": _date(row["_month"], agreement),
                "BillingPeriodEndDate": _date(_following(row["_month"]) - timedelta(days=1), agreement),
            }
            if agreement == "mca":
                full |= {
                    "paygCostInBillingCurrency": repr(float(row["PayGPrice"] or 0) * quantity),
                    "pricingCurrency": "USD",
                    "exchangeRatePricingToBilling": "1",
                    "provider": "Azure",
                    "ProductId": f"DZH318-{row['MeterId'][:4]}",
                    "invoiceId": f"T{row['_month']:%Y%m}",
                }
                full = {_MCA_NAMES.get(key.lower(), key): value for key, value in full.items()}
            writer.writerow(full)


def _date(day: datetime, agreement: str) -> str:
    return f"{day.month}/{day.day}/{day.year}" if agreement == "ea" else f"{day:%m/%d/%Y}"


def _following(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)


def _row(
    scenario: Scenario,
    day: datetime,
    w: PlantedWorkload | None,
    billed: float,
    amortized: float,
    **fields: Any,
) -> dict[str, Any]:
    subscription = w.account if w else "00000000-aaaa-bbbb-cccc-dddddddddddd"
    return {
        "_day": day,
        "_month": day.replace(day=1),
        "_tags": w.tags if w else {"synthetic": "true"},
        "billed": billed,
        "amortized": amortized,
        "AccountName": "synthetic",
        "SubscriptionId": subscription,
        "SubscriptionName": f"subscription {subscription[:8]}",
        "ResourceGroup": w.name if w else "",
        "ResourceLocation": w.region if w else "eastus",
        "MeterCategory": "Virtual Machines",
        "MeterSubCategory": "",
        "MeterId": "00000000-0000-0000-0000-000000000000",
        "UnitOfMeasure": "1 Hour",
        "ConsumedService": "Microsoft.Compute",
        "PublisherType": "Azure",
        "PublisherName": "Microsoft",
        "ChargeType": "Usage",
        "Frequency": "UsageBased",
        "PricingModel": "OnDemand",
        "BillingAccountId": scenario.billing_account,
        "BillingAccountName": "Synthetic enrolment",
        "BillingProfileId": scenario.billing_account,
        "BillingProfileName": "Synthetic profile",
        "BillingCurrencyCode": scenario.currency,
        "IsAzureCreditEligible": "True",
        "ServiceFamily": "Compute",
        "PayGPrice": "0",
        "UnitPrice": "0",
        **fields,
    }


def _benefit(w: PlantedWorkload) -> str:
    if w.commitment == "reserved":
        return f"/providers/Microsoft.Capacity/reservationOrders/order-{w.name}/reservations/{w.name}"
    return f"/providers/Microsoft.BillingBenefits/savingsPlanOrders/order-{w.name}/savingsPlans/{w.name}"


def _days(scenario: Scenario) -> Iterator[tuple[datetime, range]]:
    for first in range(0, scenario.hours, 24):
        yield scenario.time(first), range(first, min(first + 24, scenario.hours))


def _instance_days(scenario: Scenario, truth: Truth) -> Iterator[tuple[dict[str, Any], str]]:
    for day, hours in _days(scenario):
        for w in scenario.workloads:
            for option, series in enumerate((w.on_demand, w.spot, w.committed)):
                today = series[hours.start : hours.stop]
                for instance in range(int(today.max(initial=0))):
                    ran = int((today > instance).sum())
                    truth.instance_hours[OPTIONS[option]] += ran
                    yield _instance_day(scenario, day, w, option, instance, ran), OPTIONS[option]


def _instance_day(
    scenario: Scenario, day: datetime, w: PlantedWorkload, option: int, instance: int, hours: int
) -> dict[str, Any]:
    size = w.instance_type.removeprefix("Standard_").replace("_", " ")
    billed = (w.on_demand_price, w.spot_price, 0.0)[option]
    amortized = (w.on_demand_price, w.spot_price, w.committed_price)[option]
    name = f"vm-{instance_token(w, option, instance)}"
    model = ("OnDemand", "Spot", "SavingsPlan" if w.commitment == "savings-plan" else "Reservation")[option]
    return _row(
        scenario,
        day,
        w,
        round(billed * hours, 9),
        round(amortized * hours, 9),
        ProductName=f"Virtual Machines - {size}{' Spot' if option == 1 else ''} - US East",
        MeterName=f"{size} Spot" if option == 1 else size,
        MeterId=f"{option:08d}-1111-2222-3333-{sum(w.instance_type.encode()):012d}",
        Quantity=str(hours),
        UnitPrice=repr(billed),
        PayGPrice=repr(w.spot_price if option == 1 else w.on_demand_price),
        PricingModel=model,
        ResourceName=name,
        ResourceId=f"/subscriptions/{w.account}/resourceGroups/{w.name}/providers/Microsoft.Compute/virtualMachines/{name}",
        AdditionalInfo=json.dumps(
            {"UsageType": "ComputeHR", "ServiceType": w.instance_type, "VCPUs": w.vcpus}
        ),
        benefitId=_benefit(w) if option == 2 else "",
        benefitName=w.name if option == 2 else "",
    )


def _purchases(scenario: Scenario) -> Iterator[tuple[dict[str, Any], str]]:
    for w in scenario.workloads:
        for month, hours in scenario.months() if w.bought else ():
            day = max(month, scenario.start)
            fee = round(w.committed_price * w.bought * hours.size, 9)
            model = "SavingsPlan" if w.commitment == "savings-plan" else "Reservation"
            yield (
                _row(
                    scenario,
                    day,
                    w,
                    fee,
                    0.0,
                    ProductName=f"Reserved VM Instance, {w.instance_type}",
                    MeterName=w.instance_type,
                    Quantity="1",
                    UnitPrice=repr(fee),
                    PricingModel=model,
                    ChargeType="Purchase",
                    Frequency="Recurring",
                    ConsumedService="Microsoft.Capacity",
                    benefitId=_benefit(w),
                    benefitName=w.name,
                ),
                "",
            )
    # A returned reservation: money back, which the amortised set does not have.
    buyer = scenario.workloads[0]
    yield (
        _row(
            scenario,
            scenario.start,
            buyer,
            -scenario.refund,
            0.0,
            ProductName="Reserved VM Instance, returned",
            MeterName="returned",
            Quantity="-1",
            PricingModel="Reservation",
            ChargeType="Refund",
            Frequency="OneTime",
            ConsumedService="Microsoft.Capacity",
            benefitId="/providers/Microsoft.Capacity/reservationOrders/returned/reservations/returned",
            benefitName="returned",
        ),
        "",
    )


def _unused(scenario: Scenario, truth: Truth) -> Iterator[tuple[dict[str, Any], str]]:
    for day, hours in _days(scenario):
        for w in scenario.workloads:
            idle = int((w.bought - w.committed[hours.start : hours.stop]).sum()) if w.bought else 0
            if idle:
                cost = round(w.committed_price * idle, 9)
                truth.unused += money(cost)
                plan = w.commitment == "savings-plan"
                yield (
                    _row(
                        scenario,
                        day,
                        w,
                        0.0,
                        cost,
                        ProductName=f"Unused commitment, {w.instance_type}",
                        MeterName=w.instance_type,
                        Quantity=str(idle),
                        PricingModel="SavingsPlan" if plan else "Reservation",
                        ChargeType="UnusedSavingsPlan" if plan else "UnusedReservation",
                        ResourceId=_benefit(w),
                        benefitId=_benefit(w),
                        benefitName=w.name,
                    ),
                    "",
                )


def _other(scenario: Scenario) -> Iterator[tuple[dict[str, Any], str]]:
    for anomaly in scenario.anomalies:
        w = scenario.workloads[anomaly.workload]
        day = scenario.time(anomaly.hour // 24 * 24)
        fields = {
            "ProductName": "Bandwidth - Data Transfer Out",
            "MeterCategory": "Bandwidth",
            "MeterName": "Data Transfer Out",
            "UnitOfMeasure": "1 GB",
            "Quantity": repr(anomaly.cost / 0.087),
            "PayGPrice": "0.087",
            "UnitPrice": "0.087",
        }
        yield _row(scenario, day, w, anomaly.cost, anomaly.cost, **fields), ""
    for month, hours in scenario.months():
        day = scenario.time(int(np.min(hours)) // 24 * 24) if hours.size else month
        fields = {
            "ProductName": "Rounding adjustment",
            "MeterName": "",
            "Quantity": "1",
            "ChargeType": "RoundingAdjustment",
        }
        yield _row(scenario, day, None, 0.004, 0.004, **fields), ""
