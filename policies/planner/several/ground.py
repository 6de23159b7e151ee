"""What the programmes over several pools know of throughputs and moves: where a job can be and get to.

A placement is numbered so: idle with the data in each location (with several locations, the last is nowhere),
on-demand in each location, then each pool. With one location these are idle, on-demand and the pools.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.deadline.observation import FloatArray, IntArray


@dataclass(frozen=True)
class Ground:
    """Throughputs of Q pools and moves between L locations. Hashable: a table depends on it.

    Attributes:
        speed: (Q,) work per productive second, relative to on-demand capacity.
        location: (Q,) location of each pool.
        move_minutes: (L, L) from, to.
        move_cost: (L, L) on-demand ticks, as of the cheapest location.
        on_demand: (L,) price of on-demand capacity relative to the cheapest location.
    """

    speed: tuple[float, ...]
    location: tuple[int, ...]
    move_minutes: tuple[tuple[float, ...], ...] = ((0.0,),)
    move_cost: tuple[tuple[float, ...], ...] = ((0.0,),)
    on_demand: tuple[float, ...] = (1.0,)

    @classmethod
    def flat(cls, pools: int) -> Ground:
        """Pools that differ in price only."""
        return cls((1.0,) * pools, (0,) * pools)

    @property
    def locations(self) -> int:
        """Number of locations L."""
        return len(self.on_demand)

    @property
    def idles(self) -> int:
        """Number of idle placements H: one for each location of the data; nowhere, if there are several."""
        return self.locations + 1 if self.locations > 1 else 1

    @property
    def places(self) -> int:
        """Number of placements."""
        return self.idles + self.locations + len(self.speed)

    @property
    def begins(self) -> IntArray:
        """(H,) location of the on-demand capacity that an idle job goes to."""
        cheapest = int(np.argmin(self.on_demand))
        nowhere = [cheapest] if self.locations > 1 else []
        return np.array([*range(self.locations), *nowhere], np.int64)

    def moves(self) -> tuple[FloatArray, FloatArray]:
        """(H, Q) minutes and cost of a launch of each pool, beside the restart overhead and the tick."""
        minutes, cost = np.zeros((self.idles, len(self.speed))), np.zeros((self.idles, len(self.speed)))
        minutes[: self.locations] = np.array(self.move_minutes)[:, self.location]
        cost[: self.locations] = np.array(self.move_cost)[:, self.location]
        return minutes, cost

    def most_slack(self, slack_minutes: float, minutes_left: float) -> float:
        """Slack that can be reached from `slack_minutes`: pools faster than on-demand capacity gain some."""
        return slack_minutes + max(max(self.speed) - 1.0, 0.0) * minutes_left


@dataclass(frozen=True, eq=False)
class Steps:
    """Where each action leads on a grid of S entries of slack: lower neighbour and weight of the upper one.

    Attributes:
        idle: (S,) entries and weights after an idle tick.
        on_demand: (S,) after a launch of on-demand capacity.
        hold: (Q, S) after a tick in each pool.
        launch: (H, Q, S) after a launch of each pool.
        may_hold: (S,) whether the shield lets spot be held, or the job idle.
        may_launch: (H, Q, S) whether it lets each pool be launched.
    """

    idle: tuple[IntArray, FloatArray]
    on_demand: tuple[IntArray, FloatArray]
    hold: tuple[IntArray, FloatArray]
    launch: tuple[IntArray, FloatArray]
    may_hold: np.ndarray[tuple[int], np.dtype[np.bool_]]
    may_launch: np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]

    @classmethod
    def of(cls, ground: Ground, grid: FloatArray, tick: float, overhead: float) -> Steps:
        """Steps of ticks of `tick` minutes with a restart overhead of `overhead` minutes.

        A tick in a pool of relative throughput r takes (1 - r) ticks of slack, and a launch r times its
        overhead and move more.
        """
        speed = np.array(ground.speed)
        minutes, _ = ground.moves()
        hold = tick * (1.0 - speed)
        return cls(
            between(grid, np.array(tick)),
            between(grid, np.array(overhead)),
            between(grid, hold),
            between(grid, hold + speed * (overhead + minutes)),
            grid >= overhead + tick - 1e-9,
            grid >= (2.0 * overhead + tick + minutes)[:, :, None] - 1e-9,
        )


def between(grid: FloatArray, minutes: FloatArray) -> tuple[IntArray, FloatArray]:
    """For each entry the lower neighbour of (entry - minutes) and the weight of the upper one, (..., S)."""
    target = np.clip(grid - minutes[..., None], 0.0, grid[-1])
    lower = np.clip(np.searchsorted(grid, target, side="right") - 1, 0, len(grid) - 2)
    return lower, (target - grid[lower]) / (grid[lower + 1] - grid[lower])
