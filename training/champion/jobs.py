"""Jobs the champion is trained on: half near the published benchmark's, half anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.jobs import Episodes
from envs.series import EpisodeMarkets
from policies.guided import TrainedRange
from simulator.deadline.observation import FloatArray
from simulator.errors import InputError

TYPICAL_DEADLINE_RATIO = np.array([52.0, 52.0, 70.0, 70.0, 60.0, 65.0]) / 48.0
TYPICAL_OVERHEAD_MINUTES = np.array([1.2, 3.0, 3.0, 6.0, 12.0, 12.0, 18.0, 24.0])
TYPICAL_RATIO = 0.318
"""p3.2xlarge, 2023: 0.9731 / 3.06 USD per hour."""
OVERHEAD_MINUTES = np.array([0.0, 1.0, 2.0, 3.0, 4.5, 6.0, 9.0, 12.0, 15.0, 20.0, 30.0])
PRICE_RATIO = np.array([0.2, 0.25, TYPICAL_RATIO, 0.4, 0.5, 0.65, 0.8])
"""Overheads and ratios come from short lists, so that the planner's tables are few."""
LONGEST_TICKS = 440


@dataclass(frozen=True, slots=True)
class ChampionJobs:
    """Draws jobs for single-pool markets whose spot and on-demand prices are both 1.

    Attributes:
        typical_share: Share of jobs near the benchmark's settings: 48 h of work, a short list of
            deadlines and overheads. The rest has 6 to 60 h of work, deadlines of 1.04 to 2 times the
            work, overheads up to 30 minutes and price ratios of 0.2 to 0.8.
    """

    typical_share: float = 0.4

    def check(self, markets: EpisodeMarkets) -> None:
        """Refuse markets that are shorter than the longest job."""
        if (markets.stack.ticks < LONGEST_TICKS).any():
            raise InputError(f"a market is shorter than the {LONGEST_TICKS} ticks of the longest job")

    def draw(self, uniform: FloatArray, markets: EpisodeMarkets) -> Episodes:
        """Episodes from (n, DRAWS) random numbers in [0, 1)."""
        tick = float(markets.stack.tick_seconds)
        typical = uniform[:, 0] < self.typical_share
        market = markets.drawn(uniform[:, 1])
        work = np.where(typical, 48 * 3600.0, 3600.0 * 6.0 * 10.0 ** uniform[:, 3])
        loose = 1.04 + 0.96 * uniform[:, 4] ** 1.5
        factor = np.where(typical, _pick(TYPICAL_DEADLINE_RATIO, uniform[:, 4]), loose)
        minutes = _pick(OVERHEAD_MINUTES, uniform[:, 5])
        overhead = 60.0 * np.where(typical, _pick(TYPICAL_OVERHEAD_MINUTES, uniform[:, 5]), minutes)
        work = np.rint(work / tick) * tick
        deadline = np.rint(np.maximum(work * factor, work + 2.0 * overhead + 3.0 * tick) / tick) * tick
        too_long = deadline > LONGEST_TICKS * tick
        work = np.where(too_long, np.rint(LONGEST_TICKS / factor) * tick, work)
        deadline = np.minimum(deadline, LONGEST_TICKS * tick)
        work = np.minimum(work, deadline - overhead - tick)
        needed = np.ceil(deadline / tick - 1e-9).astype(np.int64)
        room = markets.stack.ticks[market] - needed + 1
        jobs = len(uniform)
        return Episodes(
            market=market,
            start=(uniform[:, 2] * room).astype(np.int64),
            work=work,
            deadline=deadline,
            restart_overhead=overhead,
            checkpoint_interval=np.zeros(jobs),
            nodes=np.ones(jobs, np.int64),
            spot_scale=np.where(typical, TYPICAL_RATIO, _pick(PRICE_RATIO, uniform[:, 6])),
        )


def trained_range(tick_seconds: int) -> TrainedRange:
    """What `ChampionJobs` covers."""
    return TrainedRange(
        tick_seconds=float(tick_seconds),
        most_hours=LONGEST_TICKS * tick_seconds / 3600.0,
        most_overhead_minutes=float(OVERHEAD_MINUTES[-1]),
        least_ratio=0.15,
        most_ratio=0.85,
    )


def _pick(values: FloatArray, uniform: FloatArray) -> FloatArray:
    return np.asarray(values[(uniform * len(values)).astype(np.int64)])
