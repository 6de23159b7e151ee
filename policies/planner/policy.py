"""The semi-Markov planner: belief over zone types, exact programme per type, cheapest expected decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.features.kernels import choose_pool
from policies.planner.belief import fold
from policies.planner.broad import SHARE, broadened
from policies.planner.cache import CACHE_BYTES, TableCache
from policies.planner.several import SeveralPools, is_unseen
from policies.planner.tables import PlannerTables, TickModel
from policies.protocol import Memory
from policies.shield import legal_actions
from simulator.deadline.observation import (
    FIRST_SPOT,
    BoolArray,
    DeadlineObservation,
    FloatArray,
    IntArray,
)
from simulator.synthetic.semi_markov import SemiMarkovModel

RATIO_STEP = 0.005
"""Price ratios are rounded to this for the cost-to-go; the price of the decided tick itself is exact."""
HIGHEST_RATIO = 1.5
"""Above on-demand price the ratio no longer matters to the cost-to-go: spot is not worth it."""


@dataclass(frozen=True)
class Settings:
    """What a table depends on, rounded."""

    tick_seconds: float
    overhead_seconds: float
    ratio: float
    late_minutes: float = 0.0
    late_rate: float = 0.0


@dataclass(frozen=True, eq=False)
class SemiMarkovPlanner:
    """Minimises expected cost under a semi-Markov model of availability, within the shield's rule.

    Each tick the belief over zone types is updated with what was seen; the decision minimises the price
    of the tick plus the belief-weighted cost-to-go. With several pools `several` decides. Decisions depend
    on nothing but observation and memory; tables are solved when first needed and cached.

    Attributes:
        model: Availability of a zone, as fitted.
        name: The policy's name.
        cache_bytes: Tables kept at most.
        unlike: Share of the prior on types of zone unlike those fitted, for jobs over one pool.
    """

    model: SemiMarkovModel
    name: str = "planner"
    cache_bytes: int = CACHE_BYTES
    unlike: float = SHARE
    _tick_models: dict[float, TickModel] = field(default_factory=dict, repr=False)

    @cached_property
    def several(self) -> SeveralPools:
        """Decides for jobs over more than one pool, with the same model."""
        return SeveralPools(self.model, self.cache_bytes)

    @cached_property
    def believed(self) -> SemiMarkovModel:
        """The fitted types and those unlike them: what the belief over one pool is about."""
        return broadened(self.model, self.unlike)

    @cached_property
    def _tables(self) -> TableCache[Settings, PlannerTables]:
        return TableCache(self.cache_bytes)

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        """Memory of jobs about to begin.

        Over one pool: `belief` (N, K, B) over type and age bucket, `last` (N,) availability seen last or -1,
        `age` (N,) ticks of the present run, `known` (N,) whether that age is exact.
        """
        if pools > 1:
            return self.several.reset(jobs, pools)
        # A single pool that is not seen, or has a throughput, turns this into the memory of `several` at its
        # first look.
        types, _, buckets = self.believed.hazard.shape
        return {
            "belief": np.zeros((jobs, types, buckets), np.float32),
            "last": np.full(jobs, -1, np.int8),
            "age": np.zeros(jobs, np.int64),
            "known": np.zeros(jobs, np.bool_),
        }

    def weighs_lateness(self, pools: int) -> bool:
        """The cost of lateness is part of what is minimised, over any number of pools."""
        return pools > 0

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Decide one tick; always a legal action."""
        if observation.pools > 1:
            return self.several.act(observation, memory)
        if is_unseen(observation) or observation.varied:
            begun = memory if memory.keys() >= {"begun"} else self.several.reset(observation.jobs, 1)
            return self.several.act(observation, begun)
        memory = self.update(observation, memory)
        costs, pool = self.expected_costs(observation, memory)
        return cheapest_legal(costs, pool, legal_actions(observation)), memory

    def update(self, observation: DeadlineObservation, memory: Memory) -> Memory:
        """The memory after one more look at the pool; for jobs over one pool."""
        tick_model = self.tick_model(observation.tick_seconds)
        belief = np.array(memory["belief"], np.float32)
        last = np.array(memory["last"], np.int8)
        age = np.array(memory["age"], np.int64)
        known = np.array(memory["known"], np.bool_)
        fold(
            np.asarray(observation.spot_available.any(axis=1)),
            tick_model.hazard,
            tick_model.advance,
            tick_model.first_age,
            tick_model.stationary,
            tick_model.prior,
            tick_model.drift,
            belief,
            last,
            age,
            known,
        )
        return {"belief": belief, "last": last, "age": age, "known": known}

    def expected_costs(self, observation: DeadlineObservation, memory: Memory) -> tuple[FloatArray, IntArray]:
        """Expected cost of idling, on-demand and spot, whether they are legal or not.

        Args:
            observation: N jobs over one pool.
            memory: What `update` returned for this observation.

        Returns:
            (N, 3) cost until the job is done in on-demand ticks (idle, on-demand, spot), that of lateness
            included, and (N,) the pool that "spot" means.
        """
        costs = np.empty((observation.jobs, 3))
        pool = np.empty(observation.jobs, np.int64)
        ratio = np.empty(observation.jobs)
        placement = np.ascontiguousarray(observation.placement, np.int64)
        available = np.ascontiguousarray(observation.spot_available, np.bool_)
        spot_price = np.ascontiguousarray(observation.spot_price, np.float64)
        on_demand = np.ascontiguousarray(observation.on_demand_price, np.float64)
        _choose(placement, available, spot_price, on_demand, pool, ratio)
        work_left = np.ascontiguousarray(observation.work_left, np.float64)
        time_left = np.ascontiguousarray(observation.time_left, np.float64)
        pending = np.ascontiguousarray(observation.pending_overhead, np.float64)
        rounded = np.minimum(np.maximum(np.rint(ratio / RATIO_STEP), 1.0) * RATIO_STEP, HIGHEST_RATIO)
        keys = [observation.restart_overhead, rounded]
        if observation.lateness_price.any():
            rate = observation.lateness_price / on_demand / (observation.tick_seconds / 60.0)
            late_minutes = (observation.time_left - observation.due_left) / 60.0
            keys += [np.where(rate > 0.0, late_minutes, 0.0), rate]
        for rows, values in _groups(*keys):
            settings = Settings(observation.tick_seconds, *values)
            tables = self.tables(
                settings,
                float(time_left[rows].max()),
                float((time_left[rows] - work_left[rows]).max()),
            )
            _expected_costs(
                rows,
                observation.tick_seconds / 60.0,
                settings.overhead_seconds / 60.0,
                ratio,
                work_left,
                time_left,
                pending,
                placement,
                np.asarray(memory["last"], np.int8),
                np.asarray(memory["belief"], np.float32),
                tables.slack_minutes,
                tables.levels,
                tables.after,
                costs,
            )
        return costs, pool

    def tick_model(self, tick_seconds: float) -> TickModel:
        """The model in ticks of another length."""
        if tick_seconds not in self._tick_models:
            self._tick_models[tick_seconds] = TickModel.of(self.believed, tick_seconds)
        return self._tick_models[tick_seconds]

    def tables(self, settings: Settings, time_left: float, slack: float) -> PlannerTables:
        """Tables that reach at least `time_left` and `slack` seconds, solved if need be."""

        def solve(ticks: int, slack_minutes: float) -> PlannerTables:
            return PlannerTables.solve(
                self.tick_model(settings.tick_seconds),
                tick_minutes=settings.tick_seconds / 60.0,
                overhead_minutes=settings.overhead_seconds / 60.0,
                ratio=settings.ratio,
                horizon_ticks=ticks,
                most_slack_minutes=slack_minutes,
                late_minutes=settings.late_minutes,
                late_rate=settings.late_rate,
            )

        return self._tables.get(settings, time_left / settings.tick_seconds - 1.0, slack / 60.0, solve)


