"""Series the champion is trained on: real ones in several phases and both directions, and synthetic ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from envs.series import EpisodeMarkets
from policies.planner.fit import TICK_SECONDS
from simulator.deadline.observation import FloatArray
from simulator.market import Market, Pool
from simulator.synthetic import SemiMarkovModel, simulate_availability

PHASES = 3
"""A trace changes only on its own samples; every phase of the tick samples it anew."""
REVERSED_SHARE = 0.2
SYNTHETIC_SHARE = 0.4
AUGMENTATION = "augmentation"
"""Provider of the synthetic zones, which no real market has."""
SYNTHETIC_SERIES = 40
SYNTHETIC_TICKS = 3000
HAZARD_SPREAD = 0.3
"""Standard deviation of the logarithm of the factor on each hazard of a synthetic zone."""
ZONE_SPREAD = 0.6
"""The same, of the factor that all hazards of a zone's runs with spot share, and of those without."""


def champion_series(
    markets: Sequence[Market], model: SemiMarkovModel, seed: int, *, augmented: bool = True
) -> EpisodeMarkets:
    """Single-pool markets at ticks of ten minutes, all at price 1: jobs bring their price ratio.

    Args:
        markets: Real ones, each at its trace's own tick.
        model: Makes the synthetic ones, with hazards that differ from zone to zone.
        seed: Of the synthetic ones.
        augmented: Without it only the real ones, in one phase and forwards.
    """
    real = [_at_price_one(market.spot_capacity, market.tick_seconds, market) for market in markets]
    if not augmented:
        return EpisodeMarkets.of(real, tick_seconds=TICK_SECONDS)
    made = [
        _at_price_one(up[None].astype(np.int32), TICK_SECONDS, None, f"synthetic-{number}")
        for number, up in enumerate(_synthetic(model, np.random.SeedSequence(seed)))
    ]
    episodes = EpisodeMarkets.of(
        [*real, *made], tick_seconds=TICK_SECONDS, phases=PHASES, reversed_share=REVERSED_SHARE
    )
    synthetic = np.array([name.startswith(f"{AUGMENTATION}/") for name in episodes.names])
    probability = episodes.probability.copy()
    for share, which in ((SYNTHETIC_SHARE, synthetic), (1.0 - SYNTHETIC_SHARE, ~synthetic)):
        probability[which] *= share / probability[which].sum()
    return replace(episodes, probability=probability)


def _synthetic(model: SemiMarkovModel, seed: np.random.SeedSequence) -> list[NDArray[np.bool_]]:
    series = []
    for child in seed.spawn(SYNTHETIC_SERIES):
        draw = np.random.default_rng(child).standard_normal
        factor = np.exp(HAZARD_SPREAD * draw(model.hazard.shape) + ZONE_SPREAD * draw((1, 2, 1)))
        varied = replace(model, hazard=np.minimum(model.hazard * factor, 0.95))
        series.append(simulate_availability(varied, ["z"], ticks=SYNTHETIC_TICKS, seed=child)[0])
    return series


def _at_price_one(
    capacity: NDArray[np.int32], tick_seconds: int, like: Market | None, zone: str = ""
) -> Market:
    pools = like.pools if like else (Pool(AUGMENTATION, AUGMENTATION, zone, "any"),)
    start = like.start if like else datetime(2023, 1, 1, tzinfo=UTC)
    one: FloatArray = np.ones(capacity.shape)
    return Market(
        pools, tick_seconds, start, one, np.array(capacity), one.copy(), like.source if like else ""
    )
