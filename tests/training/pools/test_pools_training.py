"""Training over pools: torch and NumPy agree, the reward is the regret, training is repeatable."""

from pathlib import Path

import numpy as np
import pytest
import torch

from envs.hindsight import HindsightReward
from envs.pools_vec_env import PoolsVecEnv
from envs.series import EpisodeMarkets
from policies.guided.pools import JOB_NAMES, POOL_NAMES, Described, PoolNetwork, advise, describe
from policies.planner import SemiMarkovPlanner
from policies.planner.fit import SHIPPED
from policies.registry import load_policy
from policies.shield import legal_actions
from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.observability import Observability
from simulator.deadline.optimum import clairvoyant_optimum
from simulator.deadline.replay import Windows
from simulator.deadline.terms import PoolTerms
from simulator.errors import InputError
from simulator.market import sample_market
from simulator.synthetic.semi_markov import load_model
from training.advised import GUIDANCE
from training.agent import weights_of
from training.pools.episodes import LONGEST_TICKS, PoolJobs, pool_markets
from training.pools.judge import difference, judge, report, without_group
from training.pools.network import PoolsActorCritic, Towers, member_arrays
from training.pools.recipe import PoolsRecipe, guided_pools, train_pools, write_pools
from training.several_pools import Fold

RATIOS = {"a": np.array([0.3, 0.35, 0.42]), "b": np.array([0.5, 0.45, 0.61])}


@pytest.fixture(scope="module")
def markets() -> EpisodeMarkets:
    market = sample_market()
    series = [row > 0 for row in market.spot_capacity[:4]]
    return pool_markets(series, RATIOS, load_model(SHIPPED), pools=3, markets=2, seed=0)


def environment(markets: EpisodeMarkets, observability: Observability = "full") -> PoolsVecEnv:
    return PoolsVecEnv(
        markets,
        24,
        SemiMarkovPlanner(load_model(SHIPPED), cache_bytes=2_000_000_000),
        jobs=PoolJobs(),
        reward=HindsightReward(LONGEST_TICKS),
        seed=1,
        observability=observability,
    )


def test_rewards_over_several_pools_sum_to_minus_the_regret() -> None:
    market = sample_market().select(range(3))
    job = DeadlineJob(24 * 3600, 30 * 3600, 720)
    windows = Windows.all_pools(market, job, 1500)
    batch = DeadlineBatch.of(windows.stack, job, windows.market, windows.start)
    reward = HindsightReward(200, scale=1.0)
    reward.begin(batch, np.arange(batch.size))
    first = reward._potential.copy()
    rng, total = np.random.default_rng(1), np.zeros(batch.size)
    while not batch.done.all():
        legal = legal_actions(batch.observe())
        live = ~batch.done
        action = np.where(legal, rng.random(legal.shape), -1).argmax(axis=1)
        total[live] += reward.score(batch, batch.step(action))[live]
    per_tick = windows.stack.on_demand_price[0, 0] / 6
    np.testing.assert_allclose(total, first - batch.cost / per_tick, atol=1e-6)
    optimum = clairvoyant_optimum(windows.stack, job, windows.market, windows.start) / per_tick
    assert (first > optimum - 1.0).all()
    assert (first - optimum).mean() < 4.0


@pytest.mark.parametrize("observability", ["full", "occupied"])
def test_observations_are_what_the_policy_sees_in_production(
    markets: EpisodeMarkets, observability: Observability
) -> None:
    env = environment(markets, observability)
    planner = SemiMarkovPlanner(load_model(SHIPPED), cache_bytes=2_000_000_000)
    seen = np.asarray(env.reset())
    memory = {name: np.array(array) for name, array in planner.reset(env.num_envs, 3).items()}
    blank, rng, ended = planner.reset(1, 3), np.random.default_rng(0), 0
    for _ in range(160):
        observed = env.batch.observe()
        advice, after = advise(planner, observed, memory)
        legal = advice.legal
        np.testing.assert_allclose(describe(observed, advice).flat, seen, atol=1e-4)
        np.testing.assert_array_equal(legal, env.action_masks())
        after_step, _, done, _ = env.step(np.where(legal, rng.random(legal.shape), -1).argmax(axis=1))
        seen = np.asarray(after_step)
        memory = {name: np.array(array) for name, array in after.items()}
        for name, array in memory.items():
            array[done] = blank[name][0]
        ended += int(done.sum())
    assert ended > 1


