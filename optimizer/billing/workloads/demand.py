"""Hourly demand of every workload, from the instance time in a ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optimizer.billing.dimensions import (
    MISSING,
    RUN_HOURS,
    SHARED_HOURS,
    column_name,
    expression,
    is_run,
    spread_over_hours,
)
from simulator.errors import InputError

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from optimizer.billing.ledger import Ledger

OPTIONS = ("on-demand", "spot", "committed")
PRICING = {"Standard": 0, "Dynamic": 1, "Committed": 2}
GAP_SHARE = 0.5
"""Share of hours with rows from which on an hour without is a gap in the export, not one without cost."""


@dataclass(frozen=True)
class Demand:
    """What one workload ran, hour by hour.

    Attributes:
        key: Its value per dimension.
        provider: Cloud.
        billing_account: Account that pays, whose export tells which hours are missing.
        region: Region.
        zones: Zones it ran in.
        instance_type: Type that the counts are in.
        hours: Instances per hour and purchase option (`OPTIONS`), shape (H, 3); zero where `missing`.
        missing: Hours that the export lacks, shape (H,): nothing is known of them.
        imputed: Hours whose demand was shared out of a longer row, shape (H,).
        cost: Effective cost of it all.
        on_demand_equivalent: Cost at on-demand list price of the hours it is known for.
        equivalent_hours: Instance-hours that `on_demand_equivalent` is for.
        currency: Currency of both.
    """

    key: dict[str, str]
    provider: str
    billing_account: str
    region: str
    zones: tuple[str, ...]
    instance_type: str
    hours: NDArray[np.float64]
    missing: NDArray[np.bool_]
    imputed: NDArray[np.bool_]
    cost: float
    on_demand_equivalent: float
    equivalent_hours: float
    currency: str

    @property
    def total(self) -> NDArray[np.float64]:
        """Instances per hour, shape (H,)."""
        return np.asarray(self.hours.sum(axis=1), dtype=np.float64)

    @property
    def on_demand_price(self) -> float | None:
        """Amount per instance-hour on demand at list price; None when the ledger does not tell."""
        if self.equivalent_hours <= 0:
            return None
        return round(self.on_demand_equivalent / self.equivalent_hours, 9)


def _key(dimension: str) -> str:
    # Named apart: `provider` is a dimension too.
    return f"by_{column_name(dimension)}"


def hourly(rows: ir.Table, by: tuple[str, ...]) -> ir.Table:
    """Return instance-hours per workload, hour and purchase option.

    Args:
        rows: The ledger.
        by: Dimensions that tell workloads apart (`optimizer.billing.dimensions`).

    Returns:
        Columns: `by_` and its name for each dimension, `provider`, `billing_account`, `region_`, `zone_`,
        `instance_type_`, `currency_`, `pricing_`, `hour`, `instances_`, `imputed`, `cost_`, `equivalent_`,
        `equivalent_hours_`.
    """
    import ibis

    zero = ibis.literal(0).cast("decimal(38, 15)")
    # Google bills a machine in two lines: its memory has a type but no instance-hours, and belongs to the
    # price.
    machines = rows.filter(is_run(rows))
    known = machines.x_OnDemandEquivalentCost.notnull()
    slim = machines.select(
        **{_key(name): expression(machines, name) for name in by},
        provider=machines.ProviderName,
        billing_account=machines.BillingAccountId,
        region_=ibis.coalesce(machines.RegionId, MISSING),
        zone_=machines.AvailabilityZone,
        instance_type_=ibis.coalesce(machines.x_InstanceType, MISSING),
        currency_=machines.BillingCurrency,
        pricing_=machines.PricingCategory,
        ChargePeriodStart=machines.ChargePeriodStart,
        ChargePeriodEnd=machines.ChargePeriodEnd,
        is_run=ibis.literal(True),
        instances_=ibis.coalesce(machines.x_InstanceHours, zero),
        cost_=machines.EffectiveCost,
        equivalent_=ibis.coalesce(machines.x_OnDemandEquivalentCost, zero),
        equivalent_hours_=ibis.cases((known, ibis.coalesce(machines.x_InstanceHours, zero)), else_=zero),
    )
    amounts = ("instances_", "cost_", "equivalent_", "equivalent_hours_")
    spread = spread_over_hours(slim, amounts)
    keys = [_key(name) for name in by]
    keys += [
        "provider",
        "billing_account",
        "region_",
        "zone_",
        "instance_type_",
        "currency_",
        "pricing_",
        "hour",
    ]
    return spread.group_by(*keys).agg(
        **{name: spread[name].cast("float64").sum() for name in amounts}, imputed=spread.imputed.any()
    )


def coverage(rows: ir.Table) -> ir.Table:
    """Return the stretches with usage rows per bill: `billing_account`, `hour`, `hours`, `long`, `n`.

    `hour` is the first hour touched, `hours` how many are, `long` whether the row is longer than an hour.
    """
    import ibis

    usage = rows.filter(rows.ChargeCategory == "Usage")
    first = usage.ChargePeriodStart.truncate("h")
    length = usage.ChargePeriodEnd.epoch_seconds() - usage.ChargePeriodStart.epoch_seconds()
    touched = (usage.ChargePeriodEnd.epoch_seconds() - first.epoch_seconds() + 3599) // 3600
    longest = ibis.cases((is_run(usage), RUN_HOURS * 3600), else_=SHARED_HOURS * 3600)
    shown = usage.mutate(first=first, length=length, touched=touched)
    shown = shown.filter((length > 0) & (length <= longest))
    grouped = shown.group_by(
        billing_account=shown.BillingAccountId,
        hour=shown["first"],
        hours=shown.touched,
        long=shown.length > 3600,
    )
    return grouped.agg(n=shown.count())


def read_demand(ledger: Ledger, by: tuple[str, ...]) -> tuple[datetime, list[Demand]]:
    """Return the first hour (UTC) and the demand of every workload over the span of the ledger.

    One workload is one value of `by` and one instance type, in one region of one cloud.

    Raises:
        InputError: The ledger has no instance time.
    """
    table = ledger.arrow(hourly(ledger.table, by))
    if table.num_rows == 0:
        raise InputError(
            f"{ledger.path}: no row is time of a compute instance; ingest an export with machines in it"
        )
    columns = {name: np.asarray(table[name].to_numpy(zero_copy_only=False)) for name in table.column_names}
    stamps = columns["hour"].astype("datetime64[h]")
    first, hours, missing = _calendar(ledger, stamps)
    at = (stamps - np.datetime64(first, "h")).astype(np.int64)
    keys = [_key(name) for name in by]
    identity = [*keys, "provider", "billing_account", "region_", "instance_type_", "currency_"]
    labels = list(zip(*(columns[name] for name in identity), strict=True))
    index: dict[tuple[Any, ...], int] = {}
    workload = np.array([index.setdefault(label, len(index)) for label in labels], dtype=np.int64)
    pricing = np.array([PRICING.get(str(p), 0) for p in columns["pricing_"]], dtype=np.int64)
    amounts = np.zeros((len(index), hours, len(OPTIONS)))
    np.add.at(amounts, (workload, at, pricing), columns["instances_"].astype(np.float64))
    imputed = np.zeros((len(index), hours), dtype=bool)
    np.logical_or.at(imputed, (workload, at), columns["imputed"].astype(bool))
    sums = {
        name: np.bincount(workload, columns[name].astype(np.float64), len(index))
        for name in ("cost_", "equivalent_", "equivalent_hours_")
    }
    zones: dict[int, set[str]] = {}
    for number, zone in zip(workload, columns["zone_"], strict=True):
        if zone is not None:
            zones.setdefault(int(number), set()).add(str(zone))
    found = []
    for label, number in sorted(index.items(), key=lambda item: str(item[0])):
        said = dict(zip(identity, (str(part) for part in label), strict=True))
        found.append(
            Demand(
                key={name: said[column] for name, column in zip(by, keys, strict=True)},
                provider=said["provider"],
                billing_account=said["billing_account"],
                region=said["region_"],
                zones=tuple(sorted(zones.get(number, ()))),
                instance_type=said["instance_type_"],
                hours=amounts[number],
                missing=missing.get(said["billing_account"], np.zeros(hours, dtype=bool)),
                imputed=imputed[number],
                cost=float(sums["cost_"][number]),
                on_demand_equivalent=float(sums["equivalent_"][number]),
                equivalent_hours=float(sums["equivalent_hours_"][number]),
                currency=said["currency_"],
            )
        )
    return first, found


def _calendar(
    ledger: Ledger, hours_seen: NDArray[np.datetime64]
) -> tuple[datetime, int, dict[str, NDArray[np.bool_]]]:
    """Return the first hour, the number of hours, and per bill which hours its export lacks."""
    rows = ledger.rows(coverage(ledger.table))
    begins = np.array([hour.replace(tzinfo=None) for _, hour, _, _, _ in rows], dtype="datetime64[h]")
    lengths = np.array([hours for _, _, hours, _, _ in rows], dtype=np.int64)
    low = min(np.concatenate([begins, hours_seen.min(keepdims=True)]))
    high = max(np.concatenate([begins + lengths, hours_seen.max(keepdims=True) + 1]))
    first, hours = low.astype(datetime), int((high - low).astype(np.int64))
    seen: dict[str, dict[bool, NDArray[np.bool_]]] = {}
    for (account, _, touched, long, _), at in zip(rows, (begins - low).astype(np.int64), strict=True):
        masks = seen.setdefault(str(account), {False: np.zeros(hours, bool), True: np.zeros(hours, bool)})
        masks[bool(long)][at : at + touched] = True
    return first, hours, {account: _lacking(masks[False], masks[True]) for account, masks in seen.items()}


def _lacking(hourly_rows: NDArray[np.bool_], long_rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the hours that an export lacks, given those it has rows for, shape (H,) each."""
    either = hourly_rows | long_rows
    inside = slice(int(np.argmax(either)), either.size - int(np.argmax(either[::-1])))
    # An hourly export says something every hour; its daily rows (storage) do not prove that it is whole.
    shown = hourly_rows if hourly_rows[inside].mean() >= GAP_SHARE else either
    lacks = np.ones(either.size, dtype=bool)
    # A bill of one small machine has hours without any row: too little to speak of gaps.
    lacks[inside] = ~shown[inside] if shown[inside].mean() >= GAP_SHARE else False
    return lacks
