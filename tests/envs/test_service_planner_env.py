"""The planner's batched environment: the world of a planner that is told its spares and reserve."""

from datetime import UTC, datetime

import numpy as np
import pytest
from stable_baselines3 import PPO

from envs.series import EpisodeMarkets
from envs.service_episodes import ServiceRange
from envs.service_planner_vec_env import ServicePlannerVecEnv
from envs.service_series import service_markets
from policies.service import LookAhead
from policies.service.lookahead.fit import load_survival
from policies.service.residual import OPTIONS, option_of
from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.service import Service, ServiceBatch

PLANNER = LookAhead(load_survival())
SHORT = ServiceRange(ticks=60, demand=(1.0, 4.0), cold_start_ticks=(1.0, 5.0))


def markets(pools: int = 3) -> EpisodeMarkets:
    rng = np.random.default_rng(0)
    market = Market.build(
        [Pool("aws", "r", f"z{p}", "t") for p in range(pools)],
        tick_seconds=30,
        start=datetime(2024, 1, 1, tzinfo=UTC),
        spot_price=rng.uniform(0.5, 1.5, (pools, 1)),
        spot_capacity=np.repeat(rng.integers(0, 5, (pools, 60)), 10, axis=1),
        on_demand_price=3.0,
    )
    return service_markets([market], variants=2)


def test_a_step_is_ten_ticks_of_the_planner_with_that_option_until_something_happens() -> None:
    prepared = markets()
    venv = ServicePlannerVecEnv(prepared, 4, PLANNER, services=SHORT, seed=1)
    seen = venv.reset()
    rng = np.random.default_rng(2)
    row = 2
    for _ in range(2):
        batch, weight = venv.world.batch, venv.world.weight[[row]].copy()
        service = Service.of(
            batch.demand[row], tick_seconds=30, cold_start_seconds=30 * int(batch.cold_start[row])
        )
        alone = ServiceBatch(prepared.stack, service, batch.market[[row]], batch.start[[row]])
        alone.spot_scale[:] = batch.spot_scale[[row]]
        memory = {name: np.array(array) for name, array in PLANNER.reset(1, 3).items()}
        for step in range(6):
            assert venv.observation_space.contains(seen[row])
            action = rng.integers(0, OPTIONS, 4)
            only = option_of(action[[row]])
            for tick in range(10):
                due = PLANNER.perceive(alone.observe(), memory)
                only[due & (tick > 0)] = -1
                alone.step(PLANNER.ask(alone.observe(), memory, due, weight, only))
            venv.step_async(action)
            seen, _, done, infos = venv.step_wait()
            assert done.all() == (step == 5)
            if step < 5:
                assert venv.world.batch.cost[row] == alone.cost[0]
        assert infos[row]["cost_usd"] == alone.cost[0]
        assert infos[row]["availability"] == alone.availability[0]


def test_against_the_planner_only_the_difference_is_paid() -> None:
    plain = ServicePlannerVecEnv(markets(), 6, PLANNER, services=SHORT, seed=3)
    paired = ServicePlannerVecEnv(markets(), 6, PLANNER, services=SHORT, against_planner=True, seed=3)
    np.testing.assert_array_equal(plain.reset(), paired.reset())
    rng = np.random.default_rng(0)
    rival = np.zeros((2, 6))
    for turn in range(2):
        for _ in range(6):
            action = rng.integers(0, OPTIONS, 6)
            plain.step_async(action)
            paired.step_async(action)
            left, right = plain.step_wait(), paired.step_wait()
            np.testing.assert_array_equal(left[0], right[0])
            rival[turn] += left[1] - right[1]
        assert (rival[turn] < 0.0).all()
    # What the rival earns does not depend on the actions: another run with others pays it the same.
    other = ServicePlannerVecEnv(markets(), 6, PLANNER, services=SHORT, against_planner=True, seed=3)
    same = ServicePlannerVecEnv(markets(), 6, PLANNER, services=SHORT, seed=3)
    other.reset()
    same.reset()
    total = np.zeros(6)
    for _ in range(6):
        for env in (other, same):
            env.step_async(np.full(6, 4))
        total += same.step_wait()[1] - other.step_wait()[1]
    np.testing.assert_allclose(total, rival[0], atol=1e-5)


def test_stable_baselines3_trains_on_it() -> None:
    venv = ServicePlannerVecEnv(markets(), 4, PLANNER, services=SHORT, against_planner=True, seed=0)
    PPO("MlpPolicy", venv, n_steps=12, batch_size=24, n_epochs=1, device="cpu").learn(96)


def test_episodes_are_whole_review_periods() -> None:
    with pytest.raises(InputError, match="multiple of 10"):
        ServicePlannerVecEnv(markets(), 1, PLANNER, services=ServiceRange(ticks=55))
