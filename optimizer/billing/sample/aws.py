"""Writes a synthetic AWS Cost and Usage Report 2.0 as a partitioned parquet data export."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from optimizer.billing.sample.scenario import (
    OPTIONS,
    PlantedWorkload,
    Scenario,
    Usage,
    instance_token,
    usage,
)
from optimizer.billing.sample.truth import Truth, money

TAG_MAP = pa.map_(pa.string(), pa.string())

CUR_SCHEMA = pa.schema(
    [
        ("identity_line_item_id", pa.string()),
        ("bill_invoice_id", pa.string()),
        ("bill_invoicing_entity", pa.string()),
        ("bill_billing_entity", pa.string()),
        ("bill_bill_type", pa.string()),
        ("bill_payer_account_id", pa.string()),
        ("bill_payer_account_name", pa.string()),
        ("bill_billing_period_start_date", pa.timestamp("ms")),
        ("bill_billing_period_end_date", pa.timestamp("ms")),
        ("line_item_usage_account_id", pa.string()),
        ("line_item_usage_account_name", pa.string()),
        ("line_item_line_item_type", pa.string()),
        ("line_item_usage_start_date", pa.timestamp("ms")),
        ("line_item_usage_end_date", pa.timestamp("ms")),
        ("line_item_product_code", pa.string()),
        ("line_item_usage_type", pa.string()),
        ("line_item_operation", pa.string()),
        ("line_item_availability_zone", pa.string()),
        ("line_item_resource_id", pa.string()),
        ("line_item_usage_amount", pa.float64()),
        ("line_item_currency_code", pa.string()),
        ("line_item_unblended_rate", pa.string()),
        ("line_item_unblended_cost", pa.float64()),
        ("line_item_line_item_description", pa.string()),
        ("line_item_legal_entity", pa.string()),
        ("product", TAG_MAP),
        ("product_instance_type", pa.string()),
        ("product_product_family", pa.string()),
        ("product_region_code", pa.string()),
        ("product_servicecode", pa.string()),
        ("product_sku", pa.string()),
        ("pricing_currency", pa.string()),
        ("pricing_public_on_demand_cost", pa.float64()),
        ("pricing_public_on_demand_rate", pa.string()),
        ("pricing_rate_code", pa.string()),
        ("pricing_term", pa.string()),
        ("pricing_unit", pa.string()),
        ("reservation_reservation_a_r_n", pa.string()),
        ("reservation_effective_cost", pa.float64()),
        ("reservation_unused_amortized_upfront_fee_for_billing_period", pa.float64()),
        ("reservation_unused_recurring_fee", pa.float64()),
        ("savings_plan_savings_plan_a_r_n", pa.string()),
        ("savings_plan_savings_plan_effective_cost", pa.float64()),
        ("savings_plan_total_commitment_to_date", pa.float64()),
        ("savings_plan_used_commitment", pa.float64()),
        ("resource_tags", TAG_MAP),
    ]
)
"""The columns written; a real export has more, all of which a reader must treat as optional."""


def write_cur(scenario: Scenario, folder: Path, *, rows_per_file: int = 2_000_000) -> Truth:
    """Write `scenario` as a CUR 2.0 data export and return its planted truth.

    The layout is AWS's own: `data/BILLING_PERIOD=YYYY-MM/NAME-0000N.snappy.parquet`. Per month there are
    usage rows (on-demand, spot, Savings Plan covered with their negations, reserved), Savings Plan and
    reservation fees with their unused part, an unattached volume as 24-hour rows, anomalies, tax, credit and
    refund.
    """
    truth = Truth()
    for month, hours in scenario.months():
        tables, options = _month(scenario, month, hours, truth)
        table = pa.concat_tables(tables)
        partition = folder / "data" / f"BILLING_PERIOD={month:%Y-%m}"
        partition.mkdir(parents=True, exist_ok=True)
        for number, begin in enumerate(range(0, table.num_rows, rows_per_file), start=1):
            path = partition / f"sample-cur-{month:%Y%m}-{number:05d}.snappy.parquet"
            pq.write_table(table.slice(begin, rows_per_file), path)
            truth.files.append(path)
            truth.lines[path.name] = options[begin : begin + rows_per_file]
    return truth


def _month(
    scenario: Scenario, month: datetime, hours: NDArray[np.int64], truth: Truth
) -> tuple[list[pa.Table], list[str]]:
    invoice = f"INV-{month:%Y%m}"
    rows = usage(scenario, hours)
    truth.count(rows.option)
    instance_table, costs, names = _instances(scenario, rows)
    extras = _negations(scenario, rows) + _fees(scenario, month, hours, truth)
    extras += _other_usage(scenario, hours)
    usage_total = costs["unblended"].sum() + sum(float(r["line_item_unblended_cost"]) for r in extras)
    extras += _month_end(scenario, month, round(float(usage_total) * scenario.tax_rate, 2))
    truth.billed[invoice, scenario.currency] += money(costs["unblended"]) + money(
        [float(r["line_item_unblended_cost"]) for r in extras]
    )
    # Amortised: covered usage at its commitment's rate, fees at their unused part, everything else as billed.
    truth.effective += money(costs["effective"])
    for row in extras:
        kind = row["line_item_line_item_type"]
        if kind not in ("SavingsPlanNegation", "SavingsPlanRecurringFee", "RIFee"):
            truth.effective += money(float(row["line_item_unblended_cost"]))
    common = _common(scenario, month, invoice)
    tail = pa.Table.from_pylist([common | row for row in extras], schema=CUR_SCHEMA)
    return [_complete(instance_table, common), tail], names + [""] * len(extras)


def _common(scenario: Scenario, month: datetime, invoice: str) -> dict[str, Any]:
    following = (month + timedelta(days=32)).replace(day=1)
    return {
        "bill_invoice_id": invoice,
        "bill_invoicing_entity": "Amazon Web Services, Inc.",
        "bill_billing_entity": "AWS",
        "bill_bill_type": "Anniversary",
        "bill_payer_account_id": scenario.billing_account,
        "bill_payer_account_name": "Synthetic payer",
        "bill_billing_period_start_date": month.replace(tzinfo=None),
        "bill_billing_period_end_date": following.replace(tzinfo=None),
        "line_item_currency_code": scenario.currency,
        "line_item_legal_entity": "Amazon Web Services, Inc.",
        "pricing_currency": "USD",
        "resource_tags": [("user_synthetic", "true")],
    }


def _complete(columns: dict[str, pa.Array], common: dict[str, Any]) -> pa.Table:
    size = len(columns["identity_line_item_id"])
    arrays = []
    for item in CUR_SCHEMA:
        if item.name in columns:
            arrays.append(columns[item.name].cast(item.type))
        elif item.name in common:
            arrays.append(
                pa.array([common[item.name]], type=item.type).take(pa.array(np.zeros(size, dtype=np.int64)))
            )
        else:
            arrays.append(pa.nulls(size, item.type))
    return pa.table(arrays, schema=CUR_SCHEMA)


def _kinds(scenario: Scenario) -> dict[str, list[Any]]:
    """Return what differs between the kinds of line: one entry per workload × option."""
    found: dict[str, list[Any]] = {
        k: [] for k in ("type", "meter", "description", "term", "sp", "ri", "rate")
    }
    for w in scenario.workloads:
        arn = _arn(scenario, w.commitment, w.name)
        is_plan = w.commitment == "savings-plan"
        found["type"] += ["Usage", "Usage", "SavingsPlanCoveredUsage" if is_plan else "DiscountedUsage"]
        found["meter"] += [
            f"BoxUsage:{w.instance_type}",
            f"SpotUsage:{w.instance_type}",
            f"BoxUsage:{w.instance_type}",
        ]
        found["description"] += [
            f"${w.on_demand_price} per On Demand Linux {w.instance_type} Instance Hour",
            f"{w.instance_type} Linux/UNIX Spot Instance-hour in {w.region}",
            f"Linux/UNIX, {w.instance_type} covered by a commitment",
        ]
        found["term"] += ["OnDemand", None, "OnDemand" if is_plan else "Reserved"]
        found["sp"] += [None, None, arn if is_plan else None]
        found["ri"] += [None, None, arn if w.commitment == "reserved" else None]
        found["rate"] += [w.on_demand_price, w.spot_price, w.on_demand_price if is_plan else 0.0]
    return found


def _instances(
    scenario: Scenario, rows: Usage
) -> tuple[dict[str, pa.Array], dict[str, NDArray[np.float64]], list[str]]:
    """Return the columns of the instance-hours, their costs, and the purchase option of each."""
    planted = scenario.workloads
    pair = pa.array(rows.workload * len(OPTIONS) + rows.option)
    kinds = _kinds(scenario)
    committed_price = np.array([w.committed_price for w in planted], dtype=float)[rows.workload]
    unblended = np.array(kinds["rate"], dtype=float)[np.asarray(pair)]
    effective = np.where(rows.option == 2, committed_price, unblended)
    is_plan = np.array([w.commitment == "savings-plan" for w in planted], dtype=bool)[rows.workload]
    covered = rows.option == 2
    texts = {k: pa.array(kinds[k], type=pa.string()).take(pair) for k in kinds if k != "rate"}
    base = np.datetime64(scenario.start.replace(tzinfo=None), "ms")
    begin = base + rows.hour.astype("timedelta64[h]")
    ids, resources = _names(scenario, rows)
    operations = ["RunInstances", "RunInstances:SV001", "RunInstances"] * len(planted)
    columns: dict[str, pa.Array] = _per_workload(planted, pa.array(rows.workload)) | {
        "identity_line_item_id": ids,
        "line_item_line_item_type": texts["type"],
        "line_item_usage_start_date": pa.array(begin),
        "line_item_usage_end_date": pa.array(begin + np.timedelta64(1, "h")),
        "line_item_usage_type": texts["meter"],
        "line_item_operation": pa.array(operations).take(pair),
        "line_item_resource_id": resources,
        "line_item_usage_amount": pa.array(np.ones(len(rows))),
        "line_item_unblended_rate": pa.array([repr(float(r)) for r in kinds["rate"]]).take(pair),
        "line_item_unblended_cost": pa.array(unblended),
        "line_item_line_item_description": texts["description"],
        "product_sku": pa.array([f"SKU{i:013d}" for i in range(len(planted) * 3)]).take(pair),
        "pricing_rate_code": pa.array([f"SKU{i:013d}.TERM.RATE" for i in range(len(planted) * 3)]).take(pair),
        "pricing_term": texts["term"],
        "reservation_reservation_a_r_n": texts["ri"],
        "reservation_effective_cost": pa.array(np.where(covered & ~is_plan, committed_price, 0.0)),
        "savings_plan_savings_plan_a_r_n": texts["sp"],
        "savings_plan_savings_plan_effective_cost": pa.array(
            np.where(covered & is_plan, committed_price, 0.0)
        ),
    }
    names = [OPTIONS[o] for o in rows.option]
    return columns, {"unblended": unblended, "effective": effective}, names


def _per_workload(planted: tuple[PlantedWorkload, ...], which: pa.Array) -> dict[str, pa.Array]:
    """Return the columns that are the same on every line of a workload."""
    products = [
        [
            ("product_name", "Amazon Elastic Compute Cloud"),
            ("vcpu", str(w.vcpus)),
            ("operating_system", "Linux"),
        ]
        for w in planted
    ]
    columns = {
        "line_item_usage_account_id": pa.array([w.account for w in planted]),
        "line_item_usage_account_name": pa.array([f"account {w.account[-4:]}" for w in planted]),
        "line_item_product_code": pa.array(["AmazonEC2"] * len(planted)),
        "line_item_availability_zone": pa.array([w.zone for w in planted]),
        "product": pa.array(products, type=TAG_MAP),
        "product_instance_type": pa.array([w.instance_type for w in planted]),
        "product_product_family": pa.array(["Compute Instance"] * len(planted)),
        "product_region_code": pa.array([w.region for w in planted]),
        "product_servicecode": pa.array(["AmazonEC2"] * len(planted)),
        "pricing_public_on_demand_cost": pa.array([float(w.on_demand_price) for w in planted]),
        "pricing_public_on_demand_rate": pa.array([repr(w.on_demand_price) for w in planted]),
        "pricing_unit": pa.array(["Hrs"] * len(planted)),
        "resource_tags": pa.array(
            [[(f"user_{k}", v) for k, v in w.tags.items()] for w in planted], type=TAG_MAP
        ),
    }
    return {name: values.take(which) for name, values in columns.items()}


def _names(scenario: Scenario, rows: Usage) -> tuple[pa.Array, pa.Array]:
    """Return line ids, unique in the export, and resource ids, one per instance."""
    width = int(rows.instance.max(initial=0)) + 1
    key = (rows.workload * len(OPTIONS) + rows.option) * width + rows.instance
    unique, position = np.unique(key, return_inverse=True)
    tokens = []
    for value in unique:
        workload, option = divmod(int(value) // width, len(OPTIONS))
        tokens.append("i-" + instance_token(scenario.workloads[workload], option, int(value) % width))
    resources = pa.array(tokens, type=pa.string()).take(pa.array(position))
    clock = pa.array([f"{h:06d}" for h in range(scenario.hours)]).take(pa.array(rows.hour))
    return pa.compute.binary_join_element_wise(resources, clock, "."), resources


def _arn(scenario: Scenario, commitment: str, name: str) -> str:
    # Commitments are bought by the payer and shared.
    if commitment == "savings-plan":
        return f"arn:aws:savingsplans::{scenario.billing_account}:savingsplan/{name}"
    return f"arn:aws:ec2:us-east-1:{scenario.billing_account}:reserved-instances/{name}"


def _line(
    scenario: Scenario, kind: str, begin: datetime, end: datetime, key: str, **fields: Any
) -> dict[str, Any]:
    return {
        "identity_line_item_id": f"{kind}.{key}.{begin:%Y%m%d%H}",
        "line_item_usage_account_id": scenario.billing_account,
        "line_item_line_item_type": kind,
        "line_item_usage_start_date": begin.replace(tzinfo=None),
        "line_item_usage_end_date": end.replace(tzinfo=None),
        "line_item_product_code": "AmazonEC2",
        "product_servicecode": "AmazonEC2",
        "line_item_usage_amount": 1.0,
        **fields,
    }


def _negations(scenario: Scenario, rows: Usage) -> list[dict[str, Any]]:
    """Return one Savings Plan negation per workload and hour: minus the on-demand cost of its usage."""
    lines = []
    chosen = rows.option == 2
    pairs, counts = np.unique(
        np.stack([rows.workload[chosen], rows.hour[chosen]]), axis=1, return_counts=True
    )
    for index, hour, count in zip(pairs[0], pairs[1], counts, strict=True):
        w = scenario.workloads[int(index)]
        if w.commitment == "savings-plan":
            begin = scenario.time(int(hour))
            lines.append(
                _line(
                    scenario,
                    "SavingsPlanNegation",
                    begin,
                    begin + timedelta(hours=1),
                    w.name,
                    line_item_usage_account_id=w.account,
                    line_item_usage_type=f"BoxUsage:{w.instance_type}",
                    line_item_usage_amount=float(count),
                    line_item_unblended_cost=-round(w.on_demand_price * int(count), 10),
                    savings_plan_savings_plan_a_r_n=_arn(scenario, w.commitment, w.name),
                    product_region_code=w.region,
                    line_item_line_item_description="SavingsPlanNegation used by the commitment",
                )
            )
    return lines


def _fees(
    scenario: Scenario, month: datetime, hours: NDArray[np.int64], truth: Truth
) -> list[dict[str, Any]]:
    """Return the fees of commitments; the unused part goes to the truth as amortised cost."""
    lines: list[dict[str, Any]] = []
    following = (month + timedelta(days=32)).replace(day=1)
    for w in scenario.workloads:
        if not w.bought:
            continue
        arn = _arn(scenario, w.commitment, w.name)
        if w.commitment == "savings-plan":
            total = round(w.committed_price * w.bought, 10)
            for hour in hours:
                used = round(w.committed_price * int(w.committed[hour]), 10)
                begin = scenario.time(int(hour))
                truth.unused += money(total) - money(used)
                truth.effective += money(total) - money(used)
                lines.append(
                    _line(
                        scenario,
                        "SavingsPlanRecurringFee",
                        begin,
                        begin + timedelta(hours=1),
                        w.name,
                        line_item_product_code="ComputeSavingsPlans",
                        line_item_usage_type="ComputeSP:1yrNoUpfront",
                        line_item_unblended_cost=total,
                        savings_plan_savings_plan_a_r_n=arn,
                        savings_plan_total_commitment_to_date=total,
                        savings_plan_used_commitment=used,
                        pricing_unit="Hrs",
                        line_item_line_item_description="1 year No Upfront Compute Savings Plan",
                    )
                )
        else:
            idle = round(w.committed_price * int((w.bought - w.committed[hours]).sum()), 10)
            truth.unused += money(idle)
            truth.effective += money(idle)
            lines.append(
                _line(
                    scenario,
                    "RIFee",
                    month,
                    following,
                    w.name,
                    line_item_usage_type=f"HeavyUsage:{w.instance_type}",
                    line_item_usage_amount=float(w.bought * hours.size),
                    line_item_unblended_cost=round(w.committed_price * w.bought * hours.size, 10),
                    reservation_reservation_a_r_n=arn,
                    reservation_unused_recurring_fee=idle,
                    reservation_unused_amortized_upfront_fee_for_billing_period=0.0,
                    product_region_code=w.region,
                    pricing_unit="Hrs",
                    line_item_line_item_description=f"Linux/UNIX, {w.instance_type} reservation applied",
                )
            )
    return lines


def _other_usage(scenario: Scenario, hours: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return an unattached volume as rows of 24 hours, and the planted anomalies."""
    there = {int(hour) for hour in hours}
    lines = []
    for first in range(0, scenario.hours - 23, 24):
        if first in there and first + 23 in there:
            lines.append(
                _line(
                    scenario,
                    "Usage",
                    scenario.time(first),
                    scenario.time(first + 24),
                    "volume",
                    line_item_usage_type="EBS:VolumeUsage.gp3",
                    line_item_operation="CreateVolume-Gp3",
                    line_item_resource_id="vol-0synthetic0unattached",
                    line_item_usage_amount=3.3333333333,
                    line_item_unblended_rate="0.08",
                    line_item_unblended_cost=0.2666666667,
                    pricing_public_on_demand_rate="0.08",
                    pricing_public_on_demand_cost=0.2666666667,
                    pricing_unit="GB-Mo",
                    product_product_family="Storage",
                    product_region_code="us-east-1",
                    product_sku="SKUVOLUME0000000",
                    pricing_rate_code="SKUVOLUME0000000.TERM.RATE",
                    line_item_line_item_description="$0.08 per GB-month of gp3 storage",
                )
            )
    for anomaly in scenario.anomalies:
        if anomaly.hour in there:
            w = scenario.workloads[anomaly.workload]
            begin = scenario.time(anomaly.hour)
            lines.append(
                _line(
                    scenario,
                    "Usage",
                    begin,
                    begin + timedelta(hours=1),
                    f"anomaly-{w.name}",
                    line_item_usage_account_id=w.account,
                    line_item_usage_type="DataTransfer-Out-Bytes",
                    line_item_operation="RunInstances",
                    line_item_resource_id="i-" + instance_token(w, 0, 0),
                    line_item_usage_amount=anomaly.cost / 0.09,
                    line_item_unblended_rate="0.09",
                    line_item_unblended_cost=anomaly.cost,
                    pricing_public_on_demand_rate="0.09",
                    pricing_public_on_demand_cost=anomaly.cost,
                    pricing_unit="GB",
                    product_product_family="Data Transfer",
                    product_region_code=w.region,
                    product_sku="SKUTRANSFER00000",
                    pricing_rate_code="SKUTRANSFER00000.TERM.RATE",
                    resource_tags=[(f"user_{k}", v) for k, v in w.tags.items()],
                    line_item_line_item_description="$0.09 per GB data transfer out",
                )
            )
    return lines


def _month_end(scenario: Scenario, month: datetime, tax: float) -> list[dict[str, Any]]:
    following = (month + timedelta(days=32)).replace(day=1)
    one_hour = month + timedelta(hours=1)
    return [
        _line(
            scenario,
            "Tax",
            month,
            following,
            "tax",
            line_item_unblended_cost=tax,
            line_item_line_item_description="Tax",
        ),
        _line(
            scenario,
            "Credit",
            month,
            one_hour,
            "credit",
            line_item_unblended_cost=-scenario.credit,
            line_item_line_item_description="Promotional credit",
        ),
        _line(
            scenario,
            "Refund",
            month,
            one_hour,
            "refund",
            line_item_unblended_cost=-scenario.refund,
            line_item_usage_type="BoxUsage:m5.large",
            line_item_line_item_description="Refund",
        ),
    ]
