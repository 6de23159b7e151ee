"""What the controller saw, as a market: the user's own prices, failed launches and interruptions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from optimizer.plan import Plan
from simulator.errors import InputError
from simulator.market import Market
from simulator.market.market import UNLIMITED_CAPACITY

LONGEST_TICKS = 1_000_000


def recorded_market(seen: Sequence[tuple[float, str, float | None, int, bool]], plan: Plan) -> Market:
    """Make a market of what was seen.

    In a tick in which a pool refused a launch or took an instance back it had what is held afterwards;
    otherwise, as long as something is held there, it had as many as asked. A pool that was not tried, and a
    tick that was not run, keep what was known last; before the first word a pool is taken to have some.

    Args:
        seen: From `Journal.seen`, oldest first.
        plan: Its tick, pools and on-demand prices.

    Returns:
        The market, from the first tick seen to the last.

    Raises:
        InputError: Nothing was seen of a pool of the plan.
    """
    pools = {pool.name: pool for one in plan.workloads for pool in one.pools}
    rows = [row for row in seen if row[1] in pools]
    if not rows:
        raise InputError("the journal has seen no pool of this plan; accepted: the plan that ran")
    created, tick = plan.created.timestamp(), plan.tick_seconds
    first = int((rows[0][0] - created) // tick)
    ticks = int((rows[-1][0] - created) // tick) - first + 1
    if ticks > LONGEST_TICKS:
        raise InputError(f"the journal covers {ticks:,} ticks; accepted: at most {LONGEST_TICKS:,}")
    names = list(pools)
    place = {name: k for k, name in enumerate(names)}
    price = np.full((len(names), ticks), np.nan)
    capacity = np.full((len(names), ticks), -1, np.int64)
    for at, name, quoted, held, refused in rows:
        p, t = place[name], int((at - created) // tick) - first
        if quoted is not None:
            price[p, t] = quoted
        if refused:
            capacity[p, t] = held
        elif held and capacity[p, t] < 0:
            capacity[p, t] = UNLIMITED_CAPACITY
    for p, name in enumerate(names):
        known = np.flatnonzero(~np.isnan(price[p]))
        if not known.size:
            raise InputError(
                f"no price of pool {name} was ever seen; accepted: a plan whose pools have prices"
            )
        price[p] = price[p, known[np.maximum(np.searchsorted(known, np.arange(ticks), "right") - 1, 0)]]
        told = np.flatnonzero(capacity[p] >= 0)
        before = np.searchsorted(told, np.arange(ticks), "right") - 1
        if told.size:
            capacity[p] = np.where(before >= 0, capacity[p, told[np.maximum(before, 0)]], UNLIMITED_CAPACITY)
        else:
            capacity[p] = UNLIMITED_CAPACITY
    return Market.build(
        [pools[name].pool for name in names],
        tick_seconds=tick,
        start=datetime.fromtimestamp(created + first * tick, UTC),
        spot_price=price,
        spot_capacity=capacity,
        on_demand_price=np.array([pools[name].on_demand_price for name in names]),
        source="recorded by spotwise controller",
    )
