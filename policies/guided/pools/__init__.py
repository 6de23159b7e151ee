"""The planner over several pools, corrected by one network that treats all pools alike."""

from policies.guided.pools.describe import GAP, JOB_NAMES, POOL_NAMES, Described, describe
from policies.guided.pools.network import PoolNetwork
from policies.guided.pools.policy import ALGORITHM, FEATURE_NAMES, GuidedPools, bundle_parts, look

__all__ = [
    "ALGORITHM",
    "FEATURE_NAMES",
    "GAP",
    "JOB_NAMES",
    "POOL_NAMES",
    "Described",
    "GuidedPools",
    "PoolNetwork",
    "bundle_parts",
    "describe",
    "look",
]
