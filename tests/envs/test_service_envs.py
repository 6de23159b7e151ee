"""The scalar service environment, the batched one and the kernel are one world, tick for tick."""

from datetime import UTC, datetime

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs.service_env import ServiceEnv
from envs.service_episodes import SERVICE_DRAWS, ServiceRange
from envs.service_series import sampling_step, service_markets
from envs.service_vec_env import ServiceVecEnv
from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.service import Service, ServiceBatch

SHORT = ServiceRange(ticks=40, demand=(1.0, 4.0), cold_start_ticks=(0.0, 5.0))


def market(pools: int = 2, ticks: int = 200, seed: int = 0, hold: int = 5) -> Market:
    rng = np.random.default_rng(seed)
    return Market.build(
        [Pool("aws", "r", f"z{p}", "t") for p in range(pools)],
        tick_seconds=30,
        start=datetime(2024, 1, 1, tzinfo=UTC),
        spot_price=rng.uniform(0.5, 1.5, (pools, 1)),
        spot_capacity=np.repeat(rng.integers(0, 5, (pools, ticks // hold)), hold, axis=1),
        on_demand_price=3.0,
    )


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_scalar_env_is_vec_env_is_kernel_tick_for_tick(seed: int, pools: int) -> None:
    prepared = service_markets([market(pools, seed=s) for s in range(3)], variants=2, reversed_share=0.5)
    venv = ServiceVecEnv(prepared, 3, services=SHORT, seed=seed)
    env = ServiceEnv(prepared, services=SHORT)
    seen_by_venv = venv.reset()
    seen, _ = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    kernel = None
    for _ in range(90):
        batch = venv.world.batch
        if kernel is None:
            service = Service.of(
                batch.demand[0], tick_seconds=30, cold_start_seconds=30 * int(batch.cold_start[0])
            )
            kernel = ServiceBatch(prepared.stack, service, batch.market[:1], batch.start[:1])
            kernel.spot_scale[:] = batch.spot_scale[:1]
        np.testing.assert_array_equal(seen_by_venv[0], seen)
        action = rng.integers(0, 5, (3, pools + 1))
        kernel.step(action[:1])
        venv.step_async(action)
        seen_by_venv, rewards, dones, infos = venv.step_wait()
        seen, reward, terminated, truncated, info = env.step(action[0])
        assert rewards[0] == np.float32(reward)
        assert info["cost_usd"] == kernel.cost[0]
        assert info["availability"] == kernel.availability[0]
        assert dones[0] == truncated == kernel.done[0]
        assert not terminated
        if truncated:
            np.testing.assert_array_equal(infos[0]["terminal_observation"], seen)
            assert infos[0]["TimeLimit.truncated"]
            assert infos[0]["cost_usd"] == info["cost_usd"]
            assert infos[0]["episode"]["l"] == SHORT.ticks
            seen, _ = env.reset()
            kernel = None
        else:
            assert infos[0] == {}


def test_rewards_are_cost_and_unavailability_as_documented() -> None:
    env = ServiceEnv(
        market(1), services=ServiceRange(ticks=20, demand=(2.0, 2.0), cold_start_ticks=(3.0, 3.0))
    )
    service = Service.of(2, ticks=20, tick_seconds=30, cold_start_seconds=90)
    for weight in (5.0, 100.0):
        rewards = {}
        for count in (2, 1):
            env.reset(seed=0, options={"service": service, "weight": weight})
            ratio = float(env.world.batch.observe().on_demand_price[0] * 30 / 3600 / env.world.unit[0])
            steps = [env.step(np.array([0, count]))[1] for _ in range(20)]
            assert steps[:3] == [0.0, 0.0, 0.0]
            rewards[count] = steps[10]
        assert rewards[2] == pytest.approx(-ratio / (1 + weight / 20))
        assert rewards[1] == pytest.approx(-(ratio / 2 + weight) / (1 + weight / 20))


def test_an_environment_has_the_same_episodes_whatever_their_number() -> None:
    prepared = service_markets([market()], variants=3)
    few = ServiceVecEnv(prepared, 2, services=SHORT, seed=7)
    many = ServiceVecEnv(prepared, 5, services=SHORT, seed=7)
    np.testing.assert_array_equal(few.reset(), many.reset()[:2])
    for _ in range(60):
        action = np.full((5, 3), 2)
        few.step_async(action[:2])
        many.step_async(action)
        a, b = few.step_wait(), many.step_wait()
        np.testing.assert_array_equal(a[0], b[0][:2])
        np.testing.assert_array_equal(a[1], b[1][:2])


def test_reseeding_begins_the_same_episodes_again() -> None:
    venv = ServiceVecEnv(service_markets([market()]), 4, services=SHORT, seed=3)
    first, second = venv.reset(), venv.reset()
    assert not np.array_equal(first, second)
    venv.seed(3)
    np.testing.assert_array_equal(venv.reset(), first)


def test_services_stay_in_their_ranges() -> None:
    prepared = service_markets([market()])
    kind = ServiceRange(ticks=100, demand=(2.0, 8.0), swing=(0.2, 0.4), cold_start_ticks=(1.0, 6.0))
    drawn = kind.draw(np.random.default_rng(0).random((2000, SERVICE_DRAWS)), prepared)
    assert (drawn.start + 100 <= 200).all()
    assert {service.cold_start_ticks for service in drawn.services} == set(range(1, 7))
    assert 5.0 <= drawn.weight.min() < 6.0 < 350.0 < drawn.weight.max() <= 400.0
    assert np.median(drawn.weight) == pytest.approx(np.sqrt(5 * 400), rel=0.15)
    ratio = 1.0 / (drawn.spot_scale * prepared.price_ratio[0])
    assert 2.0 <= ratio.min() < 2.1 < 4.9 < ratio.max() <= 5.0
    means = np.array([service.demand[0] for service in drawn.services])
    assert 1 <= means.min() <= 2
    assert means.max() <= kind.most_instances


def test_variants_blur_the_sampling_step_and_keep_what_is_lost_together() -> None:
    recorded = market(3, ticks=500, hold=10)
    assert sampling_step(recorded) == 10
    prepared = service_markets([recorded], variants=4, seed=1)
    assert len(prepared.names) == 4
    for capacity in prepared.stack.capacity:
        moments = np.flatnonzero((np.diff(capacity, axis=1) != 0).any(axis=0)) + 1
        assert len(set(moments % 10)) > 3
        # Each sample of the trace is still seen, at its own time or up to a step later.
        for tick in range(500):
            sample = recorded.spot_capacity[:, tick]
            before = recorded.spot_capacity[:, max(tick - 10, 0)]
            seen = capacity[:, tick].tolist()
            assert seen in (sample.tolist(), before.tolist())
        np.testing.assert_array_equal(capacity[:, 9::10], recorded.spot_capacity[:, 9::10])


def test_check_env_of_gymnasium_and_sb3_pass() -> None:
    env = ServiceEnv(market(), services=SHORT)
    gymnasium_check_env(env, skip_render_check=True)
    sb3_check_env(env)


@pytest.mark.filterwarnings("ignore:.*render_mode:UserWarning")  # Gymnasium says it before we refuse
def test_is_made_by_its_name() -> None:
    env = gym.make("envs:spotwise/Service-v0")
    seen, info = env.reset(seed=0)
    assert env.observation_space.contains(seen)
    assert info["availability"] == 1.0
    with pytest.raises(TypeError, match="draws nothing"):
        gym.make("envs:spotwise/Service-v0", render_mode="rgb_array")


def test_stable_baselines3_trains_on_both() -> None:
    venv = ServiceVecEnv(service_markets([market()]), 4, services=SHORT, seed=0)
    for env in (ServiceEnv(market(), services=SHORT), venv):
        PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, device="cpu").learn(128)


def test_what_does_not_fit_is_explained() -> None:
    with pytest.raises(InputError, match="shorter episodes"):
        ServiceEnv(market(), services=ServiceRange(ticks=201))
    with pytest.raises(InputError, match="lower first"):
        ServiceRange(demand=(3.0, 2.0))
    with pytest.raises(InputError, match="longest cold start"):
        ServiceRange(ticks=10)
    with pytest.raises(InputError, match="variants"):
        service_markets([market()], variants=0)
    env = ServiceEnv(market(), services=SHORT)
    for options, message in (
        ({"service": 3}, "accepted: a Service"),
        ({"job": 3}, "accepted: market, start, service, weight"),
        ({"market": 5}, "accepted: 0 to 0"),
        ({"start": 190}, "beyond its market"),
    ):
        with pytest.raises(InputError, match=message):
            env.reset(options=options)
    env.reset(seed=0)
    with pytest.raises(InputError, match="shape"):
        env.step(np.zeros(2, np.int64))
    for _ in range(SHORT.ticks):
        env.step(np.zeros(3, np.int64))
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(3, np.int64))
