"""The planner over several pools, corrected by one network that treats all pools alike."""

from policies.guided.pools.describe import GAP, JOB_NAMES, POOL_NAMES, Advice, Described, describe
from policies.guided.pools.network import PoolNetwork
from policies.guided.pools.policy import ALGORITHM, FEATURE_NAMES, GuidedPools, advise, bundle_parts

__all__ = [
    "ALGORITHM",
    "FEATURE_NAMES",
    "GAP",
    "JOB_NAMES",
    "POOL_NAMES",
    "Advice",
    "Described",
    "GuidedPools",
    "PoolNetwork",
    "advise",
    "bundle_parts",
    "describe",
]
