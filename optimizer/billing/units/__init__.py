"""Unit economics: what a request, a user or a job costs, over time, and why that changed."""

from optimizer.billing.units.cost import Explanation, UnitCost, UnitCosts, unit_costs
from optimizer.billing.units.metrics import Metric, read_metric, read_prometheus

__all__ = ["Explanation", "Metric", "UnitCost", "UnitCosts", "read_metric", "read_prometheus", "unit_costs"]
