"""Cost of lateness, committed instances, cost of checkpoints: exact, and known to the clairvoyant optimum."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND, DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.optimum import clairvoyant_optimum, clairvoyant_plan
from simulator.errors import InputError

TICKS = 40
TICK = 120


def stack_of(rng: np.random.Generator, pools: int) -> MarketStack:
    capacity = np.repeat(rng.integers(0, 5, (1, pools, TICKS)), 4, axis=2)[:, :, :TICKS].astype(np.int32)
    prices = rng.uniform(0.1, 2.0, (1, pools, TICKS)), rng.uniform(2.0, 4.0, (1, TICKS))
    return MarketStack(TICK, capacity, *prices, np.array([TICKS]))


def draw_job(data: st.DataObject) -> DeadlineJob:
    """Seconds in quarters of a minute: sums are exact."""
    work, overhead = data.draw(st.integers(1, 150)), data.draw(st.integers(0, 20))
    deadline = work + overhead + data.draw(st.integers(0, 140))
    nodes = data.draw(st.integers(1, 3))
    return DeadlineJob(
        15.0 * work,
        15.0 * deadline,
        15.0 * overhead,
        nodes=nodes,
        due_seconds=15.0 * data.draw(st.integers(1, deadline)),
        lateness_usd_per_hour=data.draw(st.sampled_from([0.0, 0.5, 2.0, 50.0])),
        committed=data.draw(st.integers(0, nodes - 1)),
    )


@given(data=st.data(), pools=st.integers(1, 2), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200)
def test_lateness_is_charged_to_the_second_and_commitments_first(
    data: st.DataObject, pools: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    job, stack = draw_job(data), stack_of(rng, pools)
    batch = DeadlineBatch.of(stack, job, 0, 0)
    lost = 0.0
    """Seconds in which no work was done, up to the second in which all was."""
    billed = 0.0
    action = IDLE
    while not batch.done[0]:
        tick, pending = int(batch.tick[0]), float(batch.pending[0])
        place = int(batch.placement[0])
        seen = batch.observe()
        assert seen.due_left[0] == job.due_or_deadline_seconds - tick * TICK
        assert seen.lateness_price[0] == job.lateness_usd_per_hour
        if rng.random() < 0.5:
            action = int(rng.integers(0, pools + 2))
        if action >= FIRST_SPOT and not seen.spot_available[0, action - FIRST_SPOT]:
            action = IDLE
        hours = TICK / 3600
        if action == ON_DEMAND:
            billed += stack.on_demand_price[0, tick] * hours * (job.nodes - job.committed)
            assert seen.on_demand_price[0] == pytest.approx(
                stack.on_demand_price[0, tick] * (job.nodes - job.committed)
            )
        elif action >= FIRST_SPOT:
            billed += stack.spot_price[0, action - FIRST_SPOT, tick] * hours * job.nodes
        waits = job.restart_overhead_seconds if action != place else pending
        batch.step(np.array([action]))
        span = min(TICK, job.deadline_seconds - tick * TICK)
        works = action != IDLE and not (batch.done[0] and not batch.missed[0] and waits > span)
        lost += min(waits, span) if works else span
    late = max((job.deadline_seconds if batch.missed[0] else job.work_seconds + lost) - due_of(job), 0.0)
    expected = late / 3600 * job.lateness_usd_per_hour
    assert batch.lateness[0] == pytest.approx(expected, abs=1e-9)
    assert batch.cost[0] == pytest.approx(billed + expected, abs=1e-9)


def due_of(job: DeadlineJob) -> float:
    return job.deadline_seconds if job.due_seconds is None else job.due_seconds


@given(data=st.data(), pools=st.integers(1, 2), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_no_schedule_costs_less_than_the_optimum_and_its_plan_costs_just_that(
    data: st.DataObject, pools: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    job, stack = draw_job(data), stack_of(rng, pools)
    optimum = clairvoyant_optimum(stack, job, 0, 0)[0]
    batch = DeadlineBatch.of(stack, job, 0, 0)
    for action in clairvoyant_plan(stack, job, 0, 0):
        batch.step(np.array([action]))
    assert batch.done[0]
    assert not batch.missed[0]
    assert batch.cost[0] == pytest.approx(optimum, abs=1e-9)
    others = DeadlineBatch.of(stack, job, np.zeros(50, int), np.zeros(50, int))
    action = rng.integers(0, pools + 2, 50)
    while not others.done.all():
        action = np.where(rng.random(50) < 0.3, rng.integers(0, pools + 2, 50), action)
        others.step(action)
    kept = ~others.missed
    assert (others.cost[kept] >= optimum - 1e-9).all()


@given(
    work=st.integers(1, 200),
    interval=st.integers(1, 40),
    cost=st.integers(0, 10),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150)
def test_a_checkpoint_takes_its_time_and_keeps_only_what_was_written(
    work: int, interval: int, cost: int, seed: int
) -> None:
    """Against a job that is run second by second (of 15) in words: work, then write, then work."""
    rng = np.random.default_rng(seed)
    job = DeadlineJob.with_checkpoint_cost(
        15.0 * work, 15.0 * (work * (1 + cost) + 200), 0.0, 15.0 * interval, 15.0 * cost
    )
    capacity = (rng.random((1, 1, 5000)) < 0.9).astype(np.int32)
    stack = MarketStack(15, capacity, np.ones((1, 1, 5000)), np.full((1, 5000), 3.0), np.array([5000]))
    if job.deadline_seconds > 15 * 4999:
        return
    batch = DeadlineBatch.of(stack, job, 0, 0)
    kept, since, writing, tick = 0, 0, 0, 0
    while not batch.done[0]:
        up = bool(capacity[0, 0, tick])
        if not up:
            since = writing = 0
        elif writing:
            writing -= 1
            if not writing:
                kept, since = kept + since, 0
        else:
            since += 1
            if since == interval and kept + since < work:
                writing = cost
                if not cost:
                    kept, since = kept + since, 0
        batch.step(np.array([FIRST_SPOT if up else IDLE]))
        tick += 1
        assert batch.done[0] == (kept + since >= work or tick * 15 >= job.deadline_seconds)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"due_seconds": 9000.0}, "after the deadline"),
        ({"due_seconds": -1.0}, "due time of -1.0 s"),
        ({"lateness_usd_per_hour": 1.0}, "without a due time"),
        ({"due_seconds": 1.0, "lateness_usd_per_hour": float("nan")}, "cost of lateness of nan USD/hour"),
        ({"committed": 1}, "0 to 0"),
        ({"committed": -1, "nodes": 2}, "0 to 1"),
    ],
)
def test_impossible_terms_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DeadlineJob(**cast(Any, {"work_seconds": 3600.0, "deadline_seconds": 7200.0, **changes}))


@pytest.mark.parametrize(("interval", "cost"), [(0.0, 5.0), (60.0, -1.0), (60.0, float("inf"))])
def test_an_impossible_checkpoint_cost_is_refused(interval: float, cost: float) -> None:
    with pytest.raises(InputError, match="checkpoint cost"):
        DeadlineJob.with_checkpoint_cost(3600.0, 7200.0, 60.0, interval, cost)
