"""Which services episodes are about: ranges to draw from, and the drawing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.series import EpisodeMarkets
from simulator.deadline.observation import FloatArray, IntArray
from simulator.errors import InputError
from simulator.service import Service

SERVICE_DRAWS = 12
"""Random numbers per episode."""
Range = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class ServiceEpisodes:
    """n service episodes that are about to begin; arrays are (n,).

    Attributes:
        market: Index into the stack.
        start: First tick.
        services: What is to be served.
        spot_scale: Factor on the market's spot prices.
        weight: Cost of one unavailable tick, in ticks of a spot instance per instance of demand.
    """

    market: IntArray
    start: IntArray
    services: list[Service]
    spot_scale: FloatArray
    weight: FloatArray


@dataclass(frozen=True, slots=True)
class ServiceRange:
    """Services to draw: every value lies between its two bounds, which may be equal.

    Attributes:
        ticks: Length of an episode.
        demand: Instances on average, drawn log-uniformly and rounded.
        swing: Share of the demand by which it rises and falls over a day, changing every hour. Half of the
            episodes have none.
        cold_start_ticks: Drawn uniformly, whole.
        on_demand_ratio: Mean on-demand price over mean spot price, drawn uniformly; None = as recorded.
        weight: Weight of unavailability, drawn log-uniformly; see `ServiceEpisodes.weight`.
        unavailability: One minus the availability target, drawn log-uniformly.
        minimum_billed_seconds: Least time that a launch is billed for.

    Raises:
        InputError: A range is out of order or out of bounds.
    """

    ticks: int = 2880
    demand: Range = (1.0, 10.0)
    swing: Range = (0.0, 0.5)
    cold_start_ticks: Range = (1.0, 10.0)
    on_demand_ratio: Range | None = (2.0, 5.0)
    weight: Range = (5.0, 400.0)
    unavailability: Range = (0.001, 0.02)
    minimum_billed_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Check every range."""
        for name, lowest, highest in (
            ("demand", 1.0, 100_000.0),
            ("swing", 0.0, 1.0),
            ("cold_start_ticks", 0.0, 60.0),
            ("on_demand_ratio", 1e-3, 1e3),
            ("weight", 1e-3, 1e6),
            ("unavailability", 1e-6, 0.5),
        ):
            bounds = getattr(self, name)
            if bounds is not None and not lowest <= bounds[0] <= bounds[1] <= highest:
                raise InputError(
                    f"{name} from {bounds[0]} to {bounds[1]}; accepted: {lowest:g} to {highest:g}, the "
                    "lower first"
                )
        if self.ticks <= self.cold_start_ticks[1]:
            raise InputError(f"episodes of {self.ticks} ticks; accepted: longer than the longest cold start")

    @property
    def most_instances(self) -> int:
        """Highest demand that can be drawn."""
        return int(np.ceil(round(self.demand[1]) * (1.0 + self.swing[1])))

    def check(self, markets: EpisodeMarkets) -> None:
        """Raise `InputError` if a market is too short for an episode."""
        short = np.flatnonzero(markets.stack.ticks < self.ticks)
        if short.size:
            raise InputError(
                f"market {markets.names[short[0]]} has {markets.stack.ticks[short[0]]} ticks, an episode "
                f"{self.ticks}; accepted: longer markets or shorter episodes"
            )

    def draw(self, uniform: FloatArray, markets: EpisodeMarkets) -> ServiceEpisodes:
        """Episodes from (n, SERVICE_DRAWS) random numbers in [0, 1); a function of its arguments alone."""
        market = markets.drawn(uniform[:, 0])
        start = (uniform[:, 1] * (markets.stack.ticks[market] - self.ticks + 1)).astype(np.int64)
        tick = markets.stack.tick_seconds
        level = np.rint(_log_uniform(self.demand, uniform[:, 2]))
        swing = np.where(uniform[:, 3] < 0.5, 0.0, _uniform(self.swing, uniform[:, 4]))
        low, high = self.cold_start_ticks
        cold = np.floor(low + (high - low + 1.0) * uniform[:, 6] - 1e-12)
        target = 1.0 - _log_uniform(self.unavailability, uniform[:, 7])
        hour = np.arange(self.ticks) * tick // 3600
        services = [
            Service.of(
                np.maximum(
                    np.rint(level[i] * (1.0 + swing[i] * np.sin(2 * np.pi * (hour / 24 + uniform[i, 5])))), 0
                ),
                tick_seconds=tick,
                availability_target=float(target[i]),
                cold_start_seconds=float(cold[i] * tick),
                minimum_billed_seconds=self.minimum_billed_seconds,
            )
            for i in range(len(uniform))
        ]
        scale = np.ones(len(uniform))
        if self.on_demand_ratio is not None:
            ratio = _uniform(self.on_demand_ratio, uniform[:, 8])
            scale = 1.0 / (ratio * markets.price_ratio[market])
        return ServiceEpisodes(
            market.astype(np.int64), start, services, scale, _log_uniform(self.weight, uniform[:, 9])
        )


def _uniform(bounds: Range, uniform: FloatArray) -> FloatArray:
    return np.asarray(bounds[0] + (bounds[1] - bounds[0]) * uniform)


def _log_uniform(bounds: Range, uniform: FloatArray) -> FloatArray:
    return np.asarray(bounds[0] * (bounds[1] / bounds[0]) ** uniform)
