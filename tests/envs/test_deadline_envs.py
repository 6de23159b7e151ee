"""The scalar environment, the batched one and the kernel are one world, tick for tick."""

from datetime import UTC, datetime
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs.deadline_env import DeadlineEnv
from envs.deadline_vec_env import DeadlineVecEnv
from envs.jobs import JobDistribution, JobRange
from envs.series import EpisodeMarkets
from policies.features import FEATURE_SETS, RICH, SIMPLE, FeatureSet
from simulator.deadline import DeadlineBatch, DeadlineJob
from simulator.errors import InputError
from simulator.market import Market, Pool, sample_market

SHORT_JOBS = JobDistribution(
    [
        JobRange((1.0, 6.0), (1.05, 2.0), (0.0, 12.0), price_ratio=(0.2, 0.6)),
        JobRange((3.0, 3.0), (1.5, 1.5), (5.0, 5.0), checkpoint_interval_minutes=(30.0, 30.0)),
    ]
)


def market(pools: int = 1, ticks: int = 120, seed: int = 0, tick_seconds: int = 600) -> Market:
    rng = np.random.default_rng(seed)
    return Market.build(
        [Pool("aws", "r", f"z{p}", "t") for p in range(pools)],
        tick_seconds=tick_seconds,
        start=datetime(2024, 1, 1, tzinfo=UTC),
        spot_price=rng.uniform(0.5, 1.5, (pools, ticks)),
        spot_capacity=np.cumsum(rng.random((pools, ticks)) < 0.2, axis=1) % 2,
        on_demand_price=3.0,
    )


def markets(pools: int = 1, **options: float) -> EpisodeMarkets:
    return EpisodeMarkets.of([market(pools, seed=s) for s in range(3)], each_pool=pools == 1, **options)  # type: ignore[arg-type] # options are typed where they are used


def random_legal(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.where(masks, rng.random(masks.shape), -1.0).argmax(axis=1))


@pytest.mark.parametrize("kind", FEATURE_SETS.values(), ids=FEATURE_SETS.keys())
@given(seed=st.integers(0, 2**31), safe=st.booleans(), pools=st.sampled_from([1, 3]))
@settings(max_examples=15)
def test_scalar_env_is_vec_env_is_kernel_tick_for_tick(
    kind: FeatureSet, seed: int, safe: bool, pools: int
) -> None:
    venv = DeadlineVecEnv(markets(pools), 3, jobs=SHORT_JOBS, features=kind, seed=seed)
    env = DeadlineEnv(markets(pools), jobs=SHORT_JOBS, features=kind)
    seen_by_venv = venv.reset()
    seen, _ = env.reset(seed=seed)
    kernel = DeadlineBatch(venv.markets.stack, 1)

    def follow() -> None:
        names = ("market", "start", "restart_overhead", "checkpoint_interval", "nodes", "spot_scale")
        values = {name: getattr(venv.batch, name)[:1] for name in names}
        kernel.assign(
            np.arange(1), work=venv.batch.work_total[:1], deadline=venv.batch.deadline[:1], **values
        )

    follow()
    rng = np.random.default_rng(seed)
    for _ in range(150):
        np.testing.assert_array_equal(seen_by_venv[0], seen)
        np.testing.assert_array_equal(get_action_masks(venv).reshape(3, -1)[0], env.action_masks())
        masks = get_action_masks(venv).reshape(3, -1)
        action = random_legal(masks if safe else np.ones_like(masks), rng)
        cost = kernel.step(action[:1])[0]
        venv.step_async(action)
        seen_by_venv, rewards, dones, infos = venv.step_wait()
        before = float(env.batch.cost[0])
        seen, reward, terminated, truncated, info = env.step(action[0])
        assert rewards[0] == np.float32(reward)
        assert info["cost_usd"] - before == pytest.approx(cost, abs=1e-12)
        assert info["cost_usd"] == kernel.cost[0]
        assert dones[0] == terminated == kernel.done[0]
        assert not truncated
        if terminated:
            np.testing.assert_array_equal(infos[0]["terminal_observation"], seen)
            assert infos[0]["cost_usd"] == info["cost_usd"]
            assert infos[0]["is_success"] == (not info["missed"]) == (not kernel.missed[0])
            assert not (safe and kernel.missed[0])
            seen, _ = env.reset()
            follow()
        else:
            assert infos[0] == {}


