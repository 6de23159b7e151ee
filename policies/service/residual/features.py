"""What the network on top of the planner is shown; the same function in training and in production."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.service.holdings import NEVER
from policies.service.lookahead import LookAhead
from policies.service.lookahead.kernel import Beliefs
from policies.service.lookahead.layout import MOST_SPARES, RESERVE_STEPS
from policies.service.lookahead.policy import price_of_capacity
from policies.service.residual.options import STATISTICS, weigh
from simulator.deadline.observation import FloatArray, IntArray
from simulator.service import ServiceObservation

OPTIONS = (MOST_SPARES + 1) * (RESERVE_STEPS + 1)
"""Numbers of spares times quarters of on-demand reserve."""
STATE_NAMES = (
    "demand",
    "cold_start",
    "on_demand_ratio",
    "weight",
    "ready_surplus",
    "spot_held",
    "on_demand_held",
    "not_ready",
    "largest_share",
    "pools",
    "held_hazard",
    "lowest_hazard",
    "mean_hazard",
    "pools_with_room",
    "fleet_factor",
    "shared_factor",
    "since_loss",
    "since_refusal",
    "seen",
)
FEATURE_NAMES = (
    *(
        f"gap_{spares}_{quarters}"
        for spares in range(MOST_SPARES + 1)
        for quarters in range(RESERVE_STEPS + 1)
    ),
    *STATE_NAMES,
)
"""Inputs of the network: how much worse each option is in the planner's eyes, then the state."""
HIGHEST_GAP = 5.0
"""In spot instances per instance of demand."""
LIMIT = 5.0


def option_of(action: NDArray[Any]) -> IntArray:
    """(N, 2) spares and quarters of (N,) options."""
    return np.stack(np.divmod(np.asarray(action, np.int64), RESERVE_STEPS + 1), axis=1)


def describe(
    planner: LookAhead, observation: ServiceObservation, memory: dict[str, Any], weight: FloatArray
) -> NDArray[np.float32]:
    """(N, F) float32, columns `FEATURE_NAMES`; it does not matter how many pools there are.

    Args:
        planner: Whose eyes.
        observation: What the services see.
        memory: The planner's, after `perceive`.
        weight: (N,) weight of a shortage.
    """
    o, settings, tick = observation, planner.settings, observation.tick_seconds
    size = len(o.demand)
    value, statistics = np.empty((size, OPTIONS)), np.empty((size, STATISTICS))
    cheapest = price_of_capacity(o)
    weigh(
        tick, planner.survival.curve,
        (settings.own_prior, settings.fleet_prior, settings.shared_prior, *settings.deeper_prior),
        max(int(settings.retry_seconds / tick), 1), settings.settle_hours, settings.ahead_seconds / tick,
        weight * o.demand * (o.cold_start_ticks + 1) * cheapest, o.demand, o.cold_start_ticks, o.committed,
        o.granted, o.spot_price, o.on_demand_price, o.region, memory["refused"],
        Beliefs(*(memory[name] for name in Beliefs._fields)), value, statistics,
    )  # fmt: skip
    need = np.maximum(o.demand, 1).astype(np.float64)
    spot, pools = o.granted[:, :-1], o.granted.shape[1] - 1
    gap = (value - value.min(axis=1, keepdims=True)) / np.maximum(need * cheapest, 1e-12)[:, None]
    described = np.empty((size, len(FEATURE_NAMES)), np.float32)
    described[:, :OPTIONS] = np.minimum(gap, HIGHEST_GAP)
    state = described[:, OPTIONS:]
    state[:, 0] = np.log1p(o.demand) / 2.0
    state[:, 1] = o.cold_start_ticks / 10.0
    state[:, 2] = np.log(o.on_demand_price / np.maximum(cheapest, 1e-12))
    state[:, 3] = np.log(weight / 20.0) / 2.0
    state[:, 4] = (o.ready - o.demand) / need
    state[:, 5] = spot.sum(axis=1) / need
    state[:, 6] = o.granted[:, -1] / need
    state[:, 7] = (o.granted.sum(axis=1) - o.ready) / need
    state[:, 8] = spot.max(axis=1) / need
    state[:, 9] = np.log(pools) / 2.0
    state[:, 10:13] = (np.log(statistics[:, :3] + 1e-6) + 7.0) / 3.0
    state[:, 13] = statistics[:, 3]
    state[:, 14:16] = np.log(np.maximum(statistics[:, 4:6], 1e-6))
    state[:, 16] = np.log1p(np.minimum(memory["since_loss"].min(axis=1), NEVER)) / 5.0
    state[:, 17] = np.log1p(np.minimum(memory["refused"].min(axis=1), NEVER)) / 5.0
    state[:, 18] = np.log1p(memory["expected"].sum(axis=1))
    return np.clip(described, -LIMIT, LIMIT, out=described)
