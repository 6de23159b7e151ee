"""What jobs over several pools know: everything, what they occupy or ask, or that and a probe each tick."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from policies.baselines import CheapestFirst, Greedy, RoundRobinUniformProgress, UniformProgress
from policies.protocol import DeadlinePolicy
from policies.registry import load_policy
from policies.shield import Shielded, apply_shield, legal_actions
from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND, DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.observability import Observability
from simulator.deadline.observation import NEVER, PartialObservation
from simulator.deadline.replay import Windows, replay, run
from simulator.errors import InputError
from simulator.market import Market, Pool

JOB = DeadlineJob(20 * 3600, 30 * 3600, 300)


def market(capacity: Any, price: Any = 1.0) -> Market:
    capacity = np.asarray(capacity)
    return Market.build(
        [Pool("p", "r", f"z{p}", "t") for p in range(len(capacity))],
        tick_seconds=600,
        start=datetime(2024, 1, 1, tzinfo=UTC),
        spot_price=price,
        spot_capacity=capacity,
        on_demand_price=3.0,
    )


def look(batch: DeadlineBatch) -> tuple[list[bool], list[int]]:
    seen = batch.observe()
    assert isinstance(seen, PartialObservation)
    return seen.spot_available[0].tolist(), seen.knowledge_age[0].tolist()


def test_a_job_knows_the_pool_it_occupies_or_asked_and_how_long_ago() -> None:
    capacity = np.ones((3, 300), int)
    capacity[0, 0] = 0
    capacity[1, 3] = 0
    batch = DeadlineBatch.of(MarketStack.of([market(capacity)]), JOB, [0], [0], "occupied")
    assert look(batch) == ([False] * 3, [NEVER] * 3)
    batch.step(np.array([FIRST_SPOT]))  # fails
    assert batch.placement[0] == IDLE
    assert batch.counts[0, 2] == 1
    assert look(batch) == ([False] * 3, [1, NEVER, NEVER])
    batch.step(np.array([FIRST_SPOT + 1]))
    assert look(batch) == ([False, True, False], [2, 0, NEVER])
    batch.step(np.array([FIRST_SPOT + 1]))  # interrupted at tick 3
    assert batch.placement[0] == IDLE
    assert look(batch) == ([False, False, False], [3, 0, NEVER])
    batch.step(np.array([ON_DEMAND]))
    assert look(batch) == ([False, False, False], [4, 1, NEVER])
    batch.step(np.array([FIRST_SPOT + 2]))
    batch.step(np.array([IDLE]))  # left while it was there
    assert look(batch) == ([False, False, True], [6, 3, 1])


def test_a_probe_looks_at_the_pool_unseen_for_longest() -> None:
    capacity = np.ones((3, 300), int)
    capacity[2] = 0
    batch = DeadlineBatch.of(MarketStack.of([market(capacity)]), JOB, [0], [0], "probed")
    assert look(batch) == ([True, False, False], [0, NEVER, NEVER])
    batch.step(np.array([IDLE]))
    assert look(batch) == ([True, True, False], [1, 0, NEVER])
    batch.step(np.array([FIRST_SPOT]))
    assert look(batch) == ([True, True, False], [0, 1, 0])
    batch.step(np.array([FIRST_SPOT]))
    assert look(batch) == ([True, True, False], [0, 0, 1])


def test_state_and_restore_keep_the_knowledge() -> None:
    rng = np.random.default_rng(0)
    stack = MarketStack.of([market(rng.integers(0, 2, (3, 300)))])
    once, again = (DeadlineBatch.of(stack, JOB, [0, 0], [0, 7], "probed") for _ in range(2))
    for action in rng.integers(0, 5, (20, 2)):
        once.step(action)
    again.restore(once.state())
    for action in rng.integers(0, 5, (20, 2)):
        for batch in (once, again):
            batch.step(action)
        assert look(once) == look(again)
    assert "knowledge_age" not in DeadlineBatch.of(stack, JOB, [0], [0]).state()


def test_views_are_not_copies_and_copies_are_not_views() -> None:
    stack = MarketStack.of([market(np.ones((2, 300), int))])
    batch = DeadlineBatch.of(stack, JOB, [0], [0], "occupied")
    copy, view = batch.observe(), batch.observe(copy=False)
    batch.step(np.array([FIRST_SPOT]))
    assert isinstance(copy, PartialObservation)
    assert isinstance(view, PartialObservation)
    assert copy.knowledge_age[0, 0] == NEVER
    assert view.knowledge_age[0, 0] == 0


@pytest.mark.parametrize("observability", ["none", "Full", ""])
def test_what_cannot_be_observed_is_refused(observability: Any) -> None:
    with pytest.raises(InputError, match=r"observability '.*accepted: full, occupied, probed"):
        DeadlineBatch(MarketStack.of([market(np.ones((2, 300), int))]), 1, observability)


def test_a_single_pool_is_known_by_asking_alone() -> None:
    """An answer of no leaves the job where it is; while it waits without asking, knowledge gets old."""
    stack = MarketStack.of([market(np.array([[0, 0, 0, 1, 1, 0] + [1] * 300]))])
    batch = DeadlineBatch.of(stack, JOB, [0], [0], "occupied")
    seen = []
    for action in (FIRST_SPOT, ON_DEMAND, ON_DEMAND, FIRST_SPOT, FIRST_SPOT):
        seen.append(
            (bool(batch.known_available[0, 0]), int(batch.knowledge_age[0, 0]), int(batch.placement[0]))
        )
        batch.step(np.array([action]))
    assert seen == [
        (False, NEVER, IDLE),
        (False, 1, IDLE),
        (False, 2, ON_DEMAND),
        (False, 3, ON_DEMAND),
        (True, 0, FIRST_SPOT),
    ]
    assert batch.placement[0] == IDLE
    assert not batch.known_available[0, 0]


def test_the_shield_lets_a_job_ask_where_it_may_idle_and_not_where_spot_is_known_to_be_away() -> None:
    stack = MarketStack.of([market(np.zeros((2, 300), int))])
    batch = DeadlineBatch.of(stack, JOB, [0], [0], "probed")
    seen = batch.observe()
    assert legal_actions(seen)[0].tolist() == [True, True, False, True]
    assert apply_shield(seen, np.array([FIRST_SPOT + 1]))[0] == FIRST_SPOT + 1
    assert apply_shield(seen, np.array([FIRST_SPOT]))[0] == IDLE


@pytest.mark.parametrize("observability", ["occupied", "probed"])
@pytest.mark.parametrize("storm", [0.0, 0.5, 0.9, 1.0])
def test_nobody_misses_a_deadline_for_not_knowing(observability: Observability, storm: float) -> None:
    rng = np.random.default_rng(1)
    capacity = (rng.random((3, 1500)) >= storm).astype(int)
    windows = Windows.all_pools(market(capacity, np.array([[1.0], [1.2], [0.8]])), JOB, 60)
    names = ("planner", "round-robin-uniform-progress", "cheapest-first", "greedy", "uniform-progress")
    table = replay([load_policy(name) for name in names], windows, JOB, observability=observability)
    assert not table["missed"].any()
    assert (table["cost_usd"] >= table["optimum_usd"] - 1e-9).all()


def test_knowing_more_costs_the_planner_less() -> None:
    rng = np.random.default_rng(3)
    flips = rng.random((3, 1500)) < 0.06
    capacity = (np.cumsum(flips, axis=1) % 2).astype(int)
    windows = Windows.all_pools(market(capacity, np.array([[1.0], [1.1], [0.9]])), JOB, 30)
    modes: tuple[Observability, ...] = ("full", "probed", "occupied")
    cost = [run(load_policy("planner"), windows, JOB, observability=mode).cost.mean() for mode in modes]
    assert cost[0] < cost[1] < cost[2]


def test_baselines_try_the_next_pool_after_a_refusal() -> None:
    capacity = np.ones((3, 300), int)
    capacity[0] = 0
    windows = Windows.all_pools(market(capacity, np.array([[0.8], [1.0], [1.2]])), JOB, 1000)
    policies: tuple[DeadlinePolicy, ...] = (CheapestFirst(), Greedy(), UniformProgress())
    for policy in policies:
        timeline: list[Any] = []
        batch = run(Shielded(policy), windows, JOB, timeline, observability="occupied")
        assert [int(row[0]) for row in timeline[:2]] == [IDLE, FIRST_SPOT + 1]
        assert not batch.missed.any()
    timeline = []
    run(Shielded(RoundRobinUniformProgress()), windows, JOB, timeline, observability="occupied")
    placements = [int(row[0]) for row in timeline]
    launched = placements.index(FIRST_SPOT + 1)
    assert placements[:launched] == [IDLE, *[ON_DEMAND] * (launched - 1)]  # it makes up for the tick lost
    assert set(placements[launched:]) == {FIRST_SPOT + 1}


@pytest.mark.parametrize("observability", ["occupied", "probed"])
def test_a_launch_that_fails_leaves_the_job_where_it_is(observability: Observability) -> None:
    capacity = np.ones((2, 300), int)
    capacity[1] = 0
    stack = MarketStack.of([market(capacity)])
    batch = DeadlineBatch.of(stack, JOB, [0], [0], observability)
    for placement in (ON_DEMAND, FIRST_SPOT):
        batch.step(np.array([placement]))
        before = batch.work_left.copy()
        asked = np.array([FIRST_SPOT + 1])
        assert batch.granted(asked)[0] == placement
        cost = batch.step(asked)
        assert batch.placement[0] == placement
        assert cost[0] == pytest.approx((3.0 if placement == ON_DEMAND else 1.0) / 6)
        assert before[0] - batch.work_left[0] == 600.0  # it goes on working, and nothing is launched again
    assert batch.counts[0, :3].tolist() == [2, 0, 2]


def test_with_all_pools_in_sight_a_launch_that_fails_is_an_idle_tick() -> None:
    capacity = np.ones((2, 300), int)
    capacity[1] = 0
    batch = DeadlineBatch.of(MarketStack.of([market(capacity)]), JOB, [0], [0])
    batch.step(np.array([ON_DEMAND]))
    assert batch.granted(np.array([FIRST_SPOT + 1]))[0] == IDLE
    assert batch.step(np.array([FIRST_SPOT + 1]))[0] == 0.0
    assert batch.placement[0] == IDLE
