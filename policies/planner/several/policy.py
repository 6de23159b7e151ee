"""Decides among several pools: least expected cost of staying, moving, on-demand and idling."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.planner.cache import CACHE_BYTES, TableCache
from policies.planner.several.belief import fold_pools, phase_odds
from policies.planner.several.phases import Phases
from policies.planner.several.tables import SeveralTables
from policies.planner.tables import TickModel
from policies.protocol import Memory
from policies.shield import legal_actions
from simulator.deadline.observation import (
    FIRST_SPOT,
    DeadlineObservation,
    FloatArray,
    IntArray,
    PartialObservation,
)
from simulator.synthetic.semi_markov import SemiMarkovModel

RATIO_STEP = 0.005
"""Price ratios are rounded to this for the cost-to-go; the price of the decided tick itself is exact."""
HIGHEST_RATIO = 1.5
"""Above on-demand price the ratio no longer matters to the cost-to-go: spot is not worth it."""
PHASES = {2: (3, 3), 3: (2, 2), 4: (1, 2), 5: (1, 1)}
"""Phases without and with spot of each pool, by the number of pools: tables of 10 to 30 MB for three days."""
MOST_POOLS = max(PHASES)
"""Of more pools than this, each tick weighs the most promising ones and the one that is held."""


@dataclass(frozen=True)
class Settings:
    """What a table depends on, rounded."""

    tick_seconds: float
    overhead_seconds: float
    ratios: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class SeveralPools:
    """Minimises expected cost over several pools that are alike but for their prices.

    Attributes:
        model: Availability of a zone.
        cache_bytes: Tables kept at most.
    """

    model: SemiMarkovModel
    cache_bytes: int = CACHE_BYTES
    _models: dict[tuple[float, int], tuple[TickModel, Phases]] = field(default_factory=dict, repr=False)

    @cached_property
    def _cache(self) -> TableCache[Settings, SeveralTables]:
        return TableCache(self.cache_bytes)

    def reset(self, jobs: int, pools: int) -> Memory:
        """Memory of jobs about to begin.

        `belief` (N, P, K, 2, B) over type, state and age bucket of each pool; `begun` (N,) whether it means
        anything yet.
        """
        types, _, buckets = self.model.hazard.shape
        return {
            "belief": np.zeros((jobs, pools, types, 2, buckets)),
            "begun": np.zeros(jobs, np.bool_),
        }

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Decide one tick; always a legal action."""
        memory = self.update(observation, memory)
        costs = self.expected_costs(observation, memory)
        return np.where(legal_actions(observation), costs, np.inf).argmin(axis=1), memory

    def update(self, observation: DeadlineObservation, memory: Memory) -> Memory:
        """The memory after one more look at the pools."""
        model, _ = self.models(observation.tick_seconds, MOST_POOLS)
        belief = np.array(memory["belief"], np.float64)
        begun = np.array(memory["begun"], np.bool_)
        fold_pools(
            np.ascontiguousarray(observation.spot_available, np.bool_),
            observation.knowledge_age
            if isinstance(observation, PartialObservation)
            else np.zeros(observation.spot_available.shape, np.int64),
            np.ascontiguousarray(observation.placement, np.int64),
            model.hazard,
            model.advance,
            model.stationary,
            model.prior,
            model.drift,
            begun,
            belief,
        )
        return {"belief": belief, "begun": begun}

    def expected_costs(self, observation: DeadlineObservation, memory: Memory) -> FloatArray:
        """Expected cost of each action until the job is done, whether it is legal or not.

        Args:
            observation: N jobs over P pools.
            memory: What `update` returned for this observation.

        Returns:
            (N, P + 2) on-demand ticks; infinite for pools that are not weighed.
        """
        placement = np.ascontiguousarray(observation.placement, np.int64)
        belief = np.asarray(memory["belief"], np.float64)
        ratio = np.ascontiguousarray(observation.spot_price / observation.on_demand_price[:, None])
        if observation.pools <= MOST_POOLS:
            return self._costs(observation, placement, belief, ratio)
        _, phases = self.models(observation.tick_seconds, MOST_POOLS)
        pool = np.empty((observation.jobs, MOST_POOLS), np.int64)
        place = np.empty(observation.jobs, np.int64)
        _shortlist(placement, belief, ratio, phases.outlook, pool, place)
        rows = np.arange(observation.jobs)[:, None]
        few = self._costs(observation, place, belief[rows, pool], ratio[rows, pool])
        costs = np.full((observation.jobs, observation.pools + 2), np.inf)
        costs[:, :FIRST_SPOT] = few[:, :FIRST_SPOT]
        costs[rows, pool + FIRST_SPOT] = few[:, FIRST_SPOT:]
        return costs

    def _costs(
        self,
        observation: DeadlineObservation,
        placement: IntArray,
        belief: FloatArray,
        ratio: FloatArray,
    ) -> FloatArray:
        model, phases = self.models(observation.tick_seconds, ratio.shape[1])
        rounded = np.minimum(np.maximum(np.rint(ratio / RATIO_STEP), 1.0) * RATIO_STEP, HIGHEST_RATIO)
        work_left = np.ascontiguousarray(observation.work_left, np.float64)
        time_left = np.ascontiguousarray(observation.time_left, np.float64)
        costs = np.empty((observation.jobs, ratio.shape[1] + 2))
        for rows, key in _groups(observation.restart_overhead, rounded):
            overhead, ratios = key[0], key[1:]
            tables = self._tables(
                Settings(observation.tick_seconds, overhead, ratios),
                phases,
                float(time_left[rows].max()),
                float((time_left[rows] - work_left[rows]).max()),
            )
            _expected_costs(
                rows,
                observation.tick_seconds / 60.0,
                overhead / 60.0,
                ratio,
                work_left,
                time_left,
                np.ascontiguousarray(observation.pending_overhead, np.float64),
                placement,
                belief,
                model.hazard,
                model.advance,
                model.prior,
                model.drift,
                phases.of_state,
                phases.size,
                tables.slack_minutes,
                tables.levels,
                tables.value,
                costs,
            )
        return costs

    def models(self, tick_seconds: float, pools: int) -> tuple[TickModel, Phases]:
        """The model in ticks of another length, and its phases for that many pools."""
        key = (tick_seconds, pools)
        if key not in self._models:
            model = TickModel.of(self.model, tick_seconds)
            self._models[key] = (model, Phases.of(model, tick_seconds, *PHASES[pools]))
        return self._models[key]

    def _tables(self, settings: Settings, phases: Phases, time_left: float, slack: float) -> SeveralTables:
        def solve(ticks: int, slack_minutes: float) -> SeveralTables:
            return SeveralTables.solve(
                phases,
                tick_minutes=settings.tick_seconds / 60.0,
                overhead_minutes=settings.overhead_seconds / 60.0,
                ratios=settings.ratios,
                horizon_ticks=ticks,
                most_slack_minutes=slack_minutes,
            )

        return self._cache.get(settings, time_left / settings.tick_seconds - 1.0, slack / 60.0, solve)