@pytest.mark.parametrize("kind", FEATURE_SETS.values(), ids=FEATURE_SETS.keys())
def test_an_environment_has_the_same_episodes_whatever_their_number(kind: FeatureSet) -> None:
    few = DeadlineVecEnv(markets(), 2, jobs=SHORT_JOBS, features=kind, seed=7)
    many = DeadlineVecEnv(markets(), 5, jobs=SHORT_JOBS, features=kind, seed=7)
    np.testing.assert_array_equal(few.reset(), many.reset()[:2])
    for _ in range(100):
        action = np.ones(5, np.int64)
        few.step_async(action[:2])
        many.step_async(action)
        a, b = few.step_wait(), many.step_wait()
        np.testing.assert_array_equal(a[0], b[0][:2])
        np.testing.assert_array_equal(a[1], b[1][:2])


def test_neighbouring_seeds_share_no_environment() -> None:
    first = DeadlineVecEnv(markets(), 50, jobs=SHORT_JOBS, seed=0).seed(0)
    second = DeadlineVecEnv(markets(), 50, jobs=SHORT_JOBS, seed=0).seed(1)
    assert not set(first) & set(second)


def test_reseeding_begins_the_same_episodes_again() -> None:
    venv = DeadlineVecEnv(markets(), 4, jobs=SHORT_JOBS, seed=3)
    first = venv.reset()
    second = venv.reset()
    assert not np.array_equal(first, second)
    venv.seed(3)
    np.testing.assert_array_equal(venv.reset(), first)


def test_state_and_restore_continue_exactly() -> None:
    venv = DeadlineVecEnv(markets(), 4, jobs=SHORT_JOBS, seed=3)
    venv.reset()
    rng = np.random.default_rng(0)
    for _ in range(37):
        last = venv.step(random_legal(venv.action_masks(), rng))[0]
    other = DeadlineVecEnv(markets(), 4, jobs=SHORT_JOBS, seed=99)
    np.testing.assert_array_equal(other.restore(venv.state()), last)
    for _ in range(60):
        action = random_legal(venv.action_masks(), rng)
        np.testing.assert_array_equal(other.action_masks(), venv.action_masks())
        a, b = venv.step(action), other.step(action)
        for left, right in zip(a[:3], b[:3], strict=True):
            np.testing.assert_array_equal(left, right)


def test_a_state_of_another_size_is_refused() -> None:
    state = DeadlineVecEnv(markets(), 4, jobs=SHORT_JOBS).state()
    with pytest.raises(InputError, match="another shape"):
        DeadlineVecEnv(markets(), 5, jobs=SHORT_JOBS).restore(state)


def test_a_missed_deadline_is_termination_and_costs_the_penalty() -> None:
    env = DeadlineEnv(market(), jobs=SHORT_JOBS)
    env.reset(seed=1, options={"job": DeadlineJob(3600.0, 7200.0, 0.0), "market": 0, "start": 5})
    total, terminated, truncated = 0.0, False, False
    ticks = 0
    while not terminated:
        _, reward, terminated, truncated, info = env.step(0)
        total += reward
        ticks += 1
    assert ticks == 12
    assert not truncated
    assert info["missed"]
    assert total == -2.0
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)


def test_on_demand_returns_minus_one() -> None:
    env = DeadlineEnv(market(), jobs=SHORT_JOBS)
    env.reset(seed=1, options={"job": DeadlineJob(3600.0, 7200.0, 0.0)})
    total, terminated = 0.0, False
    while not terminated:
        _, reward, terminated, _, _ = env.step(1)
        total += reward
    assert total == pytest.approx(-1.0)


@pytest.mark.parametrize("kind", FEATURE_SETS.values(), ids=FEATURE_SETS.keys())
def test_check_env_of_gymnasium_and_sb3_pass(kind: FeatureSet) -> None:
    env = DeadlineEnv(market(), jobs=SHORT_JOBS, features=kind)
    gymnasium_check_env(env, skip_render_check=True)
    sb3_check_env(env)


def test_is_made_by_its_name() -> None:
    env = gym.make("envs:spotwise/DeadlineJob-v0")
    seen, _ = env.reset(seed=0)
    assert seen.shape == (RICH.size,)
    assert env.action_space == gym.spaces.Discrete(3)


def test_masks_come_without_a_loop_and_per_environment() -> None:
    venv = DeadlineVecEnv(markets(3), 4, jobs=SHORT_JOBS, features=SIMPLE, seed=0)
    venv.reset()
    assert is_masking_supported(venv)
    np.testing.assert_array_equal(get_action_masks(venv).reshape(4, 5), venv.action_masks())
    np.testing.assert_array_equal(venv.env_method("action_masks", indices=[2])[0], venv.action_masks()[2])


