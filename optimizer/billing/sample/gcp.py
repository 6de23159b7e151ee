"""Writes a synthetic Google Cloud detailed usage cost export as parquet or JSON lines."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from optimizer.billing.sample.scenario import OPTIONS, PlantedWorkload, Scenario, instance_token, usage
from optimizer.billing.sample.truth import Truth, money

LABELS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))
TIME = pa.timestamp("us", tz="UTC")

EXPORT_SCHEMA = pa.schema(
    [
        ("billing_account_id", pa.string()),
        ("service", pa.struct([("id", pa.string()), ("description", pa.string())])),
        ("sku", pa.struct([("id", pa.string()), ("description", pa.string())])),
        ("usage_start_time", TIME),
        ("usage_end_time", TIME),
        ("project", pa.struct([("id", pa.string()), ("name", pa.string())])),
        ("labels", LABELS),
        ("system_labels", LABELS),
        ("tags", LABELS),
        (
            "location",
            pa.struct(
                [
                    ("location", pa.string()),
                    ("country", pa.string()),
                    ("region", pa.string()),
                    ("zone", pa.string()),
                ]
            ),
        ),
        ("cost", pa.float64()),
        ("currency", pa.string()),
        ("currency_conversion_rate", pa.float64()),
        (
            "usage",
            pa.struct(
                [
                    ("amount", pa.float64()),
                    ("unit", pa.string()),
                    ("amount_in_pricing_units", pa.float64()),
                    ("pricing_unit", pa.string()),
                ]
            ),
        ),
        (
            "credits",
            pa.list_(
                pa.struct(
                    [
                        ("name", pa.string()),
                        ("amount", pa.float64()),
                        ("full_name", pa.string()),
                        ("id", pa.string()),
                        ("type", pa.string()),
                    ]
                )
            ),
        ),
        ("invoice", pa.struct([("month", pa.string())])),
        ("cost_type", pa.string()),
        (
            "adjustment_info",
            pa.struct(
                [
                    ("id", pa.string()),
                    ("description", pa.string()),
                    ("mode", pa.string()),
                    ("type", pa.string()),
                ]
            ),
        ),
        ("cost_at_list", pa.float64()),
        ("resource", pa.struct([("name", pa.string()), ("global_name", pa.string())])),
        ("subscription", pa.struct([("instance_id", pa.string())])),
        ("seller_name", pa.string()),
    ]
)

CORE_SHARE = 0.8
"""Share of an instance's price that its vCPU line carries; the memory line carries the rest."""


