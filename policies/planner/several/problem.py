"""What the programmes over several pools are solved for, and the grid and steps that they are solved on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.planner.grid import slack_grid, time_levels, with_due_time
from policies.planner.several.ground import Ground, Steps
from simulator.deadline.observation import FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a table is solved for.

    Attributes:
        tick_minutes: Length of a tick.
        overhead_minutes: Restart overhead.
        ratios: Spot price / on-demand price of each pool.
        horizon_ticks: Most ticks left.
        most_slack_minutes: Most slack.
        ground: Throughputs and moves; None = pools that differ in price only.
        late_minutes: From the due time to the deadline. A job that is done with less slack was late.
        late_rate: Cost of a minute of lateness, on-demand ticks.
    """

    tick_minutes: float
    overhead_minutes: float
    ratios: tuple[float, ...]
    horizon_ticks: int
    most_slack_minutes: float
    ground: Ground | None = None
    late_minutes: float = 0.0
    late_rate: float = 0.0

    def layout(self) -> Layout:
        """Grid and steps."""
        ground = self.ground or Ground.flat(len(self.ratios))
        most = ground.most_slack(self.most_slack_minutes, self.horizon_ticks * self.tick_minutes)
        grid = slack_grid(self.tick_minutes, self.overhead_minutes, most)
        if self.late_rate > 0.0:
            grid = with_due_time(grid, self.tick_minutes, self.overhead_minutes, most, self.late_minutes)
        levels = time_levels(self.horizon_ticks)
        slot = np.full(int(levels[-1]) + 1, -1, np.int64)
        slot[levels] = np.arange(len(levels))
        steps = Steps.of(ground, grid, self.tick_minutes, self.overhead_minutes)
        arrays = Arrays(
            tick=self.tick_minutes,
            ratio=np.array(self.ratios),
            on_demand=np.array(ground.on_demand),
            location=np.array(ground.location),
            begins=ground.begins,
            fee=ground.moves()[1],
            grid=grid,
            lateness=self.late_rate * np.maximum(self.late_minutes - grid, 0.0),
            slot=slot,
            idle_step=steps.idle,
            on_demand_step=steps.on_demand,
            hold_step=steps.hold,
            launch_step=steps.launch,
            holds=steps.may_hold,
            launches=steps.may_launch,
        )
        return Layout(grid, levels, ground.places, arrays)


class Arrays(NamedTuple):
    """What both compiled programmes are given, in this order; see `Problem`, `Ground` and `Steps`.

    Attributes:
        tick: Minutes.
        ratio: (P,).
        on_demand: (L,).
        location: (P,).
        begins: (H,).
        fee: (H, P) cost of the move of a launch.
        grid: (S,) entries along slack.
        lateness: (S,) cost of being done with so much slack.
        slot: Entry of the table for each number of ticks left, or -1.
        idle_step: (S,) of `Steps`, as the rest.
        on_demand_step: (S,).
        hold_step: (P, S).
        launch_step: (H, P, S).
        holds: (S,).
        launches: (H, P, S).
    """

    tick: float
    ratio: FloatArray
    on_demand: FloatArray
    location: IntArray
    begins: IntArray
    fee: FloatArray
    grid: FloatArray
    lateness: FloatArray
    slot: IntArray
    idle_step: tuple[IntArray, FloatArray]
    on_demand_step: tuple[IntArray, FloatArray]
    hold_step: tuple[IntArray, FloatArray]
    launch_step: tuple[IntArray, FloatArray]
    holds: NDArray[np.bool_]
    launches: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Layout:
    """Grid and steps of a problem.

    Attributes:
        slack_minutes: (S,) entries along slack.
        levels: (L,) entries along ticks left.
        places: Number of placements G.
        arrays: For the compiled programmes.
    """

    slack_minutes: FloatArray
    levels: IntArray
    places: int
    arrays: Arrays

    def table(self, joint: int) -> NDArray[np.float32]:
        """(L, S, G, J) an empty table for so many joint phases."""
        return np.zeros((len(self.levels), len(self.slack_minutes), self.places, joint), np.float32)
