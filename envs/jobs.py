"""Which jobs episodes are about: ranges to draw from, and the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from envs.series import EpisodeMarkets
from simulator.deadline import DeadlineJob
from simulator.deadline.observation import FloatArray, IntArray
from simulator.errors import InputError

DRAWS = 16
"""Random numbers at a sampler's disposal per episode."""


@dataclass(frozen=True, slots=True)
class Episodes:
    """n episodes that are about to begin; every array is (n,), times in seconds.

    Attributes:
        market: Index into the stack.
        start: First tick.
        work: Work of the job.
        deadline: Time from the start by which it is due.
        restart_overhead: Cost of a launch in time.
        checkpoint_interval: Work between checkpoints, 0 = nothing is lost.
        nodes: Instances the job holds together.
        spot_scale: Factor on the market's spot prices.
    """

    market: IntArray
    start: IntArray
    work: FloatArray
    deadline: FloatArray
    restart_overhead: FloatArray
    checkpoint_interval: FloatArray
    nodes: IntArray
    spot_scale: FloatArray


class JobSampler(Protocol):
    """Draws episodes; must be a function of its arguments alone."""

    def check(self, markets: EpisodeMarkets) -> None:
        """Raise `InputError` if not every draw fits these markets."""
        ...

    def draw(self, uniform: FloatArray, markets: EpisodeMarkets) -> Episodes:
        """Episodes from (n, DRAWS) random numbers in [0, 1)."""
        ...


Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class JobRange:
    """One kind of job: every value is drawn between its two bounds, which may be equal.

    Attributes:
        work_hours: Drawn log-uniformly.
        deadline_ratio: Deadline over work; what exceeds 1 is drawn log-uniformly.
        restart_overhead_minutes: Drawn uniformly; a deadline that is too near for it is moved back.
        price_ratio: Mean spot price over mean on-demand price, drawn uniformly; None = as recorded.
        checkpoint_interval_minutes: Drawn uniformly.
        nodes: Instances the job holds together.
        weight: How often this kind is drawn, relative to the others.
    """

    work_hours: Range = (48.0, 48.0)
    deadline_ratio: Range = (52.0 / 48.0, 52.0 / 48.0)
    restart_overhead_minutes: Range = (12.0, 12.0)
    price_ratio: Range | None = None
    checkpoint_interval_minutes: Range = (0.0, 0.0)
    nodes: int = 1
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Check every range."""
        for name, lowest, exclusive in (
            ("work_hours", 0.0, True),
            ("deadline_ratio", 1.0, False),
            ("restart_overhead_minutes", 0.0, False),
            ("price_ratio", 0.0, True),
            ("checkpoint_interval_minutes", 0.0, False),
        ):
            bounds = getattr(self, name)
            if bounds is None:
                continue
            low, high = bounds
            if not (np.isfinite(high) and low <= high and (low > lowest if exclusive else low >= lowest)):
                accepted = f"{'more than' if exclusive else 'at least'} {lowest:g}, the lower bound first"
                raise InputError(f"{name} from {low} to {high}; accepted: {accepted}")
        if not (np.isfinite(self.weight) and self.weight > 0.0):
            raise InputError(f"weight of {self.weight}; accepted: more than 0")
        if self.nodes < 1:
            raise InputError(f"{self.nodes} nodes; accepted: 1, 2, 3, ...")

    @classmethod
    def of(cls, job: DeadlineJob) -> JobRange:
        """The range that holds this job only.

        Raises:
            InputError: The job has throughputs or moves, which episodes do not know.
        """
        if job.terms is not None:
            raise InputError("a job with throughputs or moves; accepted in environments: jobs without terms")
        ratio = job.deadline_seconds / job.work_seconds
        overhead, checkpoint = job.restart_overhead_seconds / 60.0, job.checkpoint_interval_seconds / 60.0
        return cls(
            work_hours=(job.work_seconds / 3600.0,) * 2,
            deadline_ratio=(ratio, ratio),
            restart_overhead_minutes=(overhead, overhead),
            checkpoint_interval_minutes=(checkpoint, checkpoint),
            nodes=job.nodes,
        )


class JobDistribution:
    """A mixture of job ranges over all windows of all markets.

    A job that does not fit its market is shortened, work and deadline alike.
    """

    def __init__(self, kinds: Sequence[JobRange] = (JobRange(),)) -> None:
        """Prepare the bounds of all kinds as columns."""
        if not kinds:
            raise InputError("no kind of job; at least one is needed")
        self.kinds = tuple(kinds)
        self._edges = np.cumsum([kind.weight for kind in kinds]) / sum(kind.weight for kind in kinds)
        ranges = [field.name for field in fields(JobRange) if field.name not in ("nodes", "weight")]
        self._bounds = {
            name: np.array([getattr(kind, name) or (np.nan, np.nan) for kind in kinds], np.float64)
            for name in ranges
        }
        self._nodes = np.array([kind.nodes for kind in kinds])

    def check(self, markets: EpisodeMarkets) -> None:
        """Refuse markets in which not even the smallest job fits.

        Raises:
            InputError: A market is too short, or a price ratio is asked of free spot capacity.
        """
        seconds = markets.stack.ticks * float(markets.stack.tick_seconds)
        shortest = int(np.argmin(seconds))
        for kind in self.kinds:
            needed = 3600.0 * kind.work_hours[0] * kind.deadline_ratio[0]
            needed = max(needed, 120.0 * kind.restart_overhead_minutes[1])
            if needed > seconds[shortest]:
                raise InputError(
                    f"market {markets.names[shortest]} has {seconds[shortest] / 3600:g} h; the shortest job "
                    f"needs {needed / 3600:g} h"
                )
            if kind.price_ratio is not None and (markets.price_ratio <= 0.0).any():
                free = markets.names[int(np.argmin(markets.price_ratio))]
                raise InputError(f"market {free} has spot price 0, which no factor brings to a price ratio")

    def draw(self, uniform: FloatArray, markets: EpisodeMarkets) -> Episodes:
        """Episodes from (n, DRAWS) random numbers in [0, 1)."""
        kind = np.searchsorted(self._edges, uniform[:, 0], side="right")
        kind = np.minimum(kind, len(self.kinds) - 1)
        market = markets.drawn(uniform[:, 1])
        tick = float(markets.stack.tick_seconds)
        work = np.maximum(np.rint(3600.0 * self._log_uniform("work_hours", kind, uniform[:, 3])), 1.0)
        overhead = np.rint(60.0 * self._uniform("restart_overhead_minutes", kind, uniform[:, 5]))
        ratio = self._log_uniform("deadline_ratio", kind, uniform[:, 4], origin=1.0)
        deadline = np.maximum(np.rint(work * ratio), work + overhead)
        longest = markets.stack.ticks[market] * tick
        too_long = deadline > longest
        work = np.where(too_long, np.floor(work * longest / deadline), work)
        deadline = np.minimum(deadline, longest)
        work = np.minimum(work, deadline - overhead)
        needed = np.ceil(deadline / tick - 1e-9).astype(np.int64)
        room = markets.stack.ticks[market] - needed + 1
        target = self._uniform("price_ratio", kind, uniform[:, 6])
        recorded = np.isnan(target)
        return Episodes(
            market=market,
            start=(uniform[:, 2] * room).astype(np.int64),
            work=work,
            deadline=deadline,
            restart_overhead=overhead,
            checkpoint_interval=np.rint(
                60.0 * self._uniform("checkpoint_interval_minutes", kind, uniform[:, 7])
            ),
            nodes=self._nodes[kind],
            spot_scale=np.where(recorded, 1.0, target / np.where(recorded, 1.0, markets.price_ratio[market])),
        )

    def _uniform(self, name: str, kind: IntArray, uniform: FloatArray) -> FloatArray:
        low, high = self._bounds[name][kind].T
        return np.asarray(low + (high - low) * uniform)

    def _log_uniform(self, name: str, kind: IntArray, uniform: FloatArray, origin: float = 0.0) -> FloatArray:
        low, high = self._bounds[name][kind].T - origin
        low = np.maximum(low, 1e-3 * np.maximum(high, 1e-9))
        return np.asarray(origin + np.where(high > 0.0, low * (np.maximum(high, low) / low) ** uniform, 0.0))
