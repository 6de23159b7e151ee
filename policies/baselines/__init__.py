"""The policies that users already know: the yardstick of every comparison and the controller's fallback.

Each is pure, and all but round robin look only at the tick they decide. Over several pools each uses the
cheapest available one and stays where it runs, unless its name says otherwise.
"""

from policies.baselines.cheapest_first import CheapestFirst
from policies.baselines.greedy import Greedy
from policies.baselines.on_demand import OnDemandOnly
from policies.baselines.round_robin import RoundRobinUniformProgress
from policies.baselines.spot_when_available import SpotWhenAvailable
from policies.baselines.uniform_progress import UniformProgress

__all__ = [
    "CheapestFirst",
    "Greedy",
    "OnDemandOnly",
    "RoundRobinUniformProgress",
    "SpotWhenAvailable",
    "UniformProgress",
]