def cheapest_legal(costs: FloatArray, pool: IntArray, legal: BoolArray) -> IntArray:
    """(N,) legal action of least cost; `costs` (N, 3) for idle, on-demand and spot in `pool`."""
    rows = np.arange(len(pool))
    allowed = np.stack([legal[:, 0], legal[:, 1], legal[rows, pool + FIRST_SPOT]], axis=1)
    choice = np.where(allowed, costs, np.inf).argmin(axis=1)
    return np.where(choice == FIRST_SPOT, pool + FIRST_SPOT, choice)


def _groups(*keys: FloatArray) -> list[tuple[IntArray, tuple[float, ...]]]:
    """Rows that share all keys, and these."""
    rows = np.arange(len(keys[0]))
    if len(rows) == 0:
        return []
    if all((key == key[0]).all() for key in keys):
        return [(rows, tuple(float(key[0]) for key in keys))]
    order = np.lexsort(keys)
    differs = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
    parts = np.split(rows[order], np.flatnonzero(differs) + 1)
    return [(part, tuple(float(key[part[0]]) for key in keys)) for part in parts]


@njit(cache=True, nogil=True)
def _choose(
    placement: IntArray,
    available: BoolArray,
    spot_price: FloatArray,
    on_demand_price: FloatArray,
    pool: IntArray,
    ratio: FloatArray,
) -> None:
    for i in range(placement.shape[0]):
        pool[i] = choose_pool(i, placement, available, spot_price)
        ratio[i] = spot_price[i, pool[i]] / on_demand_price[i]


