"""Availability made up from interruption bands, for pools of which only prices are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.market.market import UNLIMITED_CAPACITY


def assumed_capacity(
    hazards: Sequence[float], ticks: int, *, outage_ticks: float, seed: int
) -> NDArray[np.int32]:
    """Spot capacity that is there, is lost with a fixed hazard per tick, and comes back after an outage.

    Up runs are geometric with the hazard, outages geometric with mean `outage_ticks`; pools are independent,
    each with a stream of its own, and start in the long-run state of the chain.

    Args:
        hazards: One hazard per tick for each of P pools, in [0, 1].
        ticks: Number of ticks T.
        outage_ticks: Mean length of an outage, 1 or more.
        seed: The same seed gives the same series.

    Returns:
        (P, T) capacity, 0 or unlimited.
    """
    capacity = np.full((len(hazards), ticks), UNLIMITED_CAPACITY, dtype=np.int32)
    for pool, (hazard, stream) in enumerate(
        zip(hazards, np.random.SeedSequence(seed).spawn(len(hazards)), strict=True)
    ):
        if hazard <= 0:
            continue
        rng = np.random.default_rng(stream)
        up = bool(rng.random() < (1 / hazard) / (1 / hazard + outage_ticks))
        tick = 0
        while tick < ticks:
            run = int(rng.geometric(min(hazard, 1.0) if up else 1 / outage_ticks))
            if not up:
                capacity[pool, tick : tick + run] = 0
            tick += run
            up = not up
    return capacity
