"""Markets: pools x ticks of spot price, spot capacity and on-demand price."""

from simulator.market.market import UNLIMITED_CAPACITY, Market, Pool, ticks_for

__all__ = ["UNLIMITED_CAPACITY", "Market", "Pool", "sample_market", "ticks_for"]


def sample_market(name: str = "v100") -> Market:
    """Load a sample market that ships with Spotwise; see `simulator.sample_data`.

    Raises:
        InputError: There is no sample of that name.
    """
    from simulator import sample_data  # late: it needs this module

    return sample_data.sample_market(name)
