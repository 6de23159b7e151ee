"""Windows: which stretches of which market a workload's demand is replayed over, and intervals from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from scipy.special import stdtrit

from optimizer.recommend.match import NamedMarket
from optimizer.recommend.result import LEVEL
from simulator.deadline.observation import FloatArray, IntArray

FEWEST_INDEPENDENT = 4
"""With fewer windows side by side nothing can be said about how costs vary."""
USUAL_INDEPENDENT = 8
"""The default window is so short that this many fit side by side, but not shorter than a day."""
WEEK = 168
PERSISTENCE_HOURS = 52.0
"""Time in which the correlation of good and bad times falls by a factor e.

Of markets drawn from the model of six recorded zones, the variance of availability over spans of 1 to 30 days
falls as it does for 52 hours (see `variance_over`).
"""
UNSEEN_HOURS = 13.0
"""As dear as on-demand capacity, that every upper end allows for beside what is known.

Chosen on drawn markets and the six recorded zones, where costs were above their intervals in up to 20 % of
the months without it: what has not happened yet makes things dearer, not cheaper. How intervals fare on other
draws and on zones that had no part in this: `python -m optimizer.recommend.calibration`.
"""
SLA_PERSISTENCE_HOURS = 80.0
"""The same for availability, on the safe side: a target is a promise."""


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """The windows of one group of markets.

    Attributes:
        market: (N,) index into the group.
        start: (N,) first tick.
        hours: Length of each.
        independent: How many fit side by side.
    """

    market: IntArray
    start: IntArray
    hours: int
    independent: int


def choose_length(markets: Sequence[NamedMarket], span_hours: int, least_hours: int = 24) -> int:
    """Default length of a window in hours: whole days, at most the span of the demand."""
    hours = sum(m.market.ticks * m.market.tick_seconds for m in markets) // 3600
    days = max(hours // USUAL_INDEPENDENT // 24, 1) * 24
    return int(max(min(days, span_hours), least_hours))


def plan_windows(markets: Sequence[NamedMarket], hours: int, count: int, seed: int) -> WindowPlan | None:
    """Spread up to `count` windows evenly over the markets, each begin jittered within its share.

    Windows begin on the hour of the market. Longer markets get more of them.

    Args:
        markets: One group, all of one tick.
        hours: Length of a window.
        count: Number of windows; fewer if there are not as many different begins.
        seed: Of the jitter.

    Returns:
        The windows; None if fewer than `FEWEST_INDEPENDENT` fit side by side.
    """
    tick = markets[0].market.tick_seconds
    length = math.ceil(hours * 3600 / tick)
    step = max(3600 // tick, 1)
    independent = sum(m.market.ticks // length for m in markets)
    if independent < FEWEST_INDEPENDENT:
        return None
    begins = [
        (place, start)
        for place, m in enumerate(markets)
        for start in range(0, m.market.ticks - length + 1, step)
    ]
    n = min(count, len(begins))
    rng = np.random.default_rng(seed)
    edges = np.linspace(0, len(begins), n + 1)
    low, high = np.ceil(edges[:-1]).astype(int), np.maximum(np.ceil(edges[1:]).astype(int), 1)
    picked = low + np.floor(rng.random(n) * np.maximum(high - low, 1)).astype(int)
    chosen = [begins[k] for k in np.minimum(picked, len(begins) - 1)]
    return WindowPlan(
        np.array([m for m, _ in chosen], np.int64),
        np.array([s for _, s in chosen], np.int64),
        hours,
        independent,
    )


def demand_offsets(
    plan: WindowPlan, markets: Sequence[NamedMarket], begin: datetime, span_hours: int
) -> IntArray:
    """(N,) hour of the demand at which each window begins.

    The hour of the week is that of the market, where the demand is a week or longer; else the hour of the
    day. Windows take the weeks of the demand in turn; one that reaches its end goes on from its begin.
    """
    period = WEEK if span_hours >= WEEK else 24 if span_hours >= 24 else 1
    offsets = np.zeros(len(plan.start), np.int64)
    for k, (place, start) in enumerate(zip(plan.market, plan.start, strict=True)):
        market = markets[place].market
        seconds = (market.start - begin).total_seconds() + start * market.tick_seconds
        phase = int(seconds // 3600) % period
        turns = (span_hours - phase - 1) // period + 1 if phase < span_hours else 1
        offsets[k] = phase + period * (k % turns)
    return offsets % span_hours


def variance_over(hours: float, persistence: float = PERSISTENCE_HOURS) -> float:
    """Variance of the mean over a span, relative to that of a moment.

    That of an Ornstein-Uhlenbeck process: (2τ/x)(1 − (τ/x)(1 − exp(−x/τ))), with `persistence` as τ.
    """
    share = persistence / hours
    return 2.0 * share * (1.0 - share * (1.0 - math.exp(-1.0 / share)))


@dataclass(frozen=True)
class Spans:
    """What intervals rest on.

    Attributes:
        window_hours: Length of a window.
        independent: How many of them fit side by side into what is known.
        horizon_hours: Length of what is predicted.
    """

    window_hours: float
    independent: int
    horizon_hours: float

    @property
    def known_hours(self) -> float:
        """Length of what is known."""
        return self.window_hours * max(self.independent, 2)

    def apart(self, persistence: float) -> float:
        """How many spans are known that say something of their own: as long as a window or as what lasts."""
        return self.known_hours / max(self.window_hours, persistence)

    def scaled(self, spread: float, persistence: float) -> float:
        """Standard deviation of a moment, from the standard deviation of windows within what is known."""
        seen = variance_over(self.window_hours, persistence) - variance_over(self.known_hours, persistence)
        return spread / math.sqrt(seen)


def interval(values: FloatArray, spans: Spans, on_demand: float, level: float = LEVEL) -> tuple[float, float]:
    """The interval in which the mean over the horizon lies with probability `level`.

    Mean ± t · σ · √(V(known) + V(horizon)), a prediction interval for what persists for a while: σ² = s² /
    (V(window) − V(known)) with the variance s² of the windows and V from `variance_over`. A span T holds T/τ
    squares that do not depend on one another, one of which the mean takes. For the upper end, `UNSEEN_HOURS`
    as dear as on-demand capacity are added to what is known. It does not go beyond the least and the most of
    the windows, but for these: a longer span is nearer to the mean than they are.

    Args:
        values: (N,) cost, one per window.
        spans: What they rest on.
        on_demand: What on-demand capacity would cost.
        level: Probability.
    """
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    middle, most = float(values.mean()), float(values.max())
    apart = spans.apart(PERSISTENCE_HOURS)
    width = math.sqrt(variance_over(spans.known_hours) + variance_over(spans.horizon_hours))
    reach = float(stdtrit(max(apart - 1.0, 1.0), 0.5 + level / 2)) * width
    unseen, dearer = UNSEEN_HOURS / (spans.known_hours + UNSEEN_HOURS), max(on_demand, most) - middle
    above = middle + unseen * max(on_demand - middle, 0.0)
    wider = math.sqrt((1.0 - unseen) * spread**2 + unseen * (1.0 - unseen) * dearer**2)
    low = middle - reach * spans.scaled(spread, PERSISTENCE_HOURS)
    high = middle + unseen * dearer + reach * spans.scaled(wider, PERSISTENCE_HOURS)
    if spans.horizon_hours < spans.window_hours:
        return low, high
    return max(low, float(values.min())), max(min(high, most), above)


def lower_bound_of_mean(values: FloatArray, spans: Spans, level: float = 0.95) -> float:
    """One-sided bound from below of the long-run mean of windows."""
    persistence = SLA_PERSISTENCE_HOURS
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    width = math.sqrt(variance_over(spans.known_hours, persistence))
    freedom = max(spans.apart(2.0 * persistence) - 1.0, 1.0)
    return float(values.mean() - stdtrit(freedom, level) * spans.scaled(spread, persistence) * width)