def test_jobs_stay_in_their_ranges_and_fit() -> None:
    episodes = markets(reversed_share=0.3)
    drawn = SHORT_JOBS.draw(np.random.default_rng(0).random((5000, 16)), episodes)
    tick = episodes.stack.tick_seconds
    assert (drawn.start + np.ceil(drawn.deadline / tick) <= episodes.stack.ticks[drawn.market]).all()
    assert (drawn.deadline - drawn.work >= drawn.restart_overhead).all()
    assert ((drawn.work >= 3600.0) & (drawn.work <= 6 * 3600.0)).all()
    ranged = drawn.checkpoint_interval == 0.0
    ratio = drawn.spot_scale[ranged] * episodes.price_ratio[drawn.market[ranged]]
    assert 0.2 <= ratio.min() < 0.21 < 0.59 < ratio.max() <= 0.6 + 1e-12
    backwards = np.array(["reversed" in name for name in episodes.names])[drawn.market]
    assert backwards.mean() == pytest.approx(0.3, abs=0.03)


def test_phases_sample_the_same_trace_at_other_moments() -> None:
    fine = market(ticks=400, tick_seconds=200)
    shifted = EpisodeMarkets.of([fine], tick_seconds=600, phases=3)
    assert len(shifted.names) == 3
    for phase in range(3):
        capacity = shifted.stack.capacity[phase, 0, : shifted.stack.ticks[phase]]
        np.testing.assert_array_equal(capacity, fine.spot_capacity[0, phase::3][: len(capacity)])


def test_a_market_that_is_too_short_is_refused() -> None:
    with pytest.raises(InputError, match="shortest job needs 52"):
        DeadlineVecEnv(markets(), 2)


def test_a_range_out_of_order_is_refused() -> None:
    with pytest.raises(InputError, match="deadline_ratio"):
        JobRange(deadline_ratio=(0.9, 2.0))


@pytest.mark.filterwarnings("ignore:.*render_mode:UserWarning")  # Gymnasium says it before we refuse
def test_stable_baselines3_makes_it_by_its_id() -> None:
    model = PPO("MlpPolicy", "envs:spotwise/DeadlineJob-v0", n_steps=16, batch_size=16, device="cpu")
    model.learn(16)


@pytest.mark.filterwarnings("ignore:.*render_mode:UserWarning")  # Gymnasium says it before we refuse
def test_render_modes_are_refused_as_gymnasium_and_the_user_expect() -> None:
    with pytest.raises(TypeError, match="draws nothing"):
        gym.make("envs:spotwise/DeadlineJob-v0", render_mode="rgb_array")


@pytest.mark.parametrize(
    "action", ["spot", None, 1.5, float("nan"), [0, 1], [[1, 2], [3]], np.array([True, False]), -1, 3, 10**30]
)
def test_what_is_no_action_is_refused_in_words(action: Any) -> None:
    env = DeadlineEnv()
    env.reset(seed=0)
    with pytest.raises(InputError, match="accepted"):
        env.step(action)


@pytest.mark.parametrize("actions", [["a", "b"], [None, 1], [1.0, 0.0], [0], [0, 1, 1], [0, -1], [3, 0]])
def test_what_are_no_actions_of_a_batch_is_refused_in_words(actions: Any) -> None:
    together = DeadlineVecEnv(EpisodeMarkets.of([sample_market()]), 2)
    together.reset()
    with pytest.raises(InputError, match="accepted"):
        together.step(actions)


@pytest.mark.parametrize("action", [0, np.int64(1), np.array(1), np.array([1]), [1], np.uint8(1)])
def test_one_whole_number_in_any_wrapping_is_an_action(action: Any) -> None:
    env = DeadlineEnv()
    env.reset(seed=0)
    env.step(action)


def test_a_given_job_is_taken_to_the_fraction_of_a_second() -> None:
    job = DeadlineJob(
        36_000.25,
        43_200.5,
        90.125,
        1800.75,
        nodes=2,
        due_seconds=40_000.5,
        lateness_usd_per_hour=2.5,
        committed=1,
    )
    env = DeadlineEnv()
    env.reset(seed=0, options={"job": job})
    batch = env.batch
    assert (batch.work_total[0], batch.deadline[0]) == (36_000.25, 43_200.5)
    assert (batch.restart_overhead[0], batch.checkpoint_interval[0]) == (90.125, 1800.75)
    assert (batch.due[0], batch.lateness_price[0], batch.committed[0]) == (40_000.5, 2.5, 1)
    env.reset(seed=0)
    assert (batch.due[0], batch.lateness_price[0], batch.committed[0]) == (batch.deadline[0], 0.0, 0)
