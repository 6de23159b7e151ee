"""The guided policy: the planner plus corrections, within its trained range, from a bundle."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.bundle import BundleManifest, read_bundle, write_bundle
from policies.guided import ALGORITHM, GuidedPolicy, TrainedRange
from policies.guided.policy import FEATURE_NAMES, bundle_parts
from policies.learned import network_arrays
from policies.network import Network
from policies.planner import SemiMarkovPlanner
from policies.shield import legal_actions
from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.replay import Decider, Windows, run
from simulator.errors import InputError
from simulator.market import Market, sample_market
from simulator.synthetic import load_model

Arrays = dict[str, np.ndarray]
RANGE = TrainedRange(600.0, 80.0, 30.0, 0.15, 0.85)
JOB = DeadlineJob(20 * 3600, 26 * 3600, 540)


def members(count: int, spread: float, seed: int = 0) -> list[Arrays]:
    rng = np.random.default_rng(seed)
    shapes = ((16, len(FEATURE_NAMES)), (3, 16))
    return [
        network_arrays(
            [
                ((spread * rng.standard_normal(shape)).astype(np.float32), np.zeros(shape[0], np.float32))
                for shape in shapes
            ]
        )
        for _ in range(count)
    ]


def policy(arrays: list[Arrays], trained: TrainedRange = RANGE) -> GuidedPolicy:
    networks = [Network.of(each, activation="tanh") for each in arrays]
    return GuidedPolicy.stack("guided", SemiMarkovPlanner(load_model()), 5.0, trained, networks)


@pytest.fixture(scope="module")
def market() -> Market:
    return sample_market("v100-unseen")


def placements(deciding: Decider, market: Market, job: DeadlineJob = JOB) -> np.ndarray:
    timeline: list[np.ndarray] = []
    run(deciding, Windows.each_pool(market, job, 700), job, timeline)
    return np.stack(timeline)


def test_without_corrections_it_is_the_planner(market: Market) -> None:
    mine = placements(policy(members(2, 0.0)), market)
    np.testing.assert_array_equal(mine, placements(SemiMarkovPlanner(load_model()), market))


def test_corrections_change_decisions_and_stay_legal(market: Market) -> None:
    corrected = policy(members(1, 3.0))
    mine, planned = placements(corrected, market), placements(SemiMarkovPlanner(load_model()), market)
    both = min(len(mine), len(planned))
    assert (mine[:both] != planned[:both]).any()
    windows = Windows.each_pool(market, JOB, 700)
    batch = DeadlineBatch.of(windows.stack, JOB, windows.market, windows.start)
    memory = corrected.reset(batch.size)
    while not batch.done.all():
        seen = batch.observe()
        action, memory = corrected.act(seen, memory)
        live = np.flatnonzero(~batch.done)
        assert legal_actions(seen)[live, action[live]].all()
        batch.step(action)
    assert not batch.missed.any()


@pytest.mark.parametrize(
    "trained",
    [
        replace(RANGE, tick_seconds=300.0),
        replace(RANGE, most_hours=25.0),
        replace(RANGE, most_overhead_minutes=8.0),
        replace(RANGE, least_ratio=0.5),
        replace(RANGE, most_ratio=0.2),
    ],
)
def test_outside_the_trained_range_the_planner_decides(market: Market, trained: TrainedRange) -> None:
    mine = placements(policy(members(1, 3.0), trained), market)
    np.testing.assert_array_equal(mine, placements(SemiMarkovPlanner(load_model()), market))


def test_checkpointed_jobs_are_the_planners(market: Market) -> None:
    job = replace(JOB, checkpoint_interval_seconds=1800.0)
    mine = placements(policy(members(1, 3.0)), market, job)
    np.testing.assert_array_equal(mine, placements(SemiMarkovPlanner(load_model()), market, job))


def test_correction_is_the_mean_of_the_members() -> None:
    arrays = members(3, 1.0)
    inputs = np.random.default_rng(1).standard_normal((5, len(FEATURE_NAMES))).astype(np.float32)
    each = [Network.of(one, activation="tanh").outputs(inputs) for one in arrays]
    np.testing.assert_allclose(policy(arrays).corrections(inputs), np.mean(each, axis=0), atol=1e-4)


def test_one_job_decides_as_in_a_batch_and_memory_is_not_changed(market: Market) -> None:
    windows = Windows.each_pool(market, JOB, 900)
    batch = DeadlineBatch.of(windows.stack, JOB, windows.market, windows.start)
    single = DeadlineBatch.of(windows.stack, JOB, windows.market[3:4], windows.start[3:4])
    guided = policy(members(2, 2.0))
    memory, own = guided.reset(batch.size), guided.reset(1)
    for _ in range(60):
        before = {name: np.array(array) for name, array in memory.items()}
        action, after = guided.act(batch.observe(), memory)
        for name, array in before.items():
            np.testing.assert_array_equal(array, memory[name])
        alone, own = guided.act(single.observe(), own)
        assert alone[0] == action[3]
        memory = after
        batch.step(action)
        single.step(alone)


def write(path: Path, changes: dict[str, Any] | None = None) -> Path:
    changes = dict(changes or {})
    parameters, weights = bundle_parts(SemiMarkovPlanner(load_model()), 5.0, RANGE, members(2, 2.0))
    parameters |= changes.pop("parameters", {})
    weights |= changes.pop("weights", {})
    fields: dict[str, Any] = {
        "name": "guided",
        "kind": "deadline",
        "algorithm": ALGORITHM,
        "feature_names": list(FEATURE_NAMES),
        "parameters": parameters,
    }
    write_bundle(path, BundleManifest.model_validate(fields | changes), weights)
    return path


def test_bundle_round_trip_keeps_decisions(market: Market, tmp_path: Path) -> None:
    read = GuidedPolicy.of(read_bundle(write(tmp_path / "guided.policy"), "deadline"))
    np.testing.assert_array_equal(placements(read, market), placements(policy(members(2, 2.0)), market))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_names": ["other"]}, "features differ"),
        ({"parameters": {"members": 3}}, "member 2"),
        ({"parameters": {"members": 0}}, "members must be"),
        ({"parameters": {"guidance": "5"}}, "guidance must be a number"),
        ({"parameters": {"trained": {}}}, "do not fit"),
        ({"parameters": {"planner": "x"}}, "must be an object"),
        ({"weights": {"member.0.extra": np.zeros(3, np.float32)}}, "belong to no layer"),
        ({"weights": {"stray": np.zeros(3, np.float32)}}, "belong to none"),
        ({"weights": {"planner.hazard": np.full((2, 2, 2), 2.0)}}, "hazard"),
        ({"weights": {"member.1.head.policy.bias": np.full(3, np.nan, np.float32)}}, "finite"),
    ],
)
def test_bundles_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "bad.policy", changes)
    with pytest.raises(InputError, match=message):
        GuidedPolicy.of(read_bundle(path, "deadline"))


def test_hand_built_observation_of_one_job_works() -> None:
    stack = MarketStack.of([sample_market("v100").select([0])])
    seen = DeadlineBatch.of(stack, JOB, [0], [5]).observe()
    action, _ = policy(members(1, 1.0)).act(seen, policy(members(1, 1.0)).reset(1))
    assert action.shape == (1,)
