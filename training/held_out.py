"""Evaluation during training: every held-out window of every pool, in NumPy, as in production."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.protocol import DeadlinePolicy
from policies.shield import Shielded
from simulator.deadline import DeadlineJob, MarketStack, window_starts
from simulator.deadline.observation import FloatArray
from simulator.deadline.optimum import clairvoyant_optimum
from simulator.deadline.replay import Windows, run
from simulator.errors import InputError
from simulator.market import Market


@dataclass(frozen=True, slots=True)
class Score:
    """How a policy did on the held-out windows.

    Attributes:
        relative_cost: Mean over jobs and windows of cost over the cost of the work on on-demand capacity.
        missed: Number of missed deadlines.
        episodes: Number of episodes.
    """

    relative_cost: float
    missed: int
    episodes: int

    def better_than(self, other: Score | None) -> bool:
        """Fewer misses first, then lower cost."""
        return other is None or (self.missed, self.relative_cost) < (other.missed, other.relative_cost)

    def metrics(self) -> dict[str, float]:
        """What is tracked of it."""
        return {"relative_cost": self.relative_cost, "missed": self.missed}

    def row(self) -> dict[str, float | int]:
        """What a bundle says of it."""
        return {
            "relative_to_on_demand": self.relative_cost,
            "missed_deadlines": self.missed,
            "episodes": self.episodes,
        }


class HeldOut:
    """Windows that training never sees."""

    def __init__(
        self,
        markets: Sequence[Market],
        jobs: Sequence[DeadlineJob],
        stride_hours: float,
        *,
        together: bool = False,
    ) -> None:
        """Lay out the windows of each job in every pool, or in all pools of a market `together`.

        Raises:
            InputError: A job does not fit.
        """
        self._windows: list[tuple[DeadlineJob, Windows]] = []
        for job in jobs:
            singles: list[Market] = []
            names: list[str] = []
            market: list[int] = []
            start: list[int] = []
            for each in markets:
                stride = max(1, round(stride_hours * 3600.0 / each.tick_seconds))
                try:
                    starts = window_starts(each, job, stride)
                except InputError as error:
                    raise InputError(
                        f"evaluation: {error}; raise evaluation.holdout_share or evaluate shorter jobs"
                    ) from error
                numbers = list(range(len(each.pools)))
                for pools in [numbers] if together else [[pool] for pool in numbers]:
                    market += [len(singles)] * len(starts)
                    start += starts.tolist()
                    singles.append(each.select(pools))
                    names.append("+".join(each.pools[pool].name for pool in pools))
            windows = Windows(
                MarketStack.of(singles), tuple(names), np.array(market, np.int64), np.array(start, np.int64)
            )
            self._windows.append((job, windows))

    @property
    def episodes(self) -> int:
        """Number of episodes of one evaluation."""
        return sum(len(windows.start) for _, windows in self._windows)

    def score(self, policy: DeadlinePolicy) -> Score:
        """Replay the policy, behind the shield, over all windows."""
        relative, missed = [], 0
        for job, windows in self._windows:
            batch = run(Shielded(policy), windows, job)
            relative.append(batch.cost / _on_demand_usd(windows, job))
            missed += int(batch.missed.sum())
        return Score(float(np.concatenate(relative).mean()), missed, self.episodes)

    def optimum(self) -> float:
        """Mean relative cost of the clairvoyant optimum over all windows: what a score can reach at best."""
        relative = [
            clairvoyant_optimum(windows.stack, job, windows.market, windows.start)
            / _on_demand_usd(windows, job)
            for job, windows in self._windows
        ]
        return float(np.concatenate(relative).mean())


def _on_demand_usd(windows: Windows, job: DeadlineJob) -> FloatArray:
    usd_per_hour = windows.stack.on_demand_price[windows.market, windows.start]
    return usd_per_hour * job.nodes * job.work_seconds / 3600.0


def split(markets: Sequence[Market], holdout_share: float) -> tuple[list[Market], list[Market]]:
    """The beginning of each market to train on, and its end to evaluate on.

    Raises:
        InputError: A market is too short to be split.
    """
    before, after = [], []
    for market in markets:
        cut = round(market.ticks * (1.0 - holdout_share))
        if not 0 < cut < market.ticks:
            raise InputError(f"a market of {market.ticks} ticks cannot be split into training and evaluation")
        before.append(market.window(0, cut))
        after.append(market.window(cut, market.ticks - cut))
    return before, after