@njit(cache=True, nogil=True)
def _expected_costs(
    rows: IntArray,
    tick: float,
    overhead: float,
    ratio: FloatArray,
    work_left: FloatArray,
    time_left: FloatArray,
    pending: FloatArray,
    placement: IntArray,
    up: NDArray[np.int8],
    belief: NDArray[np.float32],  # (N, K, B)
    grid: FloatArray,
    levels: IntArray,
    after: NDArray[np.float32],
    costs: FloatArray,  # (N, 3)
) -> None:
    types, buckets = belief.shape[1], belief.shape[2]
    held = np.zeros(buckets, np.bool_)  # all but one are empty once the age is known
    for i in rows:
        for b in range(buckets):
            held[b] = False
            for k in range(types):
                if belief[i, k, b] > 0.0:
                    held[b] = True
        slack = (time_left[i] - work_left[i]) / 60.0
        left = max(time_left[i] / 60.0 / tick - 1.0, 0.0)
        level = min(max(np.searchsorted(levels, left, side="right") - 1, 0), levels.shape[0] - 2)
        later = min(max((left - levels[level]) / (levels[level + 1] - levels[level]), 0.0), 1.0)
        for action in range(3):
            if action == 0:
                rest = slack - tick
                price = 0.0
                block = 2 * up[i]
            else:
                rest = slack - (pending[i] / 60.0 if min(placement[i], 2) == action else overhead)
                price = 1.0 if action == 1 else ratio[i]
                block = 2 * up[i] + 1 if action == 1 else 4
            rest = min(max(rest, 0.0), grid[-1])
            at = min(max(np.searchsorted(grid, rest, side="right") - 1, 0), grid.shape[0] - 2)
            upper = (rest - grid[at]) / (grid[at + 1] - grid[at])
            total = 0.0
            for b in range(buckets):
                if not held[b]:
                    continue
                c = block * buckets + b
                for k in range(types):
                    soon = (1.0 - upper) * after[level, at, c, k] + upper * after[level, at + 1, c, k]
                    late = (1.0 - upper) * after[level + 1, at, c, k] + upper * after[level + 1, at + 1, c, k]
                    total += belief[i, k, b] * ((1.0 - later) * soon + later * late)
            costs[i, action] = price + total
