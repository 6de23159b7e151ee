"""The semi-Markov planner: belief over zone types, exact programme per type, cheapest expected decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from policies.planner.belief import fold
from policies.planner.broad import SHARE, broadened
from policies.planner.cache import CACHE_BYTES, TableCache
from policies.planner.costs import choose_cheapest, write_costs, write_keys
from policies.planner.several import SeveralPools, is_unseen
from policies.planner.tables import PlannerTables, TickModel
from policies.protocol import Memory
from policies.shield import rule_arrays
from simulator.deadline.observation import (
    BoolArray,
    DeadlineObservation,
    FloatArray,
    IntArray,
)
from simulator.synthetic.semi_markov import SemiMarkovModel


class Settings(NamedTuple):
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
        # A single pool that is not seen turns this into the memory of `several` at its first look; one that
        # has a throughput too, unless it began with `reset_varied`.
        types, _, buckets = self.believed.hazard.shape
        return {
            "belief": np.zeros((jobs, types, buckets), np.float32),
            "last": np.full(jobs, -1, np.int8),
            "age": np.zeros(jobs, np.int64),
            "known": np.zeros(jobs, np.bool_),
        }

    def reset_varied(self, jobs: int, pools: int) -> Memory:
        """Memory of jobs about to begin over pools that differ in more than price: that of `several`."""
        return self.several.reset(jobs, pools)

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
        return self.choose(observation, costs, pool)[0], memory

    def update(self, observation: DeadlineObservation, memory: Memory) -> Memory:
        """The memory after one more look at the pool; for jobs over one pool."""
        model = self.tick_model(observation.tick_seconds)
        before = np.ascontiguousarray(memory["belief"], np.float32)
        jobs = observation.jobs
        belief, last = np.empty_like(before), np.empty(jobs, np.int8)
        age, known = np.empty(jobs, np.int64), np.empty(jobs, np.bool_)
        fold(
            np.ascontiguousarray(observation.spot_available, np.bool_),
            model.hazard,
            model.advance,
            model.first_age,
            model.stationary,
            model.prior,
            model.drift,
            before,
            np.ascontiguousarray(memory["last"], np.int8),
            np.ascontiguousarray(memory["age"], np.int64),
            np.ascontiguousarray(memory["known"], np.bool_),
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
        jobs = observation.jobs
        costs, pool = np.empty((jobs, 3)), np.empty(jobs, np.int64)
        ratio, keys = np.empty(jobs), np.empty((jobs, 4))
        tick = observation.tick_seconds / 60.0
        placement = np.ascontiguousarray(observation.placement, np.int64)
        work_left = np.ascontiguousarray(observation.work_left, np.float64)
        time_left = np.ascontiguousarray(observation.time_left, np.float64)
        same, most_left, most_slack = write_keys(
            tick,
            placement,
            np.ascontiguousarray(observation.spot_available, np.bool_),
            np.ascontiguousarray(observation.spot_price, np.float64),
            np.ascontiguousarray(observation.on_demand_price, np.float64),
            np.ascontiguousarray(observation.restart_overhead, np.float64),
            work_left,
            time_left,
            np.ascontiguousarray(observation.due_left, np.float64),
            np.ascontiguousarray(observation.lateness_price, np.float64),
            pool,
            ratio,
            keys,
        )
        pending = np.ascontiguousarray(observation.pending_overhead, np.float64)
        last = np.ascontiguousarray(memory["last"], np.int8)
        belief = np.ascontiguousarray(memory["belief"], np.float32)
        for rows in _groups(keys, same):
            if not same:
                most_left = float(time_left[rows].max())
                most_slack = float((time_left[rows] - work_left[rows]).max())
            settings = Settings(observation.tick_seconds, *keys[rows[0]].tolist())
            tables = self.tables(settings, most_left, most_slack)
            write_costs(
                rows,
                tick,
                settings.overhead_seconds / 60.0,
                ratio,
                work_left,
                time_left,
                pending,
                placement,
                last,
                belief,
                tables.slack_minutes,
                tables.levels,
                tables.after,
                costs,
            )
        return costs, pool

    def choose(
        self, observation: DeadlineObservation, costs: FloatArray, pool: IntArray, doubt: float = 0.0
    ) -> tuple[IntArray, BoolArray, int]:
        """The cheapest legal action of each job, and where another is worse by less than `doubt`.

        Args:
            observation: N jobs over one pool.
            costs: (N, 3) as of `expected_costs`.
            pool: (N,) as of `expected_costs`.
            doubt: On-demand ticks.

        Returns:
            (N,) actions, (N,) whether each is in doubt, and how many are.
        """
        choice, doubtful = np.empty(observation.jobs, np.int64), np.empty(observation.jobs, np.bool_)
        count = choose_cheapest(*rule_arrays(observation), pool, costs, doubt, choice, doubtful)
        return choice, doubtful, count

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


def _groups(keys: FloatArray, same: bool) -> list[IntArray]:
    """Rows that share all keys (N, ...); `same` if all of them do."""
    if same:
        return [np.arange(len(keys))] if len(keys) else []
    order = np.lexsort(keys.T)
    changes = np.flatnonzero((np.diff(keys[order], axis=0) != 0).any(axis=1)) + 1
    return np.split(order, changes)
