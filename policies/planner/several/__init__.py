"""The planner over several pools: belief about each, one exact programme over all of them."""

from policies.planner.several.policy import SeveralPools

__all__ = ["SeveralPools"]
