"""The network over pools: equivariant, the planner when it says nothing, the same in torch and NumPy."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.bundle import BundleManifest, write_bundle
from policies.guided.pools import (
    ALGORITHM,
    FEATURE_NAMES,
    JOB_NAMES,
    POOL_NAMES,
    Described,
    GuidedPools,
    PoolNetwork,
    advise,
    bundle_parts,
    describe,
)
from policies.planner import SemiMarkovPlanner
from policies.planner.fit import SHIPPED
from policies.registry import load_policy
from policies.shield import legal_actions
from simulator.deadline import DeadlineBatch, DeadlineJob, DeadlineObservation, MarketStack
from simulator.deadline.observability import Observability
from simulator.errors import InputError
from simulator.market import sample_market
from simulator.synthetic.semi_markov import load_model

WIDTH = 8
TICK = 600.0
Arrays = dict[str, np.ndarray]


def arrays(seed: int, scale: float = 0.5) -> Arrays:
    rng = np.random.default_rng(seed)
    job, pool = len(JOB_NAMES), len(POOL_NAMES)
    shapes = {
        "encode.0": (WIDTH, job + pool),
        "encode.1": (WIDTH, WIDTH),
        "context": (WIDTH, 2 * WIDTH + job),
        "choice.0": (WIDTH, 2 * WIDTH),
        "choice.1": (1, WIDTH),
        "rest": (2, WIDTH),
    }
    made = {}
    for name, shape in shapes.items():
        made[f"{name}.weight"] = (scale * rng.standard_normal(shape)).astype(np.float32)
        made[f"{name}.bias"] = (scale * rng.standard_normal(shape[0])).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def planner() -> SemiMarkovPlanner:
    return SemiMarkovPlanner(load_model(SHIPPED), cache_bytes=2_000_000_000)


@settings(max_examples=60)
@given(st.integers(1, 32), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_permuting_pools_permutes_their_scores_for_1_to_32_pools(pools: int, jobs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = PoolNetwork.of(arrays(3))
    job = rng.standard_normal((jobs, len(JOB_NAMES))).astype(np.float32)
    pool = rng.standard_normal((jobs, pools, len(POOL_NAMES))).astype(np.float32)
    scores = network.corrections(Described(job, pool))
    assert scores.shape == (jobs, pools + 2)
    order = rng.permutation(pools)
    swapped = network.corrections(Described(job, np.ascontiguousarray(pool[:, order])))
    np.testing.assert_allclose(swapped[:, :2], scores[:, :2], atol=2e-5)
    np.testing.assert_allclose(swapped[:, 2:], scores[:, 2:][:, order], atol=2e-5)


def test_a_pool_twice_changes_no_score_but_that_of_their_number() -> None:
    """Mean and maximum do not see how often a pool is there."""
    rng = np.random.default_rng(0)
    network = PoolNetwork.of(arrays(4))
    job = rng.standard_normal((2, len(JOB_NAMES))).astype(np.float32)
    pool = rng.standard_normal((2, 1, len(POOL_NAMES))).astype(np.float32)
    one = network.corrections(Described(job, pool))
    many = network.corrections(Described(job, np.repeat(pool, 5, axis=1)))
    np.testing.assert_allclose(many[:, :3], one, atol=1e-5)


@pytest.mark.parametrize("pools", [1, 2, 3])
def test_without_corrections_it_decides_as_the_planner(planner: SemiMarkovPlanner, pools: int) -> None:
    silent = arrays(0)
    for name in ("choice.1", "rest"):
        silent[f"{name}.weight"][:] = 0.0
        silent[f"{name}.bias"][:] = 0.0
    policy = GuidedPools("p", planner, 5.0, (PoolNetwork.of(silent),))
    stack = MarketStack.of([sample_market().select(range(pools))])
    job = DeadlineJob(10 * 3600, 12 * 3600, 720)
    batch = DeadlineBatch.of(stack, job, np.zeros(30, np.int64), np.arange(30) * 100)
    memory, its = policy.reset(30, pools), planner.reset(30, pools)
    while not batch.done.all():
        seen = batch.observe()
        action, memory = policy.act(seen, memory)
        wanted, its = planner.act(seen, its)
        np.testing.assert_array_equal(action[~batch.done], wanted[~batch.done])
        batch.step(action)
    assert not batch.missed.any()


@pytest.mark.parametrize(
    ("pools", "observability"), [(1, "full"), (3, "full"), (3, "occupied"), (7, "probed")]
)
def test_decisions_are_legal_whatever_the_weights_say(
    planner: SemiMarkovPlanner, pools: int, observability: Observability
) -> None:
    policy = GuidedPools("p", planner, 0.0, (PoolNetwork.of(arrays(7, 3.0)),))
    market = sample_market()
    stack = MarketStack.of([market.select([p % len(market.pools) for p in range(pools)])])
    job = DeadlineJob(10 * 3600, 12 * 3600, 720)
    batch = DeadlineBatch.of(stack, job, np.zeros(10, np.int64), np.arange(10) * 150, observability)
    memory = policy.reset(10, pools)
    chosen = set()
    while not batch.done.all():
        seen = batch.observe()
        action, memory = policy.act(seen, memory)
        assert legal_actions(seen)[np.arange(10), action].all()
        chosen |= set(action.tolist())
        batch.step(action)
    assert not batch.missed.any()
    assert chosen - {1}


def permuted(seen: DeadlineObservation, order: np.ndarray) -> DeadlineObservation:
    place = np.concatenate([[0, 1], 2 + np.argsort(order)])
    return DeadlineObservation(
        seen.tick_seconds, seen.work_left, seen.time_left, seen.work_total, seen.time_total,
        place[seen.placement], seen.pending_overhead, seen.unsaved_work, seen.restart_overhead,
        seen.checkpoint_interval, seen.spot_available[:, order], seen.spot_price[:, order],
        seen.on_demand_price,
    )  # fmt: skip


def test_what_is_seen_of_a_pool_does_not_depend_on_its_place(planner: SemiMarkovPlanner) -> None:
    stack = MarketStack.of([sample_market().select(range(3))])
    job = DeadlineJob(10 * 3600, 12 * 3600, 720)
    batch = DeadlineBatch.of(stack, job, np.zeros(20, np.int64), np.arange(20) * 100)
    order = np.array([2, 0, 1])
    memory, other = planner.reset(20, 3), planner.reset(20, 3)
    for _ in range(20):
        seen = batch.observe()
        advice, memory = advise(planner, seen, memory)
        plain = describe(seen, advice)
        turned = permuted(seen, order)
        its, other = advise(planner, turned, other)
        swapped = describe(turned, its)
        np.testing.assert_allclose(swapped.pool, plain.pool[:, order], atol=1e-4)
        np.testing.assert_allclose(swapped.job, plain.job, atol=1e-4)
        some = describe(seen, advice, np.array([3, 11]))
        np.testing.assert_array_equal(some.flat, plain.flat[[3, 11]])
        batch.step(np.where(advice.legal, -plain.gaps, -np.inf).argmax(axis=1))


def test_a_bundle_keeps_the_decisions(planner: SemiMarkovPlanner, tmp_path: Path) -> None:
    members = [arrays(1), arrays(2)]
    policy = GuidedPools("net", planner, 2.0, tuple(PoolNetwork.of(each) for each in members))
    parameters, weights = bundle_parts(planner.model, 2.0, members)
    manifest = BundleManifest.model_validate(
        {
            "name": "net",
            "kind": "deadline",
            "algorithm": ALGORITHM,
            "feature_names": list(FEATURE_NAMES),
            "parameters": parameters,
        }
    )
    path = tmp_path / "net.policy"
    write_bundle(path, manifest, weights)
    loaded = load_policy(path)
    stack = MarketStack.of([sample_market().select(range(3))])
    job = DeadlineJob(10 * 3600, 12 * 3600, 720)
    batch = DeadlineBatch.of(stack, job, np.zeros(20, np.int64), np.arange(20) * 100)
    memory, its = policy.reset(20, 3), loaded.reset(20, 3)
    for _ in range(15):
        seen = batch.observe()
        action, memory = policy.act(seen, memory)
        same, its = loaded.act(seen, its)
        np.testing.assert_array_equal(same, action)
        batch.step(action)


@pytest.mark.parametrize("fault", ["missing", "shape", "nan", "left over"])
def test_arrays_that_do_not_fit_are_refused(fault: str) -> None:
    wrong = arrays(0)
    if fault == "missing":
        del wrong["rest.bias"]
    elif fault == "shape":
        wrong["encode.0.weight"] = wrong["encode.0.weight"][:, :-1]
    elif fault == "nan":
        wrong["choice.0.bias"][0] = np.nan
    else:
        wrong["extra"] = np.zeros(1, np.float32)
    with pytest.raises(InputError, match="net"):
        PoolNetwork.of(wrong, "net")
