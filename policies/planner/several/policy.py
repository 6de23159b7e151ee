"""Decides among several pools: least expected cost of staying, moving, on-demand and idling."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from policies.planner.cache import CACHE_BYTES, TableCache
from policies.planner.several.belief import (
    UNKNOWN,
    BeliefStep,
    Float32Array,
    Int8Array,
    fold_pools,
    halves,
    odds_ahead,
    shortlist,
    write_odds,
)
from policies.planner.several.costs import write_seen_costs, write_unseen_costs
from policies.planner.several.ground import Ground
from policies.planner.several.phases import Phases
from policies.planner.several.problem import Problem
from policies.planner.several.tables import SeveralTables
from policies.planner.several.unseen import solve_unseen, steadier
from policies.planner.several.varied import (
    Surroundings,
    write_varied_seen_costs,
    write_varied_unseen_costs,
)
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
PHASES = {1: (3, 3), 2: (3, 3), 3: (2, 2), 4: (1, 2), 5: (1, 1)}
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
    ground: Ground | None = None
    late_minutes: float = 0.0
    late_rate: float = 0.0


@dataclass(frozen=True, eq=False)
class Lumped:
    """A pool as the tables know it.

    Attributes:
        phases: Its phases.
        ahead: (M, 2, S) probability of each phase at the next tick, from each entry of a belief.
        outlook: (2, S) discounted share of time with spot to come, from each entry of a belief.
    """

    phases: Phases
    ahead: Float32Array
    outlook: Float32Array


@dataclass(frozen=True, eq=False)
class SeveralPools:
    """Minimises expected cost over several pools: prices, throughputs, moves of the data, lateness.

    Attributes:
        model: Availability of a zone.
        cache_bytes: Tables kept at most.
    """

    model: SemiMarkovModel
    cache_bytes: int = CACHE_BYTES
    _steps: dict[float, BeliefStep] = field(default_factory=dict, repr=False)
    _lumped: dict[tuple[float, tuple[int, int], bool], Lumped] = field(default_factory=dict, repr=False)

    @cached_property
    def _cache(self) -> TableCache[Settings, SeveralTables]:
        return TableCache(self.cache_bytes)

    def reset(self, jobs: int, pools: int) -> Memory:
        """Memory of jobs about to begin.

        `belief` (N, P, 2, K, B) over state, type and age bucket of each pool; `known` (N, P) the state that
        the belief is certain of, or -1; `begun` (N,) whether it means anything yet.
        """
        types, _, buckets = self.model.hazard.shape
        return {
            "belief": np.zeros((jobs, pools, 2, types, buckets), np.float32),
            "known": np.full((jobs, pools), UNKNOWN, np.int8),
            "begun": np.zeros(jobs, np.bool_),
        }

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Decide one tick; always a legal action."""
        memory = self.update(observation, memory)
        costs = self.expected_costs(observation, memory)
        return np.where(legal_actions(observation), costs, np.inf).argmin(axis=1), memory

    def update(self, observation: DeadlineObservation, memory: Memory) -> Memory:
        """The memory after one more look at the pools."""
        step = self._step(observation.tick_seconds)
        belief = np.ascontiguousarray(memory["belief"], np.float32)
        known = np.ascontiguousarray(memory["known"], np.int8)
        after, known_after = np.empty_like(belief), np.empty_like(known)
        shape = (*known.shape, 2, -1)
        fold_pools(
            np.ascontiguousarray(observation.spot_available, np.bool_),
            observation.knowledge_age
            if isinstance(observation, PartialObservation)
            else np.zeros(observation.spot_available.shape, np.int64),
            np.ascontiguousarray(observation.placement, np.int64),
            np.ascontiguousarray(memory["begun"], np.bool_),
            known,
            belief.reshape(shape),
            step.start,
            step.stay,
            step.older,
            step.ends,
            step.prior,
            step.drift,
            known_after,
            after.reshape(shape),
        )
        return {"belief": after, "known": known_after, "begun": np.ones(observation.jobs, np.bool_)}

    def expected_costs(self, observation: DeadlineObservation, memory: Memory) -> FloatArray:
        """Expected cost of each action until the job is done, whether it is legal or not.

        Args:
            observation: N jobs over P pools.
            memory: What `update` returned for this observation.

        Returns:
            (N, P + 2) on-demand ticks, lateness included (where moves cost: of the cheapest location);
            infinite for pools that are not weighed.
        """
        known = np.ascontiguousarray(memory["known"], np.int8)
        belief = np.ascontiguousarray(memory["belief"], np.float32).reshape(*known.shape, 2, -1)
        placement = np.ascontiguousarray(observation.placement, np.int64)
        ratio = np.ascontiguousarray(observation.spot_price / observation.on_demand_price[:, None])
        # The programme over beliefs forgets within hours how bad a pool was, and so waits where the data are
        # for ever: where moves cost, those who ask are taken to see all pools from the next tick on.
        unseen = is_unseen(observation) and observation.move_seconds.shape[-1] <= 1
        most = MOST_UNSEEN if unseen else MOST_POOLS
        if observation.pools <= most:
            split = UNSEEN_PHASES if unseen else PHASES[observation.pools]
            lumped = self._lump(observation.tick_seconds, split, unseen)
            pool = np.broadcast_to(np.arange(observation.pools), ratio.shape)
            return self._costs(observation, placement, known, belief, pool, ratio, lumped, unseen)
        lumped = self._lump(observation.tick_seconds, UNSEEN_PHASES, unseen)
        pool = np.empty((observation.jobs, MOST_UNSEEN if unseen else SHORTLIST), np.int64)
        place = np.empty(observation.jobs, np.int64)
        work_ratio = np.ascontiguousarray(observation.price_of_work / observation.on_demand_price[:, None])
        shortlist(placement, known, belief, work_ratio, lumped.outlook, pool, place)
        few_ratio = np.take_along_axis(ratio, pool, axis=1)
        few = self._costs(observation, place, known, belief, pool, few_ratio, lumped, unseen)
        costs = np.full((observation.jobs, observation.pools + 2), np.inf)
        costs[:, :FIRST_SPOT] = few[:, :FIRST_SPOT]
        np.put_along_axis(costs, pool + FIRST_SPOT, few[:, FIRST_SPOT:], axis=1)
        return costs

    def _costs(
        self,
        observation: DeadlineObservation,
        placement: IntArray,
        known: Int8Array,
        belief: Float32Array,
        pool: IntArray,
        ratio: FloatArray,
        lumped: Lumped,
        unseen: bool,
    ) -> FloatArray:
        """Costs over the Q pools (N, Q) of each job, of which `placement` and `ratio` speak."""
        phases = lumped.phases
        around = Surroundings.of(observation, pool) if observation.varied else None
        highest: float | FloatArray = HIGHEST_RATIO
        if around is not None:
            ratio = ratio * (observation.on_demand_price / around.price)[:, None]
            highest = HIGHEST_RATIO * np.maximum(around.speed, 1.0)
        rounded = np.minimum(np.maximum(np.rint(ratio / RATIO_STEP), 1.0) * RATIO_STEP, highest)
        work_left = np.ascontiguousarray(observation.work_left, np.float64)
        time_left = np.ascontiguousarray(observation.time_left, np.float64)
        odds = np.empty((*pool.shape, 2, phases.size))
        write_odds(known, belief, lumped.ahead, pool, odds)
        costs = np.empty((observation.jobs, ratio.shape[1] + 2))
        for rows, settings in _settings(observation, rounded, around, phases.size, unseen):
            tables = self._tables(
                settings,
                phases,
                float(time_left[rows].max()),
                float((time_left[rows] - work_left[rows]).max()),
            )
            jobs = (
                rows,
                observation.tick_seconds / 60.0,
                settings.overhead_seconds / 60.0,
                ratio,
                work_left,
                time_left,
                np.ascontiguousarray(observation.pending_overhead, np.float64),
                placement,
                odds,
            )
            table = (tables.slack_minutes, tables.levels, tables.value)
            if around is not None and unseen:
                write_varied_unseen_costs(*jobs, *around.arrays, tables.there, *table, costs)
            elif around is not None:
                write_varied_seen_costs(*jobs, *around.arrays, *table, costs)
            elif unseen:
                write_unseen_costs(*jobs, tables.there, *table, costs)
            else:
                write_seen_costs(*jobs, *table, costs)
        return costs

    def _step(self, tick_seconds: float) -> BeliefStep:
        if tick_seconds not in self._steps:
            self._steps[tick_seconds] = BeliefStep.of(TickModel.of(self.model, tick_seconds))
        return self._steps[tick_seconds]

    def _lump(self, tick_seconds: float, split: tuple[int, int], unseen: bool) -> Lumped:
        """A pool with `split` phases without and with spot."""
        key = (tick_seconds, split, unseen)
        if key not in self._lumped:
            model = TickModel.of(self.model, tick_seconds)
            phases = Phases.of(model, tick_seconds, *split)
            ahead = odds_ahead(model, phases.of_state, phases.size)
            outlook = halves(phases.outlook)
            self._lumped[key] = Lumped(steadier(phases) if unseen else phases, ahead, outlook)
        return self._lumped[key]

    def _tables(self, settings: Settings, phases: Phases, time_left: float, slack: float) -> SeveralTables:
        def solve(ticks: int, slack_minutes: float) -> SeveralTables:
            problem = Problem(
                tick_minutes=settings.tick_seconds / 60.0,
                overhead_minutes=settings.overhead_seconds / 60.0,
                ratios=settings.ratios,
                horizon_ticks=ticks,
                most_slack_minutes=slack_minutes,
                ground=settings.ground,
                late_minutes=settings.late_minutes,
                late_rate=settings.late_rate,
            )
            return (solve_unseen if settings.unseen else SeveralTables.solve)(phases, problem)

        return self._cache.get(settings, time_left / settings.tick_seconds - 1.0, slack / 60.0, solve)