def write_gcp(
    scenario: Scenario,
    folder: Path,
    *,
    format: Literal["parquet", "jsonl"] = "parquet",  # noqa: A002 (the command-line word)
) -> Truth:
    """Write `scenario` as a detailed export and return its planted truth.

    Every instance-hour is two lines, as Google bills it: vCPU seconds and memory byte-seconds. Spot shows in
    the SKU description only. Committed use is an on-demand line with a credit, beside the hourly fee.
    Invoice months are those of Los Angeles.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truth = Truth()
    every = np.flatnonzero(scenario.present())
    rows = usage(scenario, every)
    truth.count(rows.option)
    lines: list[dict[str, Any]] = []
    options: list[str] = []
    for index, hour, option, instance in zip(
        rows.workload, rows.hour, rows.option, rows.instance, strict=True
    ):
        w = scenario.workloads[int(index)]
        pair = _instance_hour(scenario, w, int(hour), int(option), int(instance))
        lines += pair
        options += [OPTIONS[int(option)], ""]
    lines += _fees(scenario, every, truth) + _other(scenario, every)
    options += [""] * (len(lines) - len(options))
    for line in lines:
        total = money(line["cost"]) + money([c["amount"] for c in line["credits"]])
        truth.billed[line["invoice"]["month"], scenario.currency] += total
        truth.effective += total
    path = folder / f"sample-gcp-detailed.{format}"
    if format == "parquet":
        pq.write_table(pa.Table.from_pylist(lines, schema=EXPORT_SCHEMA), path)
        truth.lines[path.name] = options
    else:
        with path.open("w", encoding="utf-8") as out:
            for line in lines:
                out.write(json.dumps(line, default=_stamp) + "\n")
        truth.lines[path.name] = options
    truth.files.append(path)
    return truth


def _stamp(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    raise TypeError(f"{type(value).__name__} in an export line")


def _invoice_month(moment: datetime) -> str:
    return moment.astimezone(ZoneInfo("America/Los_Angeles")).strftime("%Y%m")


def _line(
    scenario: Scenario,
    begin: datetime,
    hours: float,
    service: str,
    sku: tuple[str, str],
    cost: float,
    **fields: Any,
) -> dict[str, Any]:
    return {
        "billing_account_id": scenario.billing_account,
        "service": {"id": "6F81-5844-456A", "description": service},
        "sku": {"id": sku[0], "description": sku[1]},
        "usage_start_time": begin,
        "usage_end_time": begin + timedelta(hours=hours),
        "project": {"id": "billing-admin", "name": "billing-admin"},
        "labels": [{"key": "synthetic", "value": "true"}],
        "system_labels": [],
        "tags": [],
        "location": {"location": "us-central1", "country": "US", "region": "us-central1", "zone": None},
        "cost": cost,
        "currency": scenario.currency,
        "currency_conversion_rate": 1.0,
        "usage": {
            "amount": 0.0,
            "unit": "requests",
            "amount_in_pricing_units": 0.0,
            "pricing_unit": "requests",
        },
        "credits": [],
        "invoice": {"month": _invoice_month(begin)},
        "cost_type": "regular",
        "adjustment_info": None,
        "cost_at_list": cost,
        "resource": {"name": None, "global_name": None},
        "subscription": None,
        "seller_name": "Google LLC",
        **fields,
    }


def _instance_hour(
    scenario: Scenario, w: PlantedWorkload, hour: int, option: int, instance: int
) -> list[dict[str, Any]]:
    begin = scenario.time(hour)
    price = w.spot_price if option == 1 else w.on_demand_price
    family = w.instance_type.split("-")[0].upper()
    prefix = "Spot Preemptible " if option == 1 else ""
    name = f"vm-{instance_token(w, option, instance)}"
    path = f"//compute.googleapis.com/projects/{w.account}/zones/{w.zone}/instances/{name}"
    made = []
    parts = (
        ("Core", CORE_SHARE, w.vcpus * 3600.0, "seconds", w.vcpus, "hour"),
        ("Ram", 1 - CORE_SHARE, w.memory_gib * 2**30 * 3600, "byte-seconds", w.memory_gib, "gibibyte hour"),
    )
    for part, share, amount, unit, priced, pricing_unit in parts:
        cost = round(price * share, 9)
        at_list = round(w.on_demand_price * share, 9)
        credit = [
            {
                "name": "Committed Usage Discount",
                "amount": -cost,
                "full_name": None,
                "id": f"cud-{w.name}",
                "type": "COMMITTED_USAGE_DISCOUNT",
            }
        ]
        made.append(
            _line(
                scenario,
                begin,
                1,
                "Compute Engine",
                (f"{family}-{part}-{option}", f"{prefix}{family} Instance {part} running in Americas"),
                cost,
                project={"id": w.account, "name": w.account},
                labels=[{"key": k, "value": v} for k, v in w.tags.items()],
                system_labels=[
                    {"key": "compute.googleapis.com/machine_spec", "value": w.instance_type},
                    {"key": "compute.googleapis.com/cores", "value": str(w.vcpus)},
                ],
                location={"location": w.region, "country": "US", "region": w.region, "zone": w.zone},
                usage={
                    "amount": amount,
                    "unit": unit,
                    "amount_in_pricing_units": float(priced),
                    "pricing_unit": pricing_unit,
                },
                credits=credit if option == 2 else [],
                cost_at_list=cost if option == 1 else at_list,
                resource={
                    "name": name,
                    "global_name": path,
                },
                subscription={"instance_id": f"commitment-{w.name}"} if option == 2 else None,
            )
        )
    return made


def _fees(
    scenario: Scenario, hours: np.ndarray[Any, np.dtype[np.int64]], truth: Truth
) -> list[dict[str, Any]]:
    lines = []
    for w in scenario.workloads:
        for hour in hours if w.bought else ():
            fee = round(w.committed_price * w.bought, 9)
            truth.unused += money(fee) * (w.bought - int(w.committed[hour])) / w.bought
            lines.append(
                _line(
                    scenario,
                    scenario.time(int(hour)),
                    1,
                    "Compute Engine",
                    (
                        f"CUD-{w.name}",
                        f"Commitment v1: {w.instance_type.split('-')[0].upper()} Cpu in Americas for 1 Year",
                    ),
                    fee,
                    usage={
                        "amount": w.bought * w.vcpus * 3600.0,
                        "unit": "seconds",
                        "amount_in_pricing_units": float(w.bought * w.vcpus),
                        "pricing_unit": "hour",
                    },
                    location={"location": w.region, "country": "US", "region": w.region, "zone": None},
                    subscription={"instance_id": f"commitment-{w.name}"},
                )
            )
    return lines


def _other(scenario: Scenario, hours: np.ndarray[Any, np.dtype[np.int64]]) -> list[dict[str, Any]]:
    lines = []
    there = {int(h) for h in hours}
    for anomaly in scenario.anomalies:
        if anomaly.hour in there:
            w = scenario.workloads[anomaly.workload]
            lines.append(
                _line(
                    scenario,
                    scenario.time(anomaly.hour),
                    1,
                    "Compute Engine",
                    ("EGRESS", "Network Internet Data Transfer Out from Americas to EMEA"),
                    anomaly.cost,
                    project={"id": w.account, "name": w.account},
                    labels=[{"key": k, "value": v} for k, v in w.tags.items()],
                    usage={
                        "amount": anomaly.cost / 0.12 * 2**30,
                        "unit": "bytes",
                        "amount_in_pricing_units": anomaly.cost / 0.12,
                        "pricing_unit": "gibibyte",
                    },
                )
            )
    months: dict[str, datetime] = {}
    for hour in hours:
        months.setdefault(_invoice_month(scenario.time(int(hour))), scenario.time(int(hour)))
    for begin in months.values():
        lines.append(_line(scenario, begin, 1, "Invoice", ("TAX", "Tax"), 12.34, cost_type="tax"))
        lines.append(
            _line(
                scenario, begin, 1, "Invoice", ("ROUND", "Rounding error"), 0.004, cost_type="rounding_error"
            )
        )
        lines.append(
            _line(
                scenario,
                begin,
                1,
                "Compute Engine",
                ("N2-Core-0", "N2 Instance Core running in Americas"),
                -scenario.refund,
                cost_type="adjustment",
                adjustment_info={
                    "id": "adj-1",
                    "description": "Billing correction",
                    "mode": "PARTIAL_CORRECTION",
                    "type": "USAGE_CORRECTION",
                },
            )
        )
        lines.append(
            _line(
                scenario,
                begin,
                1,
                "Cloud Storage",
                ("STORAGE", "Standard Storage US Regional"),
                40.0,
                credits=[
                    {
                        "name": "Trial credit",
                        "amount": -scenario.credit,
                        "full_name": None,
                        "id": "promo-1",
                        "type": "PROMOTION",
                    }
                ],
            )
        )
    return lines