@pytest.mark.parametrize("pools", [1, 3, 9])
def test_torch_and_numpy_compute_the_same_and_begin_as_the_planner(
    markets: EpisodeMarkets, pools: int
) -> None:
    env = environment(markets)
    torch.manual_seed(0)
    policy = PoolsActorCritic(env.observation_space, env.action_space, lambda _: 1e-3)
    towers = policy.mlp_extractor
    assert isinstance(towers, Towers)
    actor = towers.actor
    rng = np.random.default_rng(0)
    seen = Described(
        rng.standard_normal((6, len(JOB_NAMES))).astype(np.float32),
        rng.standard_normal((6, pools, len(POOL_NAMES))).astype(np.float32),
    )

    def both() -> tuple[np.ndarray, np.ndarray]:
        network = PoolNetwork.of(member_arrays(weights_of(policy)))
        with torch.no_grad():
            logits = actor(torch.from_numpy(seen.job), torch.from_numpy(seen.pool)).numpy()
        return logits, network.corrections(seen) - np.float32(GUIDANCE) * seen.gaps

    logits, scores = both()
    np.testing.assert_array_equal(logits, -np.float32(GUIDANCE) * seen.gaps)
    for layer in actor.last:
        torch.nn.init.normal_(layer.weight)
    logits, scores = both()
    np.testing.assert_allclose(scores, logits, atol=1e-4)
    assert np.abs(scores + GUIDANCE * seen.gaps).max() > 0.1


def test_training_is_repeatable_and_its_bundle_can_be_replayed(
    markets: EpisodeMarkets, tmp_path: Path
) -> None:
    recipe = PoolsRecipe(steps=24 * 64 * 2, environments=24, batch_size=512, epochs=1)
    model = load_model(SHIPPED)
    steps: list[int] = []
    once = train_pools(markets, model, recipe, 5, watch=steps.append)
    again = train_pools(markets, model, recipe, 5)
    assert steps == [24 * 64, 24 * 64 * 2]
    for name, array in once.items():
        np.testing.assert_array_equal(again[name], array)
    assert np.abs(once["rest.weight"]).max() > 0.0
    planner = SemiMarkovPlanner(model, cache_bytes=2_000_000_000)
    policy = guided_pools("pools-network", planner, [once])
    path = tmp_path / "net.policy"
    write_pools(path, policy, [once], recipe, [5], {})
    market = sample_market().select(range(3)).window(0, 1500)
    parts = [Fold(model, (("a+b+c prices 0", market),)), Fold(model, (("d+e+f prices 0", market),))]
    table = judge(parts, [load_policy(path).policy] * 2)
    assert not table["missed"].any()
    found, low, high = difference(table, "pools-network")
    assert low <= found <= high
    assert abs(found) < 0.05
    lines = report(table, "pools-network").splitlines()
    assert len(lines) == 6
    assert lines[-1] == f"missed 0 of {len(table)}"


def test_a_group_is_left_out_as_the_comparison_of_the_planner_leaves_it_out() -> None:
    series = [np.full(3, zone) for zone in range(9)]
    assert [row[0] for row in without_group(series, 1)] == [0, 2, 3, 5, 6, 8]


def test_episodes_fit_and_odd_markets_are_refused(markets: EpisodeMarkets) -> None:
    episodes = PoolJobs().draw(np.random.default_rng(0).random((3000, 16)), markets)
    assert (episodes.deadline <= LONGEST_TICKS * 600).all()
    assert (episodes.deadline - episodes.work >= 2 * episodes.restart_overhead).all()
    assert (episodes.start + episodes.deadline / 600 <= markets.stack.ticks[episodes.market]).all()
    series = [np.ones(1000, np.bool_)] * 2
    with pytest.raises(InputError, match="2 series for markets of 3 pools"):
        pool_markets(series, RATIOS, load_model(SHIPPED), pools=3, markets=2, seed=0)
    with pytest.raises(InputError, match="prices of 4 zones"):
        pool_markets(series * 2, RATIOS, load_model(SHIPPED), pools=4, markets=2, seed=0)


def test_pools_that_differ_in_more_than_price_are_refused() -> None:
    market = sample_market().select(range(2))
    terms = PoolTerms(throughput=((market.pools[0].name, 0.5),))
    job = DeadlineJob(24 * 3600, 60 * 3600, 180, terms=terms)
    batch = DeadlineBatch.of(MarketStack.of([market], terms), job, [0], [0])
    with pytest.raises(InputError, match="differ in price only"):
        HindsightReward(400).begin(batch, np.arange(1))
