"""The policies that users already know: the yardstick of every comparison and the controller's fallback.

Each is pure, needs no memory and looks only at the tick it decides. Over several pools each uses the
cheapest available one and stays where it runs.
"""

from policies.baselines.greedy import Greedy
from policies.baselines.on_demand import OnDemandOnly
from policies.baselines.spot_when_available import SpotWhenAvailable
from policies.baselines.uniform_progress import UniformProgress

__all__ = ["Greedy", "OnDemandOnly", "SpotWhenAvailable", "UniformProgress"]
