"""The semi-Markov planner of deadline jobs: belief, tables, decisions."""

from policies.planner.policy import SemiMarkovPlanner
from policies.planner.tables import PlannerTables, TickModel

__all__ = ["PlannerTables", "SemiMarkovPlanner", "TickModel"]
