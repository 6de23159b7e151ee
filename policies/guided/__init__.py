"""A planner's costs, corrected by small networks: the learned policy of deadline jobs."""

from policies.guided.advice import ADVICE_NAMES, COST_GAPS, write_advice
from policies.guided.policy import ALGORITHM, GuidedPolicy, TrainedRange

__all__ = ["ADVICE_NAMES", "ALGORITHM", "COST_GAPS", "GuidedPolicy", "TrainedRange", "write_advice"]
