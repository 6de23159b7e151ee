"""The baselines' rules at their thresholds, over several pools, and as pure batched functions."""

import numpy as np
import pytest

from policies.baselines import (
    CheapestFirst,
    Greedy,
    OnDemandOnly,
    RoundRobinUniformProgress,
    SpotWhenAvailable,
    UniformProgress,
)
from policies.protocol import DeadlinePolicy
from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND, DeadlineObservation
from simulator.deadline.observation import IntArray

STAYING: list[DeadlinePolicy] = [SpotWhenAvailable(), Greedy(), UniformProgress()]
POLICIES = [OnDemandOnly(), *STAYING, CheapestFirst(), RoundRobinUniformProgress()]
OVERHEAD, TICK, WORK, DEADLINE = 720.0, 600.0, 36_000.0, 72_000.0
SPOT = FIRST_SPOT


def observe(
    slack: float = 20_000.0,
    ahead: float = 0.0,
    placement: int = IDLE,
    available: tuple[bool, ...] = (True,),
    price: tuple[float, ...] = (1.0,),
) -> DeadlineObservation:
    """A job with that slack, `ahead` seconds of work ahead of uniform progress (work : time = 1 : 2)."""
    # done = elapsed / 2 + ahead, slack = (DEADLINE - elapsed) - (WORK - done)
    elapsed = 2 * (DEADLINE - WORK - slack + ahead)
    return DeadlineObservation(
        tick_seconds=TICK,
        work_left=np.array([WORK - elapsed / 2 - ahead]),
        time_left=np.array([DEADLINE - elapsed]),
        work_total=np.array([WORK]),
        time_total=np.array([DEADLINE]),
        placement=np.array([placement]),
        pending_overhead=np.zeros(1),
        unsaved_work=np.zeros(1),
        restart_overhead=np.array([OVERHEAD]),
        checkpoint_interval=np.zeros(1),
        spot_available=np.array([available]),
        spot_price=np.array([price]),
        on_demand_price=np.array([3.0]),
    )


def decision(policy: DeadlinePolicy, observation: DeadlineObservation) -> int:
    action, _ = policy.act(observation, policy.reset(1, observation.pools))
    return int(action[0])


NONE = (False,)


@pytest.mark.parametrize(
    ("slack", "placement", "available", "expected"),
    [
        (1920.0, IDLE, (True,), SPOT),
        (1920.0, IDLE, NONE, IDLE),
        (1919.0, IDLE, NONE, ON_DEMAND),
        (1919.0, IDLE, (True,), ON_DEMAND),
        (1919.0, SPOT, (True,), ON_DEMAND),
        (1920.0, SPOT, (True,), SPOT),
    ],
)
def test_greedy_waits_down_to_one_overhead_and_two_ticks(
    slack: float, placement: int, available: tuple[bool, ...], expected: int
) -> None:
    assert decision(Greedy(), observe(slack, placement=placement, available=available)) == expected


@pytest.mark.parametrize(
    ("rule", "observation", "expected"),
    [
        ("exploitation", observe(ahead=9000.0, placement=SPOT), SPOT),
        ("exploitation, to the limit", observe(1320.0, placement=SPOT), SPOT),
        ("safety net on spot", observe(1319.0, placement=SPOT), ON_DEMAND),
        ("take risks", observe(ahead=-300.0), SPOT),
        ("take risks, to the limit", observe(2040.0), SPOT),
        ("safety net", observe(2039.0), ON_DEMAND),
        ("safety net although ahead", observe(2039.0, ahead=900.0, available=NONE), ON_DEMAND),
        ("uniform progress", observe(ahead=-1.0, available=NONE), ON_DEMAND),
        ("thrift on schedule", observe(ahead=0.0, available=NONE), IDLE),
        ("hysteresis", observe(ahead=719.0, placement=ON_DEMAND, available=NONE), ON_DEMAND),
        ("hysteresis, spot or not", observe(ahead=719.0, placement=ON_DEMAND), ON_DEMAND),
        ("recovered", observe(ahead=720.0, placement=ON_DEMAND, available=NONE), IDLE),
        ("recovered, with spot", observe(ahead=720.0, placement=ON_DEMAND), SPOT),
    ],
)
def test_uniform_progress_follows_its_rules(
    rule: str, observation: DeadlineObservation, expected: int
) -> None:
    assert decision(UniformProgress(), observation) == expected, rule


@pytest.mark.parametrize("policy", STAYING, ids=lambda policy: policy.name)
@pytest.mark.parametrize(
    ("placement", "available", "pool"),
    [
        (IDLE, (True, True, True), 1),  # the cheapest
        (IDLE, (True, False, True), 0),  # the cheapest available, the first of equals
        (FIRST_SPOT + 2, (True, True, True), 2),  # staying where it runs
        (FIRST_SPOT + 2, (False, True, False), 1),
    ],
)
def test_the_running_pool_is_kept_and_otherwise_the_cheapest_taken(
    policy: DeadlinePolicy, placement: int, available: tuple[bool, ...], pool: int
) -> None:
    observation = observe(placement=placement, available=available, price=(2.0, 1.0, 2.0))
    assert decision(policy, observation) == FIRST_SPOT + pool


def test_spot_when_available_bridges_with_on_demand() -> None:
    assert decision(SpotWhenAvailable(), observe(available=NONE)) == ON_DEMAND


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_batch_decides_as_its_rows_do_and_changes_nothing(policy: DeadlinePolicy) -> None:
    rng = np.random.default_rng(0)
    size, pools = 500, 3
    time_left = rng.uniform(0.0, 20_000.0, size)
    available = rng.random((size, pools)) < 0.5
    placement: IntArray = rng.integers(0, pools + 2, size)
    fields = {
        "work_left": np.minimum(time_left * rng.random(size), 9000.0),
        "time_left": time_left,
        "work_total": np.full(size, 10_000.0),
        "time_total": np.full(size, 20_000.0),
        "placement": placement,
        "pending_overhead": np.zeros(size),
        "unsaved_work": np.zeros(size),
        "restart_overhead": rng.uniform(0.0, 1500.0, size),
        "checkpoint_interval": np.zeros(size),
        "spot_available": available,
        "spot_price": rng.random((size, pools)),
        "on_demand_price": np.full(size, 3.0),
    }
    before = {name: array.copy() for name, array in fields.items()}
    together, _ = policy.act(DeadlineObservation(tick_seconds=600.0, **fields), policy.reset(size, pools))
    alone = [
        decision(
            policy,
            DeadlineObservation(tick_seconds=600.0, **{k: v[i : i + 1] for k, v in fields.items()}),
        )
        for i in range(size)
    ]
    assert together.tolist() == alone
    assert together.dtype == np.int64
    for name, array in fields.items():
        np.testing.assert_array_equal(array, before[name])
