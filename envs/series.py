"""The markets episodes are drawn from: single pools, shifted in phase, reversed in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from simulator.deadline import MarketStack
from simulator.deadline.observation import FloatArray, IntArray
from simulator.errors import InputError
from simulator.market import Market
from simulator.market.resample import sample_index


@dataclass(frozen=True, eq=False)
class EpisodeMarkets:
    """Markets with the probability that an episode takes place in each.

    Attributes:
        stack: M markets.
        names: (M,) what each is called; a shifted or reversed market says so.
        probability: (M,) sums to 1.
        price_ratio: (M,) mean spot price over mean on-demand price, over time and pools.
    """

    stack: MarketStack
    names: tuple[str, ...]
    probability: FloatArray
    price_ratio: FloatArray

    @classmethod
    def of(
        cls,
        markets: Sequence[Market],
        *,
        each_pool: bool = True,
        tick_seconds: int | None = None,
        phases: int = 1,
        reversed_share: float = 0.0,
    ) -> EpisodeMarkets:
        """Prepare markets for training.

        Args:
            markets: As read; every series is equally likely, whatever its length.
            each_pool: Every pool is a market of its own; otherwise a job may use all pools of one.
            tick_seconds: Tick of the episodes, not below the markets' own, which is the default.
            phases: Series per market that begin at evenly spaced moments of the first tick: a trace
                changes only on its own samples, and a policy must not learn which ticks those are.
                Has an effect only if the markets' own tick is shorter.
            reversed_share: Share of episodes that run backwards in time.

        Raises:
            InputError: No market, a tick shorter than a market's own, or an option out of range.
        """
        if phases < 1:
            raise InputError(f"{phases} phases; accepted: 1 or more")
        if not 0.0 <= reversed_share <= 1.0:
            raise InputError(f"reversed share of {reversed_share}; accepted: 0 to 1")
        series: list[tuple[str, float, Market]] = []
        for market in markets:
            for single in _singles(market) if each_pool else [market]:
                shifted = _phases(single, tick_seconds or market.tick_seconds, phases)
                for phase, one in enumerate(shifted):
                    name = single.pools[0].name if len(single.pools) == 1 else market.source or "market"
                    name += f" phase {phase + 1}/{len(shifted)}" if len(shifted) > 1 else ""
                    if reversed_share < 1.0:
                        series.append((name, (1.0 - reversed_share) / len(shifted), one))
                    if reversed_share > 0.0:
                        series.append((f"{name} reversed", reversed_share / len(shifted), _reversed(one)))
        stack = MarketStack.of([market for _, _, market in series])
        weight = np.array([each for _, each, _ in series])
        ratio = [float(m.spot_price.mean() / m.on_demand_price.mean()) for _, _, m in series]
        return cls(stack, tuple(name for name, _, _ in series), weight / weight.sum(), np.array(ratio))

    def drawn(self, uniform: FloatArray) -> IntArray:
        """(n,) numbers of markets, drawn with their probability from (n,) numbers in [0, 1)."""
        edges = np.cumsum(self.probability)
        return np.asarray(np.minimum(np.searchsorted(edges, uniform, side="right"), len(edges) - 1))


def _singles(market: Market) -> list[Market]:
    return [market.select([pool]) for pool in range(len(market.pools))]


def _reversed(market: Market) -> Market:
    return _rebuilt(market, np.arange(market.ticks)[::-1], market.tick_seconds)


def _phases(market: Market, tick_seconds: int, phases: int) -> list[Market]:
    own = market.tick_seconds
    if tick_seconds < own:
        raise InputError(
            f"episodes with a tick of {tick_seconds} s in a market of {own} s; accepted: {own} or more"
        )
    if tick_seconds == own:
        return [market]
    offsets = [Fraction(tick_seconds * phase, phases) for phase in range(phases)]
    shifted = []
    for offset in offsets:
        ticks = int((market.ticks * own - offset) // tick_seconds)
        if ticks < 1:
            raise InputError(f"a market of {market.ticks * own} s is shorter than a tick of {tick_seconds} s")
        index = sample_index(ticks, tick_seconds, Fraction(own), offset_seconds=offset)
        shifted.append(_rebuilt(market, index, tick_seconds))
    return shifted


def _rebuilt(market: Market, index: np.ndarray[tuple[int], np.dtype[np.int64]], tick_seconds: int) -> Market:
    return Market(
        market.pools,
        tick_seconds,
        market.start,
        market.spot_price[:, index],
        market.spot_capacity[:, index],
        market.on_demand_price[:, index],
        market.source,
    )
