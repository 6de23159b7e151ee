"""The planner over several pools: belief about each, one exact programme over all of them."""

from policies.planner.several.policy import SeveralPools, is_unseen

__all__ = ["SeveralPools", "is_unseen"]
