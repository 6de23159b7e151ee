"""Exact dynamic programme of the planner: expected cost-to-go for each latent type of zone.

Costs are in on-demand ticks: a tick on on-demand capacity costs 1, one on spot costs `ratio`.
"""

# ruff: noqa: C901 -- compiled: one argument per array, one loop nest per recursion

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.planner.grid import CLOSE, WIDE, slack_grid, time_levels, with_due_time
from simulator.deadline.observation import FloatArray, IntArray
from simulator.synthetic.semi_markov import SemiMarkovModel

BLOCKS = 5
"""Columns of a table come in blocks of B age buckets: idle or on-demand while spot is away, then idle,
on-demand or spot while it is there."""


@dataclass(frozen=True, eq=False)
class TickModel:
    """A semi-Markov model counted in ticks of another length.

    Attributes:
        hazard: (K, 2, B) probability that a run ends at the next tick.
        advance: (B,) probability that a run moves to the next age bucket in a tick.
        first_age: (B,) ticks, fractional, at which each bucket begins.
        stationary: (K, 2, B) long-run share of ticks in each state and bucket.
        prior: (K,) share of each type.
        drift: Probability per tick that a zone draws a new type.
    """

    hazard: FloatArray
    advance: FloatArray
    first_age: FloatArray
    stationary: FloatArray
    prior: FloatArray
    drift: float

    @classmethod
    def of(cls, model: SemiMarkovModel, tick_seconds: float) -> TickModel:
        """Convert hazards per model tick to hazards per `tick_seconds`."""
        scale = tick_seconds / model.tick_seconds
        edges = np.array(model.age_edges, np.float64)
        widths = np.append(np.diff(edges), np.inf)
        hazard = 1.0 - (1.0 - model.hazard) ** scale
        advance = np.minimum(scale / widths, 1.0)
        # An age in model ticks counts from 1; the age in other ticks that begins a bucket is scaled from 0.
        first_age = (edges - 1.0) / scale + 1.0
        drift = (1.0 - model.persistence) / model.chunk_ticks * scale
        return cls(
            hazard,
            advance,
            first_age,
            np.stack([_stationary(per_type, advance) for per_type in hazard]),
            model.prior.copy(),
            min(drift, 1.0),
        )


def _stationary(hazard: FloatArray, advance: FloatArray) -> FloatArray:
    """Long-run distribution over (state, bucket) of one type, from flow balance."""
    buckets = hazard.shape[1]
    visits = np.zeros((2, buckets))
    for state in range(2):
        arriving = 1.0
        for bucket in range(buckets):
            survive = 1.0 - hazard[state, bucket]
            leaving = 1.0 - survive * (1.0 - advance[bucket])
            visits[state, bucket] = arriving / leaving
            arriving = visits[state, bucket] * survive * advance[bucket]
    return np.asarray(visits / visits.sum())


