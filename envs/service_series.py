"""Markets for service episodes: their sampling step blurred, also backwards in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from envs.series import EpisodeMarkets
from simulator.deadline import MarketStack
from simulator.deadline.observation import IntArray
from simulator.errors import InputError
from simulator.market import Market


def service_markets(
    markets: Sequence[Market], *, variants: int = 1, reversed_share: float = 0.0, seed: int = 0
) -> EpisodeMarkets:
    """Prepare markets for service episodes; a service uses all pools of a market.

    A recorded capacity changes only at the samples of its trace, say every tenth tick. A policy that knew
    that would know when a loss cannot come. So with more than one variant, each variant moves every sample's
    begin by a random part of the step, the same for all pools: what is lost together stays together.

    Args:
        markets: Equal in tick and number of pools; each is equally likely, whatever its length.
        variants: Blurred copies of each market; 1 leaves it as recorded.
        reversed_share: Share of episodes that run backwards in time.
        seed: Seed of the blurring.

    Raises:
        InputError: No market, markets that cannot be stacked, or an option out of range.
    """
    if variants < 1 or not 0.0 <= reversed_share <= 1.0:
        raise InputError(f"{variants} variants, reversed share {reversed_share}; accepted: 1 or more, 0 to 1")
    series: list[tuple[str, float, MarketStack]] = []
    for number, market in enumerate(markets):
        step = sampling_step(market)
        name = market.source or f"market {number}"
        for variant in range(variants):
            index = np.arange(market.ticks)
            if variants > 1 and step > 1:
                index = _blurred(market.ticks, step, np.random.default_rng([seed, number, variant]))
            for backwards, share in ((False, 1.0 - reversed_share), (True, reversed_share)):
                if share > 0.0:
                    order = index[::-1] if backwards else index
                    series.append(
                        (f"{name} reversed" if backwards else name, share / variants, _taken(market, order))
                    )
    stack = MarketStack.join([each for _, _, each in series])
    weight = np.array([each for _, each, _ in series])
    ratio = [float(each.spot_price.mean() / each.on_demand_price.mean()) for _, _, each in series]
    return EpisodeMarkets(stack, tuple(name for name, _, _ in series), weight / weight.sum(), np.array(ratio))


def sampling_step(market: Market) -> int:
    """Ticks between moments at which capacity can change, their greatest common divisor; 1 if none does."""
    changes = np.flatnonzero((np.diff(market.spot_capacity, axis=1) != 0).any(axis=0)) + 1
    return int(np.gcd.reduce(changes)) if changes.size else 1


def _blurred(ticks: int, step: int, rng: np.random.Generator) -> IntArray:
    """(ticks,) recorded tick that each tick takes when every sample begins up to a step later."""
    now = np.arange(ticks)
    late = rng.integers(0, step, ticks // step + 1)
    late[0] = 0
    return np.where(now % step < late[now // step], now - step, now).astype(np.int64)


def _taken(market: Market, index: IntArray) -> MarketStack:
    stack = MarketStack.of([market])
    return replace(
        stack,
        capacity=stack.capacity[:, :, index],
        spot_price=stack.spot_price[:, :, index],
        on_demand_price=stack.on_demand_price[:, index],
    )
