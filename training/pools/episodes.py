"""What the network over pools is trained on: sets of zones, drawn prices, jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from envs.jobs import Episodes
from envs.series import EpisodeMarkets
from policies.planner.fit import TICK_SECONDS
from simulator.deadline.observation import BoolArray, FloatArray
from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.synthetic import SemiMarkovModel, simulate_availability

REVERSED_SHARE = 0.2
SYNTHETIC_SHARE = 0.3
"""Of the markets; made by the planner's own model."""
SYNTHETIC_TICKS = 2500
LONGEST_TICKS = 440
DEADLINE_RATIO = np.array([52.0, 52.0, 56.0, 60.0, 70.0, 70.0]) / 48.0
OVERHEAD_MINUTES = np.array([3.0, 12.0])
"""Few, as prices are: each combination needs a table of the planner."""


def pool_markets(
    series: Sequence[BoolArray],
    ratios: Mapping[str, FloatArray],
    model: SemiMarkovModel,
    *,
    pools: int,
    markets: int,
    seed: int,
) -> EpisodeMarkets:
    """Markets of `pools` zones drawn from the series, each with prices of its own.

    Args:
        series: Availability of the training zones at the planner's tick.
        ratios: Spot price over on-demand price of zones, by instance type; a market draws one type.
        model: Makes the synthetic markets.
        pools: Pools P of each market.
        markets: How many.
        seed: Of the draws.

    Raises:
        InputError: There are fewer series than pools, or no type has so many zones.
    """
    if len(series) < pools:
        raise InputError(f"{len(series)} series for markets of {pools} pools; accepted: at least as many")
    types = sorted(name for name, values in ratios.items() if len(values) >= pools)
    if not types:
        raise InputError(f"no instance type has prices of {pools} zones")
    rng = np.random.default_rng(seed)
    made = []
    for number in range(markets):
        if number < SYNTHETIC_SHARE * markets:
            names = [f"z{p}" for p in range(pools)]
            seeds = np.random.SeedSequence([seed, number])
            up = simulate_availability(model, names, ticks=SYNTHETIC_TICKS, seed=seeds)
        else:
            chosen = rng.choice(len(series), pools, replace=False)
            length = min(len(series[zone]) for zone in chosen)
            up = np.stack([series[zone][:length] for zone in chosen])
        price = rng.choice(ratios[str(rng.choice(types))], pools, replace=False)
        made.append(
            Market.build(
                [Pool("training", "training", f"m{number}-{p}", "any") for p in range(pools)],
                tick_seconds=TICK_SECONDS,
                start=datetime(2023, 1, 1, tzinfo=UTC),
                spot_price=price[:, None],
                spot_capacity=up.astype(np.int32),
                on_demand_price=1.0,
            )
        )
    return EpisodeMarkets.of(made, each_pool=False, reversed_share=REVERSED_SHARE)


@dataclass(frozen=True, slots=True)
class PoolJobs:
    """Jobs of 12 to 48 h of work, due in 52/48 to 70/48 of it, overheads of 3 and 12 minutes."""

    def check(self, markets: EpisodeMarkets) -> None:
        """Refuse markets that are shorter than the longest job."""
        if (markets.stack.ticks < LONGEST_TICKS).any():
            raise InputError(f"a market is shorter than the {LONGEST_TICKS} ticks of the longest job")

    def draw(self, uniform: FloatArray, markets: EpisodeMarkets) -> Episodes:
        """Episodes from (n, DRAWS) random numbers in [0, 1)."""
        tick, jobs = float(markets.stack.tick_seconds), len(uniform)
        market = markets.drawn(uniform[:, 1])
        hours = np.where(uniform[:, 0] < 0.5, 48.0, 12.0 * 4.0 ** uniform[:, 3])
        work = np.rint(hours * 3600.0 / tick) * tick
        factor = DEADLINE_RATIO[(uniform[:, 4] * len(DEADLINE_RATIO)).astype(np.int64)]
        overhead = 60.0 * OVERHEAD_MINUTES[(uniform[:, 5] * len(OVERHEAD_MINUTES)).astype(np.int64)]
        deadline = np.rint(np.maximum(work * factor, work + 2.0 * overhead + 3.0 * tick) / tick) * tick
        room = markets.stack.ticks[market] - np.rint(deadline / tick).astype(np.int64) + 1
        return Episodes(
            market=market,
            start=(uniform[:, 2] * room).astype(np.int64),
            work=work,
            deadline=deadline,
            restart_overhead=overhead,
            checkpoint_interval=np.zeros(jobs),
            nodes=np.ones(jobs, np.int64),
            spot_scale=np.ones(jobs),
        )