@dataclass(frozen=True, eq=False)
class PlannerTables:
    """Expected cost after a decision, for one tick length, overhead and price ratio.

    Attributes:
        slack_minutes: (S,) entries along slack after the decision.
        levels: (L,) entries along ticks left after the decided tick.
        after: (L, S, 5B, K) float32, on-demand ticks, by type last; columns are BLOCKS blocks of B age
            buckets of the run that the decided tick belongs to.
    """

    slack_minutes: FloatArray
    levels: IntArray
    after: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Memory of the table."""
        return int(self.after.nbytes)

    @classmethod
    def solve(
        cls,
        model: TickModel,
        *,
        tick_minutes: float,
        overhead_minutes: float,
        ratio: float,
        horizon_ticks: int,
        most_slack_minutes: float,
        late_minutes: float = 0.0,
        late_rate: float = 0.0,
    ) -> PlannerTables:
        """Solve backwards from the deadline, for every horizon up to `horizon_ticks`.

        The deadline itself is no parameter: work left is ticks left x tick - slack, so one table serves
        all jobs with these settings.

        Args:
            model: Availability.
            tick_minutes: Length of a tick.
            overhead_minutes: Restart overhead.
            ratio: Spot price / on-demand price.
            horizon_ticks: Most ticks left at a decision.
            most_slack_minutes: Most slack at a decision.
            late_minutes: From the due time to the deadline. A job that is done with less slack was late.
            late_rate: Cost of a minute of lateness, on-demand ticks.
        """
        # a cost of lateness bends the cost-to-go: sparse entries would cost a per cent
        spacing = CLOSE if late_rate > 0.0 else WIDE
        grid = slack_grid(tick_minutes, overhead_minutes, most_slack_minutes, spacing)
        if late_rate > 0.0:
            grid = with_due_time(
                grid, tick_minutes, overhead_minutes, most_slack_minutes, late_minutes, spacing
            )
        levels = time_levels(horizon_ticks, spacing)
        slot = np.full(int(levels[-1]) + 1, -1, np.int64)
        slot[levels] = np.arange(len(levels))
        types, _, buckets = model.hazard.shape
        after = np.zeros((len(levels), len(grid), BLOCKS * buckets, types), np.float32)
        below_idle, weight_idle = below(grid, tick_minutes)
        below_launch, weight_launch = below(grid, overhead_minutes)
        _solve(
            model.hazard,
            model.advance,
            tick_minutes,
            overhead_minutes,
            ratio,
            grid,
            late_rate * np.maximum(late_minutes - grid, 0.0),
            slot,
            below_idle,
            weight_idle,
            below_launch,
            weight_launch,
            after,
        )
        return cls(grid, levels, after)


def below(grid: FloatArray, minutes: float) -> tuple[IntArray, FloatArray]:
    """For each entry the lower neighbour of (entry - minutes) and the weight of the upper one."""
    target = np.maximum(grid - minutes, 0.0)
    lower = np.clip(np.searchsorted(grid, target, side="right") - 1, 0, len(grid) - 2)
    return lower, (target - grid[lower]) / (grid[lower + 1] - grid[lower])


@njit(cache=True, nogil=True)
def _solve(
    hazard: FloatArray,
    advance: FloatArray,
    tick: float,
    overhead: float,
    ratio: float,
    grid: FloatArray,
    lateness: FloatArray,
    slot: IntArray,
    below_idle: IntArray,
    weight_idle: FloatArray,
    below_launch: IntArray,
    weight_launch: FloatArray,
    after: NDArray[np.float32],
) -> None:
    types, _, buckets = hazard.shape
    size = grid.shape[0]
    last = buckets - 1
    expected = np.zeros((size, BLOCKS * buckets))
    value = np.zeros((size, BLOCKS * buckets))
    for k in range(types):
        expected[:] = 0.0
        value[:] = 0.0
        for left in range(slot.shape[0]):
            # value[i, c]: cost-to-go with `left` ticks left, before the decision
            for i in range(size):
                if left * tick - grid[i] <= 1e-9:
                    value[i] = lateness[i]
                    continue
                idle_at, idle_weight = below_idle[i], weight_idle[i]
                launch_at, launch_weight = below_launch[i], weight_launch[i]
                may_hold = grid[i] >= overhead + tick - 1e-9
                may_launch = grid[i] >= 2.0 * overhead + tick - 1e-9
                for up in range(2):
                    for b in range(buckets):
                        on_idle = 2 * up * buckets + b
                        on_demand = on_idle + buckets
                        on_spot = 4 * buckets + b
                        best = np.inf
                        if may_hold:
                            best = (1.0 - idle_weight) * expected[idle_at, on_idle]
                            best += idle_weight * expected[idle_at + 1, on_idle]
                        launch = 1.0 + (1.0 - launch_weight) * expected[launch_at, on_demand]
                        launch += launch_weight * expected[launch_at + 1, on_demand]
                        if up == 1:
                            held = np.inf
                            if may_hold:
                                held = ratio + expected[i, on_spot]
                            value[i, on_spot] = min(held, best, launch)
                            if may_launch:
                                spot = ratio + (1.0 - launch_weight) * expected[launch_at, on_spot]
                                spot += launch_weight * expected[launch_at + 1, on_spot]
                                best = min(best, spot)
                        value[i, on_idle] = min(best, launch)
                        value[i, on_demand] = min(best, 1.0 + expected[i, on_demand])
            for i in range(size):
                for b in range(buckets):
                    older = min(b + 1, last)
                    for block in range(BLOCKS):
                        up = 1 if block >= 2 else 0
                        # spot that goes away leaves the job idle
                        other = 0 if block == 4 else (2 * (1 - up) + block % 2) * buckets
                        own = block * buckets
                        same = (1.0 - advance[b]) * value[i, own + b] + advance[b] * value[i, own + older]
                        h = hazard[k, up, b]
                        expected[i, own + b] = (1.0 - h) * same + h * value[i, other]
            if slot[left] >= 0:
                for i in range(size):
                    for c in range(BLOCKS * buckets):
                        after[slot[left], i, c, k] = expected[i, c]
