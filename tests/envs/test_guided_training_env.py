"""The champion's training environment: hindsight reward and advice."""

import numpy as np
import pytest

from envs.guided_vec_env import GuidedVecEnv
from envs.hindsight import HindsightReward
from policies.guided import GuidedPolicy
from policies.guided.policy import FEATURE_NAMES
from policies.learned import network_arrays
from policies.network import Network
from policies.planner import SemiMarkovPlanner
from policies.shield import legal_actions
from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.optimum import clairvoyant_optimum
from simulator.deadline.replay import Windows
from simulator.errors import InputError
from simulator.market import Market, sample_market
from simulator.synthetic import load_model
from training.champion.jobs import LONGEST_TICKS, ChampionJobs, trained_range
from training.champion.series import champion_series


@pytest.fixture(scope="module")
def market() -> Market:
    return sample_market("v100")


def random_episode(batch: DeadlineBatch, reward: HindsightReward, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    total = np.zeros(batch.size)
    while not batch.done.all():
        legal = legal_actions(batch.observe())
        action = np.where(legal, rng.random(legal.shape), -1).argmax(axis=1)
        live = ~batch.done
        score = reward.score(batch, batch.step(action))
        total[live] += score[live]
    return total


@pytest.mark.parametrize("overhead", [0.0, 180.0, 720.0, 1500.0])
def test_rewards_of_an_episode_sum_to_minus_the_regret(market: Market, overhead: float) -> None:
    job = DeadlineJob(24 * 3600, 30 * 3600, overhead)
    windows = Windows.each_pool(market, job, 1500)
    batch = DeadlineBatch.of(windows.stack, job, windows.market, windows.start)
    reward = HindsightReward(200, scale=1.0)
    reward.begin(batch, np.arange(batch.size))
    first = reward._potential.copy()
    total = random_episode(batch, reward, 1)
    in_ticks = batch.cost / (3.06 / 6)
    np.testing.assert_allclose(total, first - in_ticks, atol=1e-6)
    # The potential is the clairvoyant optimum under the shield's rule, read off a grid.
    optimum = clairvoyant_optimum(windows.stack, job, windows.market, windows.start) / (3.06 / 6)
    assert (first > optimum - 1.0).all()
    assert (first - optimum).mean() < 4.0
    assert (total < 1.0).all()


def test_long_episodes_are_refused(market: Market) -> None:
    job = DeadlineJob(24 * 3600, 30 * 3600, 180)
    single = DeadlineBatch.of(MarketStack.of([market.select([0])]), job, [0], [0])
    with pytest.raises(InputError, match="longer than"):
        HindsightReward(100).begin(single, np.arange(1))


@pytest.fixture(scope="module")
def env(market: Market) -> GuidedVecEnv:
    planner = SemiMarkovPlanner(load_model())
    return GuidedVecEnv(
        champion_series([market], planner.model, 0),
        48,
        planner,
        jobs=ChampionJobs(),
        reward=HindsightReward(LONGEST_TICKS),
        seed=3,
    )


def test_observations_are_what_the_policy_sees_in_production(env: GuidedVecEnv) -> None:
    zero = network_arrays([(np.zeros((3, len(FEATURE_NAMES)), np.float32), np.zeros(3, np.float32))])
    network = Network.of(zero, activation="tanh")
    policy = GuidedPolicy.stack("p", SemiMarkovPlanner(load_model()), 5.0, trained_range(600), [network])
    seen = env.reset()
    memory = {name: np.array(array) for name, array in policy.reset(env.num_envs).items()}
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(400):
        advised, after = policy.describe(env.batch.observe(), memory)
        np.testing.assert_allclose(advised.inputs, seen, atol=1e-5)
        np.testing.assert_array_equal(advised.legal, env.action_masks())
        legal = advised.legal
        env.step_async(np.where(legal, rng.random(legal.shape), -1).argmax(axis=1))
        seen, _, done, _ = env.step_wait()
        memory = {name: np.array(array) for name, array in after.items()}
        blank = policy.reset(1)
        for name, array in memory.items():
            array[done] = blank[name][0]
        ended += int(done.sum())
    assert ended > 5


def test_jobs_are_feasible_and_within_the_trained_range(env: GuidedVecEnv) -> None:
    episodes = ChampionJobs().draw(np.random.default_rng(0).random((5000, 16)), env.markets)
    assert (episodes.deadline - episodes.work >= episodes.restart_overhead).all()
    assert (episodes.work > 0).all()
    assert (episodes.start + episodes.deadline / 600 <= env.markets.stack.ticks[episodes.market]).all()
    covered = trained_range(600)
    assert (episodes.deadline <= 3600 * covered.most_hours).all()
    assert (episodes.restart_overhead <= 60 * covered.most_overhead_minutes).all()
    assert (episodes.spot_scale >= covered.least_ratio).all()
    assert (episodes.spot_scale <= covered.most_ratio).all()
