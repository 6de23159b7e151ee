"""Unit costs of workloads, where a metric says what they did."""

from __future__ import annotations

from pathlib import Path

from optimizer.billing.ledger import Ledger
from optimizer.billing.units import read_metric, unit_costs
from optimizer.billing.workloads import WorkloadFile
from optimizer.recommend.result import UnitCost


def unit_costs_of(ledger: Path, found: WorkloadFile, metric: Path | None, unit: str) -> dict[str, UnitCost]:
    """Cost per unit of every workload that the metric names, by the name of the workload.

    The metric names values of the first dimension that workloads are told apart by; workloads that share one
    (as of two instance types) share its unit cost.

    Raises:
        InputError: The metric cannot be read or fits nothing.
    """
    if metric is None:
        return {}
    by = found.by[0]
    with Ledger.open(ledger) as opened:
        points = unit_costs(opened, read_metric(metric), by=by, unit=unit, per="month").points
    made: dict[str, UnitCost] = {}
    for workload in found.workloads:
        own = [p for p in points if p.workload == workload.key.get(by) and p.currency == workload.currency]
        units, cost = sum(p.units for p in own), sum(p.cost for p in own)
        if own:
            made[workload.name] = UnitCost(
                unit=unit, units=units, cost=cost, cost_per_unit=cost / units if units > 0 else None
            )
    return made
