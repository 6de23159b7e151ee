"""The kernel against the rules in words, written a second time in plain Python for one job."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND, DeadlineBatch, DeadlineJob, MarketStack
from simulator.errors import InputError

TICKS = 50
COUNTS = ("launches", "interruptions", "failed launches", "idle", "on-demand", "spot")


@dataclass
class Reference:
    """One job by the design's words. `capacity` and `price` are (pools, ticks)."""

    job: DeadlineJob
    tick_seconds: int
    capacity: np.ndarray[Any, Any]
    price: np.ndarray[Any, Any]
    on_demand: np.ndarray[Any, Any]
    tick: int = 0
    done: float = 0.0
    saved: float = 0.0
    placement: int = IDLE
    pending: float = 0.0
    bills: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))

    def holds(self, pool: int) -> bool:
        return bool(self.capacity[pool, self.tick] >= self.job.nodes)

    def begin_tick(self) -> None:
        """Interruption: work since the last checkpoint is lost, the job is idle."""
        if self.placement >= FIRST_SPOT and not self.holds(self.placement - FIRST_SPOT):
            self.counts["interruptions"] += 1
            self.placement, self.pending = IDLE, 0.0
            self.done = self.saved

    def act(self, action: int) -> None:
        if action >= FIRST_SPOT and not self.holds(action - FIRST_SPOT):
            self.counts["failed launches"] += 1
            action = IDLE
        if action not in (IDLE, self.placement):
            self.counts["launches"] += 1
            self.pending = self.job.restart_overhead_seconds
        if action != self.placement:
            self.saved = self.done  # leaving on purpose saves first
        self.placement = action
        self.counts["idle" if action == IDLE else "on-demand" if action == ON_DEMAND else "spot"] += 1
        if action == IDLE:
            self.pending = 0.0
            self.bills.append(0.0)
        else:
            price = (
                self.on_demand[self.tick]
                if action == ON_DEMAND
                else self.price[action - FIRST_SPOT, self.tick]
            )
            self.bills.append(price * self.job.nodes * self.tick_seconds / 3600)
            left = self.job.deadline_seconds - self.tick * self.tick_seconds
            self.done += max(min(self.tick_seconds, left) - self.pending, 0.0)
            self.pending = max(self.pending - self.tick_seconds, 0.0)
            interval = self.job.checkpoint_interval_seconds
            while interval and self.saved + interval <= self.done + 1e-9:
                self.saved += interval
            if not interval:
                self.saved = self.done
        self.tick += 1

    @property
    def finished(self) -> bool:
        return self.done >= self.job.work_seconds - 1e-6

    @property
    def over(self) -> bool:
        return self.finished or self.tick * self.tick_seconds >= self.job.deadline_seconds - 1e-6


@given(
    work=st.integers(1, 150),
    overhead=st.integers(0, 20),
    to_spare=st.integers(0, 200),
    checkpoint=st.one_of(st.just(0), st.integers(1, 40)),
    nodes=st.integers(1, 3),
    pools=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    persistence=st.sampled_from([0.0, 0.8, 0.97]),
)
@settings(max_examples=300)
def test_every_tick_is_as_the_rules_say(
    work: int,
    overhead: int,
    to_spare: int,
    checkpoint: int,
    nodes: int,
    pools: int,
    seed: int,
    persistence: float,
) -> None:
    rng = np.random.default_rng(seed)
    # seconds in quarters of a minute: sums are exact, so that both sides see the same boundaries
    job = DeadlineJob(
        15.0 * work, 15.0 * (work + overhead + to_spare), 15.0 * overhead, 15.0 * checkpoint, nodes
    )
    tick_seconds = 120
    capacity = np.repeat(rng.integers(0, 4, (pools, TICKS)), 3, axis=1)[:, :TICKS]
    price = rng.uniform(0.1, 2.0, (pools, TICKS))
    on_demand = rng.uniform(2.0, 4.0, TICKS)
    stack = MarketStack(
        tick_seconds, capacity[None].astype(np.int32), price[None], on_demand[None], np.array([TICKS])
    )
    batch = DeadlineBatch.of(stack, job, 0, 0)
    reference = Reference(job, tick_seconds, capacity, price, on_demand)
    action = IDLE
    while not reference.over:
        seen = batch.observe()
        assert seen.work_left[0] == pytest.approx(job.work_seconds - reference.done)
        assert seen.placement[0] == reference.placement
        assert seen.pending_overhead[0] == pytest.approx(reference.pending)
        assert seen.unsaved_work[0] == pytest.approx(reference.done - reference.saved)
        assert seen.time_left[0] == job.deadline_seconds - reference.tick * tick_seconds
        assert seen.spot_available[0].tolist() == [reference.holds(pool) for pool in range(pools)]
        action = action if rng.random() < persistence else int(rng.integers(0, pools + 2))
        bill = batch.step(np.array([action]))[0]
        reference.act(action)
        if not reference.over:
            reference.begin_tick()
        assert bill == pytest.approx(reference.bills[-1])
    assert batch.done[0]
    assert batch.missed[0] == (not reference.finished)
    assert batch.tick[0] == reference.tick
    assert batch.cost[0] == pytest.approx(sum(reference.bills))  # conservation
    assert dict(zip(COUNTS, batch.counts[0].tolist(), strict=True)) == reference.counts


