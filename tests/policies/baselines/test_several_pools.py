"""Baselines that choose among pools by a rule of their own."""

import numpy as np

from policies.baselines import CheapestFirst, RoundRobinUniformProgress
from policies.protocol import Memory
from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND, DeadlineObservation

POOLS = 3


def observe(
    available: tuple[bool, ...],
    placement: int = IDLE,
    slack: float = 20_000.0,
    price: tuple[float, ...] = (2.0, 1.0, 1.5),
) -> DeadlineObservation:
    """A job that is ahead of uniform progress, with 12 min of overhead."""
    return DeadlineObservation(
        tick_seconds=600.0,
        work_left=np.array([1000.0]),
        time_left=np.array([1000.0 + slack]),
        work_total=np.array([36_000.0]),
        time_total=np.array([72_000.0]),
        placement=np.array([placement]),
        pending_overhead=np.zeros(1),
        unsaved_work=np.zeros(1),
        restart_overhead=np.array([720.0]),
        checkpoint_interval=np.zeros(1),
        spot_available=np.array([available]),
        spot_price=np.array([price]),
        on_demand_price=np.array([3.0]),
    )


def test_cheapest_first_moves_to_a_cheaper_pool_and_waits_down_to_the_safety_net() -> None:
    policy = CheapestFirst()

    def decision(seen: DeadlineObservation) -> int:
        return int(policy.act(seen, policy.reset(1, POOLS))[0][0])

    assert decision(observe((True, True, True), placement=FIRST_SPOT)) == FIRST_SPOT + 1
    assert decision(observe((True, False, True), placement=FIRST_SPOT)) == FIRST_SPOT + 2
    assert decision(observe((True, False, False), placement=FIRST_SPOT)) == FIRST_SPOT
    assert decision(observe((False, False, False), slack=1920.0)) == IDLE
    assert decision(observe((False, False, False), slack=1919.0)) == ON_DEMAND
    assert decision(observe((True, True, True), slack=1919.0)) == ON_DEMAND


def test_round_robin_stays_until_it_is_interrupted_and_goes_on_to_the_next_pool() -> None:
    policy = RoundRobinUniformProgress()
    memory: Memory = policy.reset(1, POOLS)
    placement, decisions = IDLE, []
    for available in (
        (True, True, True),  # begins with the first, whatever the prices
        (True, True, True),
        (False, True, True),  # interrupted: the next one
        (True, True, True),
        (True, False, False),  # interrupted: the third is away, the first is not
        (False, False, False),
        (True, True, True),  # the turn has come to the second
    ):
        if placement >= FIRST_SPOT and not available[placement - FIRST_SPOT]:
            placement = IDLE
        action, memory = policy.act(observe(available, placement), memory)
        placement = int(action[0])
        decisions.append(placement)
    assert decisions == [2, 2, 3, 3, 2, IDLE, 3]


def test_round_robin_in_one_pool_is_uniform_progress_there() -> None:
    policy = RoundRobinUniformProgress()
    for available, placement, slack, expected in (
        ((True,), IDLE, 20_000.0, FIRST_SPOT),
        ((False,), IDLE, 20_000.0, IDLE),
        ((True,), IDLE, 2039.0, ON_DEMAND),
        ((True,), FIRST_SPOT, 1320.0, FIRST_SPOT),
        ((True,), FIRST_SPOT, 1319.0, ON_DEMAND),
    ):
        action, _ = policy.act(observe(available, placement, slack, (1.0,)), policy.reset(1))
        assert action[0] == expected
