"""The champion's recipe on a very small scale: it trains, repeats itself, and writes a bundle that loads."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO

from envs.guided_vec_env import GuidedVecEnv
from envs.hindsight import HindsightReward
from policies.guided.policy import FEATURE_NAMES
from policies.network import Network
from policies.planner import SemiMarkovPlanner
from policies.planner.fit import fit_planner_model
from policies.registry import load_policy
from policies.shield import Shielded
from simulator.deadline import DeadlineJob
from simulator.deadline.replay import Windows, replay
from simulator.market import Market, sample_market
from training.advised import correction_arrays
from training.agent import weights_of
from training.champion.jobs import LONGEST_TICKS, ChampionJobs
from training.champion.network import GuidedActorCritic
from training.champion.recipe import Recipe, guided, train_member, write_champion
from training.champion.series import champion_series

TINY = Recipe(steps=2 * 32 * 8, environments=32, rollout_steps=8, batch_size=64, epochs=1)


@pytest.fixture(scope="module")
def markets() -> list[Market]:
    return [sample_market("v100").select([0, 1])]


def test_the_same_seed_gives_the_same_member_and_another_seed_another(markets: list[Market]) -> None:
    model = fit_planner_model(markets)
    once, again, other = (train_member(markets, model, TINY, seed) for seed in (1, 1, 2))
    for name, array in once.items():
        np.testing.assert_array_equal(array, again[name])
    assert any((array != other[name]).any() for name, array in once.items())


def test_bundle_of_a_trained_member_loads_and_misses_nothing(markets: list[Market], tmp_path: Path) -> None:
    model = fit_planner_model(markets)
    member = train_member(markets, model, TINY, 0)
    policy = guided("tiny", SemiMarkovPlanner(model), [member])
    path = tmp_path / "tiny.policy"
    digest = write_champion(path, policy, [member], TINY, [0], {"m": "0" * 64}, [{"zone": "a", "cost": 1.0}])
    assert len(digest) == 64
    job = DeadlineJob(20 * 3600, 24 * 3600, 300)
    windows = Windows.each_pool(sample_market("v100-unseen"), job, 900)
    table = replay([load_policy(path)], windows, job)
    assert not table["missed"].any()
    own = replay([policy], windows, job)
    np.testing.assert_array_equal(table["cost_usd"], own["cost_usd"])


def test_torch_logits_and_numpy_corrections_agree(markets: list[Market]) -> None:
    planner = SemiMarkovPlanner(fit_planner_model(markets))
    env = GuidedVecEnv(
        champion_series(markets, planner.model, 0),
        16,
        planner,
        jobs=ChampionJobs(),
        reward=HindsightReward(LONGEST_TICKS),
        seed=0,
    )
    agent = MaskablePPO(GuidedActorCritic, env, n_steps=2, batch_size=16, seed=0, device="cpu")
    torch.nn.init.normal_(agent.policy.action_net.linear.weight)  # type: ignore[union-attr,arg-type] # ours
    inputs = np.random.default_rng(0).standard_normal((9, len(FEATURE_NAMES))).astype(np.float32)
    with torch.no_grad():
        policy = agent.policy
        latent = policy.mlp_extractor.forward_actor(torch.from_numpy(inputs))
        logits = torch.log_softmax(policy.action_net(latent), dim=1).numpy()
    network = Network.of(correction_arrays(weights_of(agent.policy)), activation="tanh")
    scores = network.outputs(inputs) - 5.0 * inputs[:, -7:-4]
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(logits, scores, atol=2e-4)


@pytest.mark.parametrize(
    "part", [{"potential": False}, {"guidance": 0.0}, {"augmented": False}, {"width": 8}]
)
def test_every_part_of_the_recipe_can_be_left_out_and_makes_a_difference(
    markets: list[Market], part: dict[str, Any]
) -> None:
    model = fit_planner_model(markets)
    whole, without = (train_member(markets, model, recipe, 1) for recipe in (TINY, replace(TINY, **part)))
    assert any(
        a.shape != b.shape or (a != b).any() for a, b in zip(whole.values(), without.values(), strict=True)
    )
    policy = guided("without", SemiMarkovPlanner(model), [without], replace(TINY, **part).guidance)
    job = DeadlineJob(8 * 3600, 10 * 3600, 720)
    table = replay([Shielded(policy)], Windows.each_pool(markets[0], job, 400), job)
    assert not table["missed"].any()
