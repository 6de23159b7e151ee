"""A bundle becomes a policy that decides by its network, alone as in a batch, and only legally."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydantic import JsonValue

from policies.bundle import BundleManifest, write_bundle
from policies.features import RICH
from policies.learned import ALGORITHM, network_arrays
from policies.registry import load_policy
from policies.shield import legal_actions
from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.observation import DeadlineObservation
from simulator.errors import InputError
from simulator.market import sample_market


def layers(seed: int, outputs: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    sizes = [RICH.size, 8, outputs]
    return [
        (rng.normal(size=(after, before)).astype(np.float32), rng.normal(size=after).astype(np.float32))
        for before, after in pairwise(sizes)
    ]


def bundle(
    path: Path, weights: dict[str, np.ndarray], names: tuple[str, ...] = RICH.names, **more: int
) -> Path:
    parameters: dict[str, JsonValue] = {"features": RICH.name, "activation": "tanh", **more}
    manifest = BundleManifest(
        name="small", kind="deadline", algorithm=ALGORITHM, feature_names=list(names), parameters=parameters
    )
    write_bundle(path, manifest, weights)
    return path


def batch(pools: list[int], jobs: int = 6) -> DeadlineBatch:
    stack = MarketStack.of([sample_market().select(pools)])
    job = DeadlineJob(10 * 3600.0, 12 * 3600.0, 720.0)
    return DeadlineBatch.of(stack, job, np.zeros(jobs, np.int64), np.arange(jobs) * 97)


def one(seen: DeadlineObservation, i: int) -> DeadlineObservation:
    values = {name: getattr(seen, name)[i : i + 1] for name in seen.__slots__ if name != "tick_seconds"}
    return DeadlineObservation(tick_seconds=seen.tick_seconds, **values)


@pytest.mark.parametrize("pools", [[0], [0, 3, 5]])
def test_decides_legally_and_alone_as_in_a_batch(tmp_path: Path, pools: list[int]) -> None:
    policy = load_policy(bundle(tmp_path / "small.policy", network_arrays(layers(0)))).policy
    jobs = batch(pools)
    memory = policy.reset(jobs.size, len(pools))
    alone = [policy.reset(1, len(pools)) for _ in range(jobs.size)]
    chosen = set()
    while not jobs.done.any():
        seen = jobs.observe()
        action, memory = policy.act(seen, memory)
        assert legal_actions(seen)[np.arange(jobs.size), action].all()
        for i in range(jobs.size):
            single, alone[i] = policy.act(one(seen, i), alone[i])
            assert single[0] == action[i]
        chosen |= set(action.tolist())
        jobs.step(action)
    assert len(chosen) > 1


def test_several_members_decide_by_their_mean(tmp_path: Path) -> None:
    members = [network_arrays(layers(seed)) for seed in range(3)]
    weights = {f"member.{k}.{name}": a for k, arrays in enumerate(members) for name, a in arrays.items()}
    ensemble = load_policy(bundle(tmp_path / "e.policy", weights, members=3)).policy
    singles = [
        load_policy(bundle(tmp_path / f"{k}.policy", arrays)).policy for k, arrays in enumerate(members)
    ]
    features = np.random.default_rng(1).normal(size=(4, RICH.size)).astype(np.float32)
    mean = np.mean([single.scores(features) for single in singles], axis=0)  # type: ignore[attr-defined] # a NetworkPolicy
    np.testing.assert_allclose(ensemble.scores(features), mean, rtol=1e-5)  # type: ignore[attr-defined] # a NetworkPolicy


def test_other_features_are_refused(tmp_path: Path) -> None:
    path = bundle(tmp_path / "small.policy", network_arrays(layers(0)), names=RICH.names[::-1])
    with pytest.raises(InputError, match="train it again"):
        load_policy(path)


def test_a_network_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = bundle(tmp_path / "small.policy", network_arrays(layers(0, outputs=4)))
    with pytest.raises(InputError, match="46 inputs and 4 outputs"):
        load_policy(path)