def arena(size: int, seed: int = 0) -> tuple[DeadlineBatch, np.random.Generator]:
    rng = np.random.default_rng(seed)
    stack = MarketStack(
        600,
        (rng.random((4, 2, 80)) < 0.7).astype(np.int32),
        rng.uniform(0.5, 1.5, (4, 2, 80)),
        np.full((4, 80), 3.0),
        np.full(4, 80),
    )
    batch = DeadlineBatch(stack, size)
    batch.assign(
        np.arange(size),
        market=rng.integers(0, 4, size),
        start=rng.integers(0, 30, size),
        work=600.0 * rng.integers(5, 30, size),
        deadline=600.0 * 45,
        restart_overhead=60.0 * rng.integers(0, 20, size),
        spot_scale=rng.uniform(0.5, 2.0, size),
    )
    return batch, rng


def test_cost_is_price_times_billed_ticks() -> None:
    batch, rng = arena(300)
    expected = np.zeros(batch.size)
    while not batch.done.all():
        seen, live = batch.observe(), ~batch.done
        action = rng.integers(0, 4, batch.size)
        rows = np.arange(batch.size)
        pool = np.maximum(action - FIRST_SPOT, 0)
        spot = np.where(seen.spot_available[rows, pool], seen.spot_price[rows, pool], 0.0)
        price = np.select([action == IDLE, action == ON_DEMAND], [0.0, seen.on_demand_price], spot)
        expected += np.where(live, price * 600 / 3600, 0.0)
        batch.step(action)
    np.testing.assert_allclose(batch.cost, expected)
    np.testing.assert_array_equal(batch.counts[:, 3:].sum(axis=1), batch.tick)


def test_jobs_of_a_batch_do_not_touch_each_other() -> None:
    together, rng = arena(40)
    script = rng.integers(0, 4, (45, together.size))
    for actions in script:
        together.step(actions)
    whole, _ = arena(40)
    for row in range(40):
        alone = DeadlineBatch(whole.stack, 1)
        alone.assign(
            np.arange(1),
            market=whole.market[row],
            start=whole.start[row],
            work=whole.work_total[row],
            deadline=whole.deadline[row],
            restart_overhead=whole.restart_overhead[row],
            spot_scale=whole.spot_scale[row],
        )
        for actions in script:
            alone.step(actions[row : row + 1])
        for name in ("cost", "tick", "work_left", "placement", "pending", "missed", "counts"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[row])


def test_a_finished_job_stays_as_it_ended() -> None:
    batch, _ = arena(20)
    while not batch.done.all():
        batch.step(np.full(20, ON_DEMAND))
    before = batch.cost.copy(), batch.tick.copy()
    assert not batch.missed.any()
    assert batch.step(np.full(20, 99)).tolist() == [0.0] * 20
    np.testing.assert_array_equal(batch.cost, before[0])
    np.testing.assert_array_equal(batch.tick, before[1])


@pytest.mark.parametrize("action", [-1, 4])
def test_an_action_out_of_range_is_refused(action: int) -> None:
    batch, _ = arena(3)
    with pytest.raises(InputError, match="accepted: 0 to 3"):
        batch.step(np.array([0, action, 0]))
