"""What every number of spares with every on-demand reserve would cost, in the planner's eyes, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

from policies.service.holdings import NEVER
from policies.service.lookahead.kernel import (
    HIGHEST_HAZARD,
    UNLIMITED,
    Beliefs,
    FloatArray,
    IntArray,
    SmallArray,
    chances,
    joint_chances,
)
from policies.service.lookahead.layout import MOST_SPARES, RESERVE_STEPS, choose, price_of
from policies.service.lookahead.survival import UNKNOWN, hazard

STATISTICS = 6
"""Columns of `statistics`: chance of a loss per tick summed over what is held, lowest and mean over pools
with room; share of pools with room; factors of the fleet's losses and of losses that come together."""


@njit(cache=True, nogil=True)
def weigh(
    tick_seconds: float,
    curve: FloatArray,
    priors: tuple[float, float, float, float, float],
    retry_ticks: int,
    settle_hours: float,
    ahead: float,
    loss_cost: FloatArray,
    demand: IntArray,
    cold_start: IntArray,
    committed: IntArray,
    granted: IntArray,
    spot_price: FloatArray,
    on_demand_price: FloatArray,
    region: IntArray,
    refused: SmallArray,
    beliefs: Beliefs,
    value: FloatArray,
    statistics: FloatArray,
) -> None:
    """Write the value of every option and what they rest on.

    Args:
        tick_seconds: And the next: see `lookahead.kernel.decide`.
        curve: See there.
        priors: See there.
        retry_ticks: See there.
        settle_hours: See there.
        ahead: See there.
        loss_cost: See there.
        demand: See there.
        cold_start: See there.
        committed: See there.
        granted: See there.
        spot_price: See there.
        on_demand_price: See there.
        region: See there.
        refused: See there.
        beliefs: See there; `base` is overwritten with what `decide` would write.
        value: (N, 20) USD per hour with the cost of shortages; option = 5 x spares + quarters of reserve.
        statistics: (N, 6) see `STATISTICS`.
    """
    pools = region.shape[1]
    chance, joint = np.empty(pools), np.empty((pools, pools))
    space, target, only = np.empty(pools, np.int64), np.empty(pools + 1, np.int64), np.empty(2, np.int64)
    for i in range(demand.shape[0]):
        for p in range(pools):
            down = refused[i, p] * tick_seconds if refused[i, p] < NEVER else UNKNOWN
            now = hazard(curve, beliefs.up[i, p] * tick_seconds, down) * tick_seconds
            beliefs.base[i, p] = min(now, HIGHEST_HAZARD)
            space[p] = UNLIMITED
            if refused[i, p] < retry_ticks:
                space[p] = max(np.int64(beliefs.room[i, p]), granted[i, p])
        chances(tick_seconds, curve, priors, ahead, i, refused[i], beliefs, chance)
        shared = (beliefs.pairs[i, 0] + priors[2]) / (beliefs.pairs[i, 1] + priors[2])
        joint_chances(chance, region[i], shared, cold_start[i] + 1, joint)
        more, no_more = beliefs.depth[i, 0] + priors[3], beliefs.depth[i, 1] + priors[4]
        change = cold_start[i] * tick_seconds / 3600.0 / settle_hours
        for spares in range(MOST_SPARES + 1):
            for quarters in range(RESERVE_STEPS + 1):
                only[0], only[1] = spares, quarters
                shortages = choose(
                    demand[i], granted[i], space, spot_price[i], on_demand_price[i], committed[i], chance,
                    joint, more / (more + no_more), region[i], loss_cost[i], change, only, target,
                )  # fmt: skip
                value[i, spares * (RESERVE_STEPS + 1) + quarters] = loss_cost[i] * shortages + price_of(
                    target[:pools], int(target[pools]), granted[i], spot_price[i], on_demand_price[i],
                    committed[i], change,
                )  # fmt: skip
        _summarise(granted[i], space, chance, statistics[i])
        seen, foreseen = priors[1], priors[1]
        for p in range(pools):
            seen += beliefs.lost[i, p]
            foreseen += beliefs.expected[i, p]
        statistics[i, 4] = seen / foreseen
        statistics[i, 5] = shared


@njit(cache=True, nogil=True)
def _summarise(held: IntArray, space: IntArray, chance: FloatArray, out: FloatArray) -> None:
    pools = chance.shape[0]
    out[:4] = 0.0
    out[1] = HIGHEST_HAZARD
    with_room = 0
    for p in range(pools):
        if held[p] > 0:
            out[0] += chance[p]
        if space[p] > 0:
            with_room += 1
            out[1] = min(out[1], chance[p])
            out[2] += chance[p]
    out[2] = out[2] / with_room if with_room else HIGHEST_HAZARD
    out[3] = with_room / pools
