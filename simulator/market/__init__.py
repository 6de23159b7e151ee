"""Markets: pools x ticks of spot price, spot capacity and on-demand price."""

from simulator.market.market import UNLIMITED_CAPACITY, Market, Pool, ticks_for

__all__ = ["UNLIMITED_CAPACITY", "Market", "Pool", "ticks_for"]