def _settings(
    observation: DeadlineObservation,
    ratio: FloatArray,
    around: Surroundings | None,
    phases: int,
    unseen: bool,
) -> list[tuple[IntArray, Settings]]:
    """Jobs that share a table, and what it depends on; `ratio` (N, Q) is rounded."""
    columns = [observation.restart_overhead[:, None], ratio]
    late = bool(observation.lateness_price.any())
    if late:
        price = observation.on_demand_price if around is None else around.price
        rate = observation.lateness_price / price / (observation.tick_seconds / 60.0)
        minutes = np.where(rate > 0.0, (observation.time_left - observation.due_left) / 60.0, 0.0)
        columns += [minutes[:, None], rate[:, None]]
    if around is not None:
        columns += around.keys(RATIO_STEP)
    tick = observation.tick_seconds
    settings = []
    for rows, key in _groups(np.concatenate(columns, axis=1)):
        ratios, rest = key[1 : ratio.shape[1] + 1], key[ratio.shape[1] + 1 :]
        late_minutes, late_rate = rest[:2] if late else (0.0, 0.0)
        ground = None if around is None else around.ground(rest[2 * late :])
        settings.append(
            (rows, Settings(tick, key[0], ratios, phases, unseen, ground, late_minutes, late_rate))
        )
    return settings


def is_unseen(observation: DeadlineObservation) -> bool:
    """Whether nothing is known of a pool but what was answered when it was asked or occupied."""
    return isinstance(observation, PartialObservation) and observation.probes == 0


def _groups(keys: FloatArray) -> list[tuple[IntArray, tuple[float, ...]]]:
    """Rows that share all keys (N, ...), and these."""
    rows = np.arange(len(keys))
    if len(rows) == 0:
        return []
    if len(rows) == 1 or (keys == keys[0]).all():
        return [(rows, tuple(keys[0].tolist()))]
    order = np.lexsort(keys.T[::-1])
    changes = np.flatnonzero((np.diff(keys[order], axis=0) != 0).any(axis=1)) + 1
    return [(part, tuple(keys[part[0]].tolist())) for part in np.split(rows[order], changes)]
