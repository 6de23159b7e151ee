"""Series and markets drawn from a semi-Markov model, with correlated zones.

Every zone follows the model exactly, whatever the correlation: its draws are independent in time and uniform.
Zones are coupled through a Gaussian copula on these draws: z = √s₂·g + √(s₁−s₂)·r + √(1−s₁)·e with a shock g
of all zones, r of the zone's region and e of its own. A low draw is scarcity: it ends up runs and keeps
down runs going, and picks a less available type. The shares s that give the requested correlation of the
availability series themselves are found by bisection on a pilot simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from simulator.errors import InputError
from simulator.market.market import Market, Pool
from simulator.synthetic.semi_markov import DOWN, UP, SemiMarkovModel

BURN_IN_CHUNKS = 8
"""Chunks that are simulated and thrown away, so that a series begins in the long run."""
HIGHEST_CELLS = 50_000_000
"""Pools x ticks of one synthetic market; 2.4 GB were measured while 47 million were drawn."""
PRICE_CHANGES_PER_DAY = 3.0
PRICE_MEMORY = 0.9
"""Correlation of the logarithm of a price with the one before its last change."""


def synthetic_market(
    model: SemiMarkovModel,
    pools: Sequence[Pool],
    *,
    ticks: int,
    seed: int,
    correlation: float = 0.35,
    cross_region_correlation: float = 0.1,
    spot_price: ArrayLike = 0.9731,
    on_demand_price: ArrayLike = 3.06,
    price_variation: float = 0.0,
    capacity: int = 1,
    start: datetime = datetime(2023, 1, 1, tzinfo=UTC),
) -> Market:
    """Draw a market.

    The correlations default to what the six 2023 training zones show: 0.26 to 0.48 within a region (mean
    0.38), 0.02 to 0.20 across regions (mean 0.13).

    Args:
        model: Availability; its tick is the market's tick.
        pools: P pools; those of one region are coupled more closely.
        ticks: Number of ticks T.
        seed: The same seed gives the same market.
        correlation: Correlation of the 0/1 availability of two pools in one region, 0 to 1.
        cross_region_correlation: The same for two pools in different regions, 0 to `correlation`.
        spot_price: Level in USD per hour, one for all pools or (P,).
        on_demand_price: USD per hour, one for all pools or (P,).
        price_variation: Coefficient of variation of each spot price over time, 0 = constant; prices then
            change about three times a day and never exceed the on-demand price.
        capacity: Spot instances of a pool that is up.
        start: Aware time of tick 0.

    Returns:
        The market.

    Raises:
        InputError: A value is out of range.
    """
    if ticks < 1 or capacity < 1 or not 0 <= price_variation < 1:
        raise InputError(
            f"{ticks} ticks, capacity {capacity}, price variation {price_variation}; "
            "accepted: at least 1, at least 1, 0 to below 1"
        )
    if ticks * len(pools) > HIGHEST_CELLS:
        raise InputError(
            f"{len(pools)} pools x {ticks} ticks; accepted: {HIGHEST_CELLS:,} in all, so fewer pools or days"
        )
    regions = [f"{pool.provider}/{pool.region}" for pool in pools]
    availability_stream, price_stream = np.random.SeedSequence(seed).spawn(2)
    up = simulate_availability(
        model,
        regions,
        ticks=ticks,
        seed=availability_stream,
        correlation=correlation,
        cross_region_correlation=cross_region_correlation,
    )
    level = np.broadcast_to(np.asarray(spot_price, dtype=np.float64), len(pools))
    ceiling = np.broadcast_to(np.asarray(on_demand_price, dtype=np.float64), len(pools))
    prices = np.repeat(level[:, None], ticks, axis=1)
    if price_variation > 0:
        rng = np.random.default_rng(price_stream)
        prices = _varied(prices, price_variation, model.tick_seconds, rng)
        prices = np.minimum(prices, ceiling[:, None])
    return Market.build(
        pools,
        tick_seconds=model.tick_seconds,
        start=start,
        spot_price=prices,
        spot_capacity=up.astype(np.int64) * capacity,
        on_demand_price=ceiling,
        source=f"SYNTHETIC, seed {seed}, correlation {correlation:g} within and "
        f"{cross_region_correlation:g} across regions, availability model: {model.source or 'unnamed'}",
    )


def simulate_availability(
    model: SemiMarkovModel,
    regions: Sequence[str],
    *,
    ticks: int,
    seed: int | np.random.SeedSequence,
    correlation: float = 0.0,
    cross_region_correlation: float = 0.0,
) -> NDArray[np.bool_]:
    """Draw the availability of one zone per entry of `regions`.

    Args:
        model: The model.
        regions: Region of each of Z zones.
        ticks: Number of ticks T.
        seed: The same seed gives the same series.
        correlation: Of two zones of one region, 0 to 1.
        cross_region_correlation: Of two zones of different regions, 0 to `correlation`.

    Returns:
        (Z, T) whether the zone has spot capacity.

    Raises:
        InputError: A correlation is out of range, or there is no zone.
    """
    if not regions:
        raise InputError("a synthetic market needs at least one pool")
    if not 0 <= cross_region_correlation <= correlation <= 1:
        raise InputError(
            f"correlation {correlation} within and {cross_region_correlation} across regions; "
            "accepted: 0 <= across <= within <= 1"
        )
    text = model.to_json()
    return _simulate(
        model,
        np.unique(list(regions), return_inverse=True)[1],
        ticks,
        np.random.default_rng(seed),
        _shock_share(text, correlation),
        _shock_share(text, cross_region_correlation),
    )


def _simulate(
    model: SemiMarkovModel,
    region: NDArray[np.int64],
    ticks: int,
    rng: np.random.Generator,
    within: float,
    across: float,
) -> NDArray[np.bool_]:
    burn_in = BURN_IN_CHUNKS * model.chunk_ticks
    steps = burn_in + ticks
    chunks = -(-steps // model.chunk_ticks)
    up = _follow(
        model.hazard,
        np.cumsum(model.prior),
        np.array(model.age_edges, dtype=np.int64),
        model.chunk_ticks,
        model.persistence,
        _coupled_uniforms(rng, region, steps, within, across),
        _coupled_uniforms(rng, region, chunks, within, across),
        _coupled_uniforms(rng, region, chunks, within, across),
    )
    return np.asarray(up[:, burn_in:])


def _coupled_uniforms(
    rng: np.random.Generator, region: NDArray[np.int64], steps: int, within: float, across: float
) -> NDArray[np.float64]:
    """(Z, steps) uniform draws, independent in time, coupled between zones."""
    normal = np.sqrt(1 - within) * rng.standard_normal((region.shape[0], steps))
    if within > 0:
        regional = rng.standard_normal((int(region.max()) + 1, steps))
        normal += np.sqrt(within - across) * regional[region] + np.sqrt(across) * rng.standard_normal(steps)
    return np.asarray(ndtr(normal))


@njit(cache=True)
def _follow(
    hazard: NDArray[np.float64],
    cumulative_prior: NDArray[np.float64],
    age_edges: NDArray[np.int64],
    chunk_ticks: int,
    persistence: float,
    draw: NDArray[np.float64],
    type_draw: NDArray[np.float64],
    keep_draw: NDArray[np.float64],
) -> NDArray[np.bool_]:
    zones, steps = draw.shape
    up = np.zeros((zones, steps), dtype=np.bool_)
    for zone in range(zones):
        kind = 0
        state = UP
        age = 1
        bucket = 0
        for step in range(steps):
            if step % chunk_ticks == 0:
                chunk = step // chunk_ticks
                if chunk == 0 or keep_draw[zone, chunk] >= persistence:
                    kind = 0
                    while (
                        kind + 1 < cumulative_prior.shape[0]
                        and type_draw[zone, chunk] > cumulative_prior[kind]
                    ):
                        kind += 1
            up[zone, step] = state == UP
            ends = hazard[kind, state, bucket]
            if (state == UP and draw[zone, step] < ends) or (state == DOWN and draw[zone, step] > 1.0 - ends):
                state = DOWN if state == UP else UP
                age = 1
                bucket = 0
            else:
                age += 1
                if bucket + 1 < age_edges.shape[0] and age >= age_edges[bucket + 1]:
                    bucket += 1
    return up


@lru_cache(maxsize=64)
def _shock_share(model_json: str, correlation: float) -> float:
    """Share of the shared shock that gives the requested correlation of availability.

    Bisection on a pilot of 6 zones x 250 000 ticks with fixed draws: the answer depends on nothing else.
    """
    if correlation in (0.0, 1.0):
        return correlation
    model = SemiMarkovModel.from_json(model_json)
    region = np.zeros(6, dtype=np.int64)
    low, high = 0.0, 1.0
    for _ in range(11):
        share = (low + high) / 2
        up = _simulate(model, region, 250_000, np.random.default_rng(7), share, 0.0)
        if mean_correlation(up) < correlation:
            low = share
        else:
            high = share
    return (low + high) / 2


def mean_correlation(up: NDArray[np.bool_]) -> float:
    """Correlation of availability averaged over all pairs of zones, with their pooled mean and variance.

    Args:
        up: (Z, T) availability, Z ≥ 2.
    """
    zones = up.shape[0]
    centred = up - up.mean()
    total = centred.sum(axis=0)
    own = (centred**2).sum(axis=0)
    covariance = float((total**2 - own).mean()) / (zones * (zones - 1))
    variance = float((centred**2).mean())
    return covariance / variance if variance > 0 else 0.0


def _varied(
    prices: NDArray[np.float64], variation: float, tick_seconds: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Levels (P, T) turned into step functions that revert to them."""
    spread = np.sqrt(np.log1p(variation**2))
    changes = rng.random(prices.shape) < PRICE_CHANGES_PER_DAY * tick_seconds / 86_400
    shocks = rng.standard_normal(prices.shape) * spread
    state = rng.standard_normal(prices.shape[0]) * spread
    logs = np.empty_like(prices)
    for tick in range(prices.shape[1]):
        moved = PRICE_MEMORY * state + np.sqrt(1 - PRICE_MEMORY**2) * shocks[:, tick]
        state = np.where(changes[:, tick], moved, state)
        logs[:, tick] = state
    return np.asarray(prices * np.exp(logs - spread**2 / 2))
