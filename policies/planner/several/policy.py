"""Decides among several pools: least expected cost of staying, moving, on-demand and idling."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numba import njit

from policies.planner.cache import CACHE_BYTES, TableCache
from policies.planner.several.belief import fold_pools
from policies.planner.several.costs import write_seen_costs, write_unseen_costs
from policies.planner.several.phases import Phases
from policies.planner.several.tables import SeveralTables
from policies.planner.several.unseen import solve_unseen, steadier
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
UNSEEN_PHASES = (1, 1)
"""The same where pools are not all seen."""
MOST_POOLS, MOST_UNSEEN = 5, 3
"""Of more pools than this, each tick weighs a few: the one that is held and the most promising others."""
SHORTLIST = 4
"""How many if all are seen, else `MOST_UNSEEN`; each with one phase without and one with spot."""


@dataclass(frozen=True)
class Settings:
    """What a table depends on, rounded."""

    tick_seconds: float
    overhead_seconds: float
    ratios: tuple[float, ...]
    phases: int
    unseen: bool


@dataclass(frozen=True, eq=False)
class SeveralPools:
    """Minimises expected cost over several pools that are alike but for their prices.

    Attributes:
        model: Availability of a zone.
        cache_bytes: Tables kept at most.
    """

    model: SemiMarkovModel
    cache_bytes: int = CACHE_BYTES
    _models: dict[tuple[float, tuple[int, int], bool], tuple[TickModel, Phases]] = field(
        default_factory=dict, repr=False
    )

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
        model, _ = self.models(observation.tick_seconds, UNSEEN_PHASES)
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
        unseen = isinstance(observation, PartialObservation) and observation.probes == 0
        if observation.pools <= (MOST_UNSEEN if unseen else MOST_POOLS):
            return self._costs(observation, placement, belief, ratio, unseen, PHASES[observation.pools])
        most = MOST_UNSEEN if unseen else SHORTLIST
        _, phases = self.models(observation.tick_seconds, UNSEEN_PHASES, unseen)
        pool = np.empty((observation.jobs, most), np.int64)
        place = np.empty(observation.jobs, np.int64)
        _shortlist(placement, belief, ratio, phases.outlook, pool, place)
        rows = np.arange(observation.jobs)[:, None]
        few = self._costs(observation, place, belief[rows, pool], ratio[rows, pool], unseen, UNSEEN_PHASES)
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
        unseen: bool,
        split: tuple[int, int],
    ) -> FloatArray:
        model, phases = self.models(observation.tick_seconds, UNSEEN_PHASES if unseen else split, unseen)
        rounded = np.minimum(np.maximum(np.rint(ratio / RATIO_STEP), 1.0) * RATIO_STEP, HIGHEST_RATIO)
        work_left = np.ascontiguousarray(observation.work_left, np.float64)
        time_left = np.ascontiguousarray(observation.time_left, np.float64)
        costs = np.empty((observation.jobs, ratio.shape[1] + 2))
        for rows, key in _groups(observation.restart_overhead, rounded):
            overhead, ratios = key[0], key[1:]
            tables = self._tables(
                Settings(observation.tick_seconds, overhead, ratios, phases.size, unseen),
                phases,
                float(time_left[rows].max()),
                float((time_left[rows] - work_left[rows]).max()),
            )
            jobs = (
                rows,
                observation.tick_seconds / 60.0,
                overhead / 60.0,
                ratio,
                work_left,
                time_left,
                np.ascontiguousarray(observation.pending_overhead, np.float64),
                placement,
                belief,
            )
            pool = (
                model.hazard,
                model.advance,
                model.prior,
                model.drift,
                phases.of_state,
                phases.size,
            )
            table = (tables.slack_minutes, tables.levels, tables.value)
            if unseen:
                write_unseen_costs(*jobs, *pool, tables.there, *table, costs)
            else:
                write_seen_costs(*jobs, *pool, *table, costs)
        return costs

    def models(
        self, tick_seconds: float, split: tuple[int, int], unseen: bool = False
    ) -> tuple[TickModel, Phases]:
        """The model in ticks of another length, and its phases without and with spot."""
        key = (tick_seconds, split, unseen)
        if key not in self._models:
            model = TickModel.of(self.model, tick_seconds)
            phases = Phases.of(model, tick_seconds, *split)
            self._models[key] = (model, steadier(phases) if unseen else phases)
        return self._models[key]

    def _tables(self, settings: Settings, phases: Phases, time_left: float, slack: float) -> SeveralTables:
        def solve(ticks: int, slack_minutes: float) -> SeveralTables:
            return (solve_unseen if settings.unseen else SeveralTables.solve)(
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