def _groups(overhead: FloatArray, ratio: FloatArray) -> list[tuple[IntArray, tuple[float, ...]]]:
    """Rows that share overhead and rounded price ratios, and these."""
    rows = np.arange(len(ratio))
    if len(rows) == 0:
        return []
    keys = np.concatenate([overhead[:, None], ratio], axis=1)
    if len(rows) == 1 or (keys == keys[0]).all():
        return [(rows, tuple(keys[0].tolist()))]
    order = np.lexsort(keys.T[::-1])
    changes = np.flatnonzero((np.diff(keys[order], axis=0) != 0).any(axis=1)) + 1
    return [(part, tuple(keys[part[0]].tolist())) for part in np.split(rows[order], changes)]


@njit(cache=True, nogil=True)
def _shortlist(
    placement: IntArray,
    belief: FloatArray,  # (N, P, K, 2, B)
    ratio: FloatArray,  # (N, P)
    outlook: FloatArray,  # (K, 2, B)
    pool: IntArray,  # (N, Q)
    place: IntArray,
) -> None:
    """Write Q of the P pools, in their order, and the placement among them.

    The held pool is one of them; the others are those whose hours to come would cost least, with on-demand
    for the time without spot.
    """
    pools, wanted = ratio.shape[1], pool.shape[1]
    price = np.empty(pools)
    for i in range(placement.shape[0]):
        for p in range(pools):
            share = (belief[i, p] * outlook).sum()
            price[p] = 1.0 - share * (1.0 - ratio[i, p])
            if placement[i] == p + 2:
                price[p] = -1.0
        chosen = np.sort(np.argsort(price, kind="mergesort")[:wanted])
        place[i] = min(placement[i], 1)
        for q in range(wanted):
            pool[i, q] = chosen[q]
            if placement[i] == chosen[q] + 2:
                place[i] = q + 2


