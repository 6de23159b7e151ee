"""Jobs that may be late at a price: who waits, who does not, and that the deadline itself is kept."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.planner import SemiMarkovPlanner
from policies.planner.fit import SHIPPED
from policies.registry import load_policy, policy_names
from policies.shield import Shielded, apply_shield
from policies.soft import binding
from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.replay import Windows, run
from simulator.market import sample_market
from simulator.synthetic.generate import simulate_availability
from simulator.synthetic.semi_markov import load_model
from tests.policies.test_shield import arena

HARD = DeadlineJob(24 * 3600.0, 60 * 3600.0, 720.0)


def soft(usd_per_hour: float, due_hours: float = 30.0) -> DeadlineJob:
    return replace(HARD, due_seconds=due_hours * 3600.0, lateness_usd_per_hour=usd_per_hour)


@pytest.fixture(scope="module")
def windows() -> Windows:
    return Windows.each_pool(sample_market(), HARD, 6 * 31)


@pytest.fixture(scope="module")
def modelled() -> Windows:
    """Windows of zones that follow the fitted model."""
    zones, ticks = 40, 10_000
    up = simulate_availability(
        load_model(SHIPPED), [f"region-{k}" for k in range(zones)], ticks=ticks, seed=1
    )
    prices = np.full((zones, 1, ticks), 0.9731), np.full((zones, ticks), 3.06)
    stack = MarketStack(600, up[:, None, :].astype(np.int32), *prices, np.full(zones, ticks))
    starts = np.arange(0, ticks - 360, 420)
    return Windows(
        stack,
        tuple(f"zone-{k}" for k in range(zones)),
        np.repeat(np.arange(zones), len(starts)),
        np.tile(starts, zones),
    )


def mean_cost(policy: Shielded, job: DeadlineJob, windows: Windows) -> float:
    """Cost of the decisions made for `job`, lateness included."""
    return float(run(policy, windows, job).cost.mean())


@pytest.mark.parametrize("usd_per_hour", [0.05, 0.3, 1.0, 3.0])
def test_the_planner_beats_both_the_blind_and_the_strict_reading_of_a_soft_due_time(
    modelled: Windows, usd_per_hour: float
) -> None:
    job, windows = soft(usd_per_hour), modelled
    planner = Shielded(SemiMarkovPlanner(load_model(SHIPPED), unlike=0.0))
    weighed = mean_cost(planner, job, windows)
    blind_batch = run(planner, windows, HARD)
    late = np.maximum(blind_batch.tick * blind_batch.stack.tick_seconds - due(job), 0.0) / 3600.0
    blind = float((blind_batch.cost + usd_per_hour * late).mean())
    strict = mean_cost(planner, replace(HARD, deadline_seconds=due(job)), windows)
    assert weighed < min(blind, strict)


def due(job: DeadlineJob) -> float:
    assert job.due_seconds is not None
    return job.due_seconds


def test_the_dearer_lateness_is_the_less_late_the_planner_lets_jobs_be(windows: Windows) -> None:
    lates = []
    for usd_per_hour in (0.01, 0.3, 1.0, 3.0, 100.0):
        batch = run(load_policy("planner"), windows, soft(usd_per_hour))
        lates.append(float((batch.lateness / usd_per_hour).mean()))
    assert all(earlier >= later - 0.02 for earlier, later in pairwise(lates))
    assert lates[0] > 1.0
    assert lates[-1] < 0.01


@pytest.mark.parametrize("name", [name for name in policy_names() if name != "spot-when-available"])
def test_where_lateness_does_not_pay_no_policy_is_late(windows: Windows, name: str) -> None:
    batch = run(load_policy(name), windows, soft(50.0))
    # the planner may still judge a sure price against a small chance of lateness
    assert (
        batch.lateness.mean() < 0.05 if name in ("planner", "deadline-champion") else not batch.lateness.any()
    )
    assert not batch.missed.any()


def test_heuristics_ignore_a_due_time_whose_lateness_costs_less_than_waiting_saves(windows: Windows) -> None:
    cheap = run(load_policy("greedy"), windows, soft(0.01))
    hard = run(load_policy("greedy"), windows, HARD)
    np.testing.assert_array_equal(cheap.counts, hard.counts)
    assert cheap.lateness.sum() > 0


@given(seed=st.integers(0, 2**32 - 1), pools=st.integers(1, 3))
@settings(max_examples=60)
def test_what_a_policy_is_shown_is_never_laxer_than_the_job(seed: int, pools: int) -> None:
    rng = np.random.default_rng(seed)
    batch = arena(rng, 60, pools, 600)
    batch.due[:] = batch.deadline * rng.uniform(0.0, 1.0, 60)
    batch.lateness_price[:] = rng.choice([0.0, 0.5, 5.0], 60)
    while not batch.done.all():
        seen = batch.observe()
        shown = binding(seen)
        feasible = seen.slack >= 0.0
        assert (shown.time_left <= seen.time_left).all()
        assert (shown.slack >= 0.0)[feasible].all()
        free = seen.lateness_price == 0.0
        np.testing.assert_array_equal(shown.time_left[free], seen.time_left[free])
        # what is legal for the due time is legal for the deadline
        asked = rng.integers(0, pools + 2, 60)
        action = apply_shield(shown, asked)
        np.testing.assert_array_equal(apply_shield(seen, action), action)
        batch.step(action)
    assert not batch.missed.any()


def test_hard_jobs_are_decided_as_before_beside_soft_ones() -> None:
    market = sample_market().select([0])
    stack = MarketStack.of([market])
    both = DeadlineBatch(stack, 2)
    both.assign(
        np.arange(2),
        market=0,
        start=100,
        work=HARD.work_seconds,
        deadline=HARD.deadline_seconds,
        restart_overhead=720.0,
        due=np.array([HARD.deadline_seconds, 30 * 3600.0]),
        lateness_price=np.array([0.0, 1.0]),
    )
    alone = DeadlineBatch.of(stack, HARD, 0, 100)
    for name in ("planner", "deadline-champion", "uniform-progress"):
        policy = load_policy(name)
        assert isinstance(policy, Shielded)
        together, single = policy.reset(2), policy.reset(1)
        first, second = DeadlineBatch(stack, 2), DeadlineBatch.of(stack, HARD, 0, 100)
        first.restore(both.state())
        second.restore(alone.state())
        while not second.done[0]:
            action, together = policy.act(first.observe(), together)
            expected, single = policy.act(second.observe(), single)
            assert action[0] == expected[0]
            first.step(action)
            second.step(expected)
