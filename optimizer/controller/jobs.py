"""Deadline jobs as the controller keeps them: what is left to do, where they run, what they have cost.

The arithmetic between two looks is that of `simulator.deadline.kernel`, for a span of any length; work that
nobody can vouch for is not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.controller.ground import Ground
from optimizer.controller.inventory import Inventory
from optimizer.controller.journal import InstanceRow
from optimizer.plan import DeadlineWorkload
from policies.protocol import DeadlinePolicy, Memory, fresh_memory
from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND, DeadlineObservation
from simulator.deadline.kernel import EPSILON_SECONDS
from simulator.deadline.observation import BoolArray, FloatArray, IntArray

STATE = (
    "work_left",
    "unsaved",
    "pending",
    "placement",
    "cost",
    "lateness",
    "rate",
    "at",
    "moved_at",
    "done",
    "missed",
    "on_demand_before",
)
TERMS = ("begins", "deadline", "due", "work_total")
"""What a run of a job is about; those of an earlier run hold until that is done."""


class JobFleet:
    """Jobs that share a policy and a number of pools P; N rows.

    Arrays, (N,) unless said: `work_left`, `unsaved`, `pending` in seconds, `placement` as in the simulator,
    `cost` USD so far that the cloud bills, `lateness` USD so far for being late, `rate` USD/h of the present
    placement, `at` time of the last look, `done`, `missed`, `earlier` whether it still runs on the terms of
    the plan before, `on_demand_before` USD that its earlier run would have cost on on-demand capacity, `fee`
    USD for copies of launches that the next look adds to the cost, `late` seconds from the last look to
    the launch of what the job got then. `ground` says how pools differ beside their prices; None if they do
    not.
    `pool_index` (N, P) points into `pools`; the last column of every count is on-demand capacity.
    """

    def __init__(self, key: str, workloads: Sequence[DeadlineWorkload]) -> None:
        """Begin the jobs of a plan, all work still to be done."""
        self.key = key
        self.workloads = tuple(workloads)
        self.names = [one.name for one in workloads]
        self.row = {name: row for row, name in enumerate(self.names)}
        self.size, self.pools_each = len(workloads), len(workloads[0].pools)
        self.pools = {pool.name: pool for one in workloads for pool in one.pools}
        place = {name: k for k, name in enumerate(self.pools)}
        self.pool_index = np.array([[place[p.name] for p in one.pools] for one in workloads])
        self.column = [{p.name: k for k, p in enumerate(one.pools)} for one in workloads]
        jobs = [one.job for one in workloads]
        self.work_total = np.array([job.work_seconds for job in jobs])
        self.begins = np.array([one.begins.timestamp() for one in workloads])
        self.deadline = np.array([one.deadline.timestamp() for one in workloads])
        self.due = self.begins + np.array([job.due_or_deadline_seconds for job in jobs])
        self.lateness_price = np.array([job.lateness_usd_per_hour for job in jobs])
        self.restart_overhead = np.array([job.restart_overhead_seconds for job in jobs])
        self.checkpoint_interval = np.array([job.checkpoint_interval_seconds for job in jobs])
        self.nodes = np.array([job.nodes for job in jobs], np.int64)
        self.committed = np.array([job.committed for job in jobs], np.int64)
        self.paid = self.nodes - self.committed
        prices = np.array([[p.on_demand_price for p in one.pools] for one in workloads])
        self.cheapest = np.argmin(prices, axis=1)
        self.on_demand_price = prices.min(axis=1)
        self.ground = Ground(workloads) if jobs[0].terms is not None else None
        if self.ground is not None:
            self.settle()
        self._reference_price = self.on_demand_price.copy()
        self.work_left = self.work_total.copy()
        self.unsaved, self.pending = np.zeros(self.size), np.zeros(self.size)
        self.cost, self.lateness, self.rate, self.fee = (np.zeros(self.size) for _ in range(4))
        self.placement = np.zeros(self.size, np.int64)
        self.at = np.full(self.size, np.nan)
        self.late = np.zeros(self.size)
        self.moved_at = np.full(self.size, -np.inf)
        self.done: BoolArray = np.zeros(self.size, np.bool_)
        self.missed: BoolArray = np.zeros(self.size, np.bool_)
        self.finished_at = np.full(self.size, np.nan)
        self.on_demand_before = np.zeros(self.size)
        self.earlier: BoolArray = np.zeros(self.size, np.bool_)
        self._waits: BoolArray = np.zeros(self.size, np.bool_)
        self._looked = np.nan
        self._terms = {name: getattr(self, name).copy() for name in TERMS}
        self.memory: Memory = {}

    def state(self) -> dict[str, NDArray[Any]]:
        """What a restart needs, apart from the policy's memory; `handover` puts it back."""
        kept = {name: getattr(self, name) for name in (*STATE, *TERMS)} | {"late": self.late}
        return kept if self.ground is None else kept | {"fee": self.fee, "data_region": self.ground.saved()}

    @property
    def active(self) -> BoolArray:
        """(N,) begun and not done."""
        return np.asarray(np.isfinite(self.at) & ~self.done)

    def held(self, inventory: Inventory) -> IntArray:
        """(N, P + 1) instances held per pool, and on-demand; of a gang in its fullest on-demand pool."""
        counts = np.zeros((self.size, self.pools_each + 1), np.int64)
        for instance in inventory.all_live():
            row = self.row.get(instance.workload)
            if row is None:
                continue
            column = self.column[row].get(instance.pool)
            if instance.option == "on-demand":
                counts[row, -1] += self.on_demand_fits(row, instance.pool)
            elif column is not None:
                counts[row, column] += 1
        for row in np.flatnonzero((self.nodes > 1) & (counts[:, -1] > 0)).tolist():
            counts[row, -1] = max(self.on_demand_pools(row, inventory).values())
        return counts

    def anew(self, inventory: Inventory) -> list[str]:
        """Jobs that run where they ran at the last look, on instances that were launched since.

        A tick that a crash left unfinished lost the ones before: the new ones are adopted.
        """
        old, new = Counter[int](), set()
        for instance in inventory.all_live():
            row = self.row.get(instance.workload)
            if row is None:
                continue
            if self._ran_in(row, instance):
                if instance.launched_at > self.at[row] + self.late[row]:
                    new.add(row)
                else:
                    old[row] += 1
        return [self.names[row] for row in sorted(new) if old[row] < self.nodes[row]]

    def ends(
        self, lost: Mapping[str, Sequence[InstanceRow]], earlier: Mapping[str, float]
    ) -> dict[str, float | None]:
        """When the run that a job was in at the last look ended; None = nobody knows.

        An instance elsewhere was launched in a tick that a crash left unfinished: its end says nothing of
        that run.

        Args:
            lost: Instances that ended since, by workload.
            earlier: First ends that the journal knows of, by workload.
        """
        ended: dict[str, float | None] = {}
        for name in {*lost, *earlier} & self.row.keys():
            mine = [one for one in lost.get(name, ()) if self._ran_in(self.row[name], one)]
            known = [one.ended_at for one in mine if one.ended_at is not None]
            known += [earlier[name]] if name in earlier and (known or not mine) else []
            ended[name] = min(known, default=None)
        return ended

    def _ran_in(self, row: int, instance: InstanceRow) -> bool:
        """Whether an instance is where a job ran at the last look."""
        if instance.option == "on-demand":
            return bool(self.placement[row] == ON_DEMAND) and self.on_demand_fits(row, instance.pool)
        column = self.column[row].get(instance.pool)
        return column is not None and bool(self.placement[row] == FIRST_SPOT + column)

    def on_demand_pools(self, row: int, inventory: Inventory) -> Counter[str]:
        """On-demand instances of a job by pool."""
        live = inventory.live(self.names[row])
        mine = (one.pool for one in live if one.option == "on-demand")
        return Counter(pool for pool in mine if self.on_demand_fits(row, pool))

    def on_demand_fits(self, row: int, pool: str) -> bool:
        """Whether on-demand capacity of a pool is where a job may work on it."""
        return self.ground is None or self.ground.on_demand_fits(row, self.column[row].get(pool))

    def ask_next_pool(self, row: int) -> None:
        """On-demand capacity is asked of a job's next pool from now on."""
        columns = range(self.pools_each) if self.ground is None else self.ground.on_demand_columns(row)
        later = list(columns).index(int(self.cheapest[row])) + 1
        self.cheapest[row] = columns[later % len(columns)]

    def settle(self) -> None:
        """On-demand capacity is had, and priced, where the data are."""
        if self.ground is None:
            return
        self.on_demand_price = self.ground.on_demand_price
        self.cheapest = self.ground.on_demand_column(self.cheapest)

    def look(
        self,
        now: float,
        held: IntArray,
        lost_at: Mapping[str, float | None],
        unvouched: Iterable[str] = (),
        anew: Iterable[str] = (),
    ) -> list[str]:
        """Account for the time since the last look; returns the names of jobs that were interrupted.

        Args:
            now: Seconds since 1970.
            held: What `held` gives now.
            lost_at: When instances of a workload ended; None = nobody knows.
            unvouched: Jobs whose account waits: nobody knows whether their instances were there all the time.
            anew: What `anew` gives.
        """
        self._begin_anew()
        waits = np.zeros(self.size, np.bool_)
        waits[[self.row[name] for name in unvouched if name in self.row]] = True
        again = np.zeros(self.size, np.bool_)
        again[[self.row[name] for name in anew]] = True
        self._waits, self._looked = waits, now
        seen = np.isfinite(self.at) & ~self.done & ~waits
        placed = seen & (self.placement != IDLE)
        kept = self._satisfied(self.placement, held) & ~again
        lost = placed & ~kept
        # of what was lost without anybody's word only what was seen counts
        until, billed = np.where(lost, self.at, now), np.full(self.size, now)
        for name, moment in lost_at.items():
            row = self.row.get(name)
            if row is not None and lost[row]:
                # nobody knows when it ended: the bill may have run on, work is only what was seen
                billed[row] = now if moment is None else min(max(moment, self.at[row]), now)
                until[row] = self.at[row] if moment is None else billed[row]
        before = np.where(seen, self.at, now)
        until = np.maximum(until, before)
        elapsed = until - before
        span = np.minimum(elapsed, np.maximum(self.deadline - before, 0.0))
        span = np.where(self.missed, elapsed, span)
        speed = self._speed()
        productive = np.where(placed, np.maximum(span - self.pending, 0.0) * speed, 0.0)
        finishes = seen & (self.work_left - productive <= EPSILON_SECONDS)
        ended = np.where(finishes, np.minimum(before + self.pending + self.work_left / speed, now), now)
        self.lateness += np.where(seen, self._lateness(before, ended), 0.0)
        held_for = np.where(placed, self.rate * np.maximum(billed - before, 0.0) / 3600.0, 0.0)
        self.cost += held_for + np.where(seen, self.fee, 0.0)
        self.fee[seen] = 0.0
        self.pending = np.where(placed, np.maximum(self.pending - elapsed, 0.0), self.pending)
        if self.ground is not None:
            self.ground.arrive(placed & (self.pending == 0.0), self.placement)
            self.settle()
        self.work_left = self.work_left - productive
        saving = placed & (self.checkpoint_interval > 0.0)
        self.unsaved[saving] = np.mod((self.unsaved + productive)[saving], self.checkpoint_interval[saving])
        finished = seen & (self.work_left <= EPSILON_SECONDS)
        self.work_left[finished] = 0.0
        self.done |= finished
        self.finished_at[finished] = ended[finished]
        self.missed |= seen & ~self.done & (now >= self.deadline - EPSILON_SECONDS)
        lost &= ~self.done
        self.placement[lost] = IDLE
        self.rate[lost | self.done] = 0.0
        self.pending[lost] = 0.0
        self.work_left[lost] += self.unsaved[lost]
        self.unsaved[lost] = 0.0
        looked = seen | (~self.done & ~waits & (now >= self.begins))
        self.at = np.where(looked, now, self.at)
        self.late[looked] = 0.0
        return [self.names[row] for row in np.flatnonzero(lost)]

    def _begin_anew(self) -> None:
        """Jobs that were finished on the terms of the plan before wait for the run that this plan has."""
        rows = np.flatnonzero(self.earlier & self.done)
        self.on_demand_before[rows] = self.on_demand_cost[rows]
        for name, terms in self._terms.items():
            getattr(self, name)[rows] = terms[rows]
        self.work_left[rows] = self.work_total[rows]
        self.at[rows] = np.nan
        self.placement[rows] = IDLE
        for flags in (self.done, self.missed, self.earlier):
            flags[rows] = False
        if self.ground is not None:
            self.ground.begin_again(rows)
            self.settle()

    def adopt(self, held: IntArray, inventory: Inventory, now: float) -> None:
        """Take over jobs that run although nothing is recorded: another one began them, or one that died.

        Work before this moment is not counted; what is left of the restart is.
        """
        found = self.active & ~self._waits & (self.placement == IDLE) & (held.max(axis=1) >= self.nodes)
        for row in np.flatnonzero(found).tolist():
            column = int(np.argmax(held[row]))
            self.placement[row] = ON_DEMAND if column == self.pools_each else FIRST_SPOT + column
            begun = max(one.launched_at for one in inventory.live(self.names[row]))
            takes = self.restart_overhead[row] + self._begin_there(np.arange(self.size) == row)[row]
            self.late[row] = max(begun - now, 0.0)
            self.pending[row] = max(takes - (now - begun), 0.0)

    def fresh_memory(self, policy: DeadlinePolicy) -> Memory:
        """What a policy remembers of the jobs before they begin."""
        return fresh_memory(policy, self.size, self.pools_each, varied=self.ground is not None)

    def observe(
        self,
        rows: IntArray,
        now: float,
        tick_seconds: float,
        price: Mapping[str, float],
        offers: Mapping[str, int],
    ) -> DeadlineObservation:
        """What a policy may see of some jobs.

        Args:
            rows: (n,) which.
            now: Seconds since 1970.
            tick_seconds: Of the plan.
            price: Spot price by pool; a pool without one offers nothing.
            offers: Instances that a pool is believed to have.
        """
        known = np.array([name in price for name in self.pools])
        highest = np.array([pool.on_demand_price for pool in self.pools.values()])
        quoted = np.array([price.get(name, 0.0) for name in self.pools])
        quoted = np.where(known, quoted, highest)
        offered = np.array([offers.get(name, 0) for name in self.pools])
        index = self.pool_index[rows]
        nodes = self.nodes[rows]
        holds = self.placement[rows, None] == FIRST_SPOT + np.arange(self.pools_each)
        seen = DeadlineObservation(
            tick_seconds=float(tick_seconds),
            work_left=self.work_left[rows],
            time_left=(self.deadline[rows] - self.begins[rows]) - (now - self.begins[rows]),
            work_total=self.work_total[rows],
            time_total=self.deadline[rows] - self.begins[rows],
            placement=self.placement[rows],
            pending_overhead=self.pending[rows],
            unsaved_work=self.unsaved[rows],
            restart_overhead=self.restart_overhead[rows],
            checkpoint_interval=self.checkpoint_interval[rows],
            spot_available=np.asarray((offered[index] >= nodes[:, None]) & known[index]) | holds,
            spot_price=quoted[index] * nodes[:, None],
            on_demand_price=self.on_demand_price[rows] * self.paid[rows],
            due_left=(self.due[rows] - self.begins[rows]) - (now - self.begins[rows]),
            lateness_price=self.lateness_price[rows],
        )
        if self.ground is not None:
            self.ground.show(seen, rows, self.paid[rows])
        return seen

    def confirm(
        self, wanted: IntArray, held: IntArray, price: Mapping[str, float], inventory: Inventory
    ) -> IntArray:
        """Take over where the jobs really are after the calls; returns (N,) the placements that came about.

        Args:
            wanted: (N,) decided placements; rows that are not active are ignored.
            held: Instances after the calls.
            price: Spot price by pool.
            inventory: The same instances: work begins when they were launched, not when the tick looked.
        """
        active = self.active
        got = self._satisfied(wanted, held)
        stayed = self._satisfied(self.placement, held)
        now = np.where(got, wanted, np.where(stayed, self.placement, IDLE))
        now = np.where(active, now, self.placement)
        idle = active & (now == IDLE)
        launched = active & ~idle & (now != self.placement)
        # whoever moves while its account waits begins a new one: nobody will vouch for the time before
        self.at[self._waits & (idle | launched)] = self._looked
        self.pending[idle] = 0.0
        self.unsaved[idle | launched] = 0.0
        self.placement = now
        started = np.zeros(self.size)
        for row in np.flatnonzero(launched).tolist():
            begun = max(one.launched_at for one in inventory.live(self.names[row]))
            self.late[row] = max(begun - self.at[row], 0.0)
            # launched by a tick that a crash left unfinished: the restart has gone on since, as in `adopt`
            started[row] = max(self.at[row] - begun, 0.0) if self._waits[row] else 0.0
        takes = self.restart_overhead + self._begin_there(launched)
        self.pending[launched] = (np.maximum(takes - started, 0.0) + self.late)[launched]
        quoted = np.array([price.get(name, pool.on_demand_price) for name, pool in self.pools.items()])
        spot = quoted[self.pool_index[np.arange(self.size), np.maximum(now - FIRST_SPOT, 0)]]
        rate = np.where(now == ON_DEMAND, self.on_demand_price * self.paid, spot * self.nodes)
        self.rate = np.where(active & (now != IDLE), rate, 0.0)
        return now

    def _begin_there(self, launched: BoolArray) -> FloatArray:
        """(N,) seconds that launches take on top of the restart overhead; what they cost is kept in `fee`."""
        if self.ground is None:
            return np.zeros(self.size)
        seconds, usd = self.ground.launch(launched, self.placement)
        self.fee += usd
        self.settle()
        return seconds

    def _speed(self) -> FloatArray:
        """(N,) seconds of work per productive second where each job is."""
        return np.ones(self.size) if self.ground is None else self.ground.speed(self.placement)

    def _satisfied(self, placement: IntArray, held: IntArray) -> BoolArray:
        column = np.where(placement == ON_DEMAND, self.pools_each, placement - FIRST_SPOT)
        count = held[np.arange(self.size), np.where(placement == IDLE, 0, column)]
        return np.asarray((placement == IDLE) | (count >= self.nodes))

    @property
    def on_demand_cost(self) -> FloatArray:
        """(N,) USD that the work done so far costs on on-demand capacity, with its share of one launch."""
        hours = (self.work_total + self.restart_overhead) / 3600.0
        share = 1.0 - np.minimum(self.work_left / self.work_total, 1.0)
        return np.asarray(self.on_demand_before + self._reference_price * self.paid * hours * share)

    def expected_lateness(self, now: float) -> FloatArray:
        """(N,) USD for being late: so far, and what is to come if work goes on from now without a break.

        A job that is idle is taken to begin now, with one restart.
        """
        first = np.where(self.placement == IDLE, self.restart_overhead, self.pending)
        waiting = ~np.isfinite(self.at)
        ends = np.where(waiting, np.maximum(self.begins, now), now) + first + self.work_left / self._speed()
        return self.lateness + np.where(self.done, 0.0, self._lateness(np.full(self.size, now), ends))

    def _lateness(self, begin: FloatArray, end: FloatArray) -> FloatArray:
        """(N,) USD for not being done from `begin` to `end`, seconds since 1970."""
        late = np.maximum(end - np.maximum(self.due, begin), 0.0) / 3600.0
        return np.asarray(late * self.lateness_price)

    def slack(self, now: float) -> FloatArray:
        """(N,) seconds of slack that are left."""
        return np.asarray(self.deadline - now - self.work_left)

    def expected_finish(self, now: float) -> FloatArray:
        """(N,) seconds since 1970 at which each job is done at its pace so far, waits and restarts included.

        Not before the rest of the work can be done without another interruption, nor, as the shield sees to
        it, after the deadline while that can still be kept. A job that has not begun has no pace: its work
        from then on. One that is done: when it was.
        """
        begun = np.isfinite(self.at)
        first = np.where(self.placement == IDLE, self.restart_overhead, self.pending)
        soonest = np.where(begun, now, np.maximum(self.begins, now)) + first + self.work_left / self._speed()
        worked = self.work_total - self.work_left
        pace = np.where(worked > 0, worked, np.inf)
        paced = now + self.work_left * np.maximum(now - self.begins, 0.0) / pace
        latest = np.where(soonest > self.deadline, np.inf, self.deadline)
        expected = np.where(begun, np.minimum(np.maximum(soonest, paced), latest), soonest)
        return np.asarray(np.where(self.done, self.finished_at, expected))