@njit(cache=True, nogil=True)
def _joint(odds: FloatArray, joint: FloatArray) -> None:
    """Write the probability of each joint phase into `joint` (J,) from `odds` (P, M)."""
    pools, phases = odds.shape
    joint[0] = 1.0
    filled = 1
    for p in range(pools):
        for m in range(phases - 1, -1, -1):
            for j in range(filled):
                joint[m * filled + j] = joint[j] * odds[p, m]
        filled *= phases


@njit(cache=True, nogil=True)
def _after(
    slack: float,
    left: float,
    place: int,
    joint: FloatArray,
    grid: FloatArray,
    levels: IntArray,
    value: NDArray[np.float32],
) -> float:
    """Expected cost-to-go with `left` ticks left, interpolated."""
    level = min(max(np.searchsorted(levels, left, side="right") - 1, 0), levels.shape[0] - 2)
    later = min(max((left - levels[level]) / (levels[level + 1] - levels[level]), 0.0), 1.0)
    slack = min(max(slack, 0.0), grid[-1])
    at = min(max(np.searchsorted(grid, slack, side="right") - 1, 0), grid.shape[0] - 2)
    upper = (slack - grid[at]) / (grid[at + 1] - grid[at])
    total = 0.0
    for dt in range(2):
        in_time = later if dt == 1 else 1.0 - later
        for ds in range(2):
            share = in_time * (upper if ds == 1 else 1.0 - upper)
            if share == 0.0:
                continue
            row = value[level + dt, at + ds, place]
            part = 0.0
            for j in range(joint.shape[0]):
                part += joint[j] * row[j]
            total += share * part
    return total


@njit(cache=True, nogil=True)
def _expected_costs(
    rows: IntArray,
    tick: float,
    overhead: float,
    ratio: FloatArray,  # (N, P)
    work_left: FloatArray,
    time_left: FloatArray,
    pending: FloatArray,
    placement: IntArray,
    belief: FloatArray,  # (N, P, K, 2, B)
    hazard: FloatArray,
    advance: FloatArray,
    prior: FloatArray,
    drift: float,
    of_state: IntArray,
    phases: int,
    grid: FloatArray,
    levels: IntArray,
    value: NDArray[np.float32],
    costs: FloatArray,  # (N, P + 2)
) -> None:
    pools = ratio.shape[1]
    spare = np.empty((2, *hazard.shape))
    odds = np.empty((pools, 2, phases))
    each = np.empty((pools, phases))
    joint = np.empty(value.shape[3])
    asked = np.empty(value.shape[3])
    for i in rows:
        slack = (time_left[i] - work_left[i]) / 60.0
        left = max(time_left[i] / 60.0 / tick - 1.0, 0.0)
        for p in range(pools):
            phase_odds(belief[i, p], hazard, advance, prior, drift, of_state, spare, odds[p])
            each[p] = odds[p, 0] + odds[p, 1]
        _joint(each, joint)
        idle = _after(slack - tick, left, 0, joint, grid, levels, value)
        costs[i, 0] = idle
        held = placement[i]
        rest = slack - (pending[i] / 60.0 if held == 1 else overhead)
        costs[i, 1] = 1.0 + _after(rest, left, 1, joint, grid, levels, value)
        for p in range(pools):
            rest = slack - (pending[i] / 60.0 if held == p + 2 else overhead)
            there = odds[p, 1].sum()
            if there > 1.0 - 1e-9:
                costs[i, p + 2] = ratio[i, p] + _after(rest, left, p + 2, joint, grid, levels, value)
                continue
            costs[i, p + 2] = 0.0
            for state in range(2):
                share = there if state == 1 else 1.0 - there
                if share <= 0.0:
                    continue
                each[p] = odds[p, state] / share
                _joint(each, asked)
                if state == 1:
                    cost = ratio[i, p] + _after(rest, left, p + 2, asked, grid, levels, value)
                else:  # the launch fails
                    cost = _after(slack - tick, left, 0, asked, grid, levels, value)
                costs[i, p + 2] += share * cost
            each[p] = odds[p, 0] + odds[p, 1]
