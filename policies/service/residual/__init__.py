"""What is learned on top of the look-ahead planner: how many spares and how much on-demand in reserve."""

from policies.service.residual.features import FEATURE_NAMES, OPTIONS, describe, option_of
from policies.service.residual.policy import Advice, ResidualPlanner

__all__ = ["FEATURE_NAMES", "OPTIONS", "Advice", "ResidualPlanner", "describe", "option_of"]
