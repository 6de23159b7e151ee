"""The planner with a network on top: as in training, and from a bundle that may be anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.series import EpisodeMarkets
from envs.service_episodes import ServiceRange
from envs.service_planner_vec_env import ServicePlannerVecEnv
from envs.service_series import service_markets
from policies.bundle import BundleManifest, write_bundle
from policies.learned import network_arrays
from policies.network import Network
from policies.registry import load_policy
from policies.service import LookAhead
from policies.service.lookahead.fit import load_survival
from policies.service.residual import FEATURE_NAMES, OPTIONS, Advice, ResidualPlanner
from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.service import Service, ServiceBatch

WEIGHT = 40.0
PLANNER = LookAhead(load_survival(), weight=WEIGHT)
EPISODES = ServiceRange(
    ticks=200, demand=(1.0, 6.0), cold_start_ticks=(1.0, 6.0), weight=(WEIGHT, WEIGHT), on_demand_ratio=None
)


def layers(scale: float, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def layer(outputs: int, inputs: int) -> tuple[Any, Any]:
        return (
            rng.normal(size=(outputs, inputs)).astype(np.float32),
            np.zeros(outputs, np.float32),
        )

    hidden, (weight, bias) = layer(16, len(FEATURE_NAMES)), layer(OPTIONS, 16)
    return network_arrays([hidden, (np.float32(scale) * weight, bias)])


def residual(scale: float) -> ResidualPlanner:
    return ResidualPlanner(PLANNER, Network.of(layers(scale), activation="tanh"))


def markets(pools: int = 3) -> EpisodeMarkets:
    rng = np.random.default_rng(0)
    market = Market.build(
        [Pool("aws", f"r{p % 2}", f"z{p}", "t") for p in range(pools)],
        tick_seconds=30,
        start=datetime(2024, 1, 1, tzinfo=UTC),
        spot_price=rng.uniform(0.5, 1.5, (pools, 1)),
        spot_capacity=np.repeat(rng.integers(0, 5, (pools, 60)), 10, axis=1),
        on_demand_price=3.0,
    )
    return service_markets([market], variants=2)


def alone(venv: ServicePlannerVecEnv, prepared: EpisodeMarkets, row: int) -> ServiceBatch:
    """The episode of one environment, played by itself."""
    batch = venv.world.batch
    service = Service.of(
        batch.demand[row], tick_seconds=30, cold_start_seconds=30 * int(batch.cold_start[row])
    )
    played = ServiceBatch(prepared.stack, service, batch.market[[row]], batch.start[[row]])
    played.spot_scale[:] = batch.spot_scale[[row]]
    return played


@pytest.mark.parametrize("row", [0, 3])
def test_production_asks_tick_for_tick_what_training_did(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, prepared = residual(5.0), markets()
    venv = ServicePlannerVecEnv(prepared, 4, PLANNER, services=EPISODES, seed=1)
    seen = venv.reset()
    asked: list[np.ndarray] = []
    step = venv.world.step

    def spy(counts: Any) -> Any:
        asked.append(counts.copy())
        return step(counts)

    monkeypatch.setattr(venv.world, "step", spy)
    played = alone(venv, prepared, row)
    memory, chosen = policy.reset(1, 3), 0
    for _ in range(20):
        options = policy.choices(seen)
        chosen += int((options != seen[:, :OPTIONS].argmin(axis=1)).sum())
        venv.step_async(options)
        seen, *_ = venv.step_wait()
    for tick in range(200):
        mine, memory = policy.act(played.observe(), memory)
        np.testing.assert_array_equal(mine[0], asked[tick][row])
        played.step(mine)
    assert chosen > 10, "the network never differed from the planner"


def test_a_network_of_zeros_is_the_planner() -> None:
    prepared = markets()
    venv = ServicePlannerVecEnv(prepared, 8, PLANNER, services=EPISODES, against_planner=True, seed=2)
    policy, seen, total = residual(0.0), venv.reset(), np.zeros(8)
    for _ in range(20):
        venv.step_async(policy.choices(seen))
        seen, reward, *_ = venv.step_wait()
        total += np.abs(reward)
    # An option with spares always has spot; the planner may have none, so at times a little differs.
    assert np.median(total) == 0.0


def test_services_that_began_at_different_times_do_not_disturb_one_another() -> None:
    policy, prepared = residual(5.0), markets()
    planner = dataclasses.replace(PLANNER, weight=None)
    policy = dataclasses.replace(policy, planner=planner)
    venv = ServicePlannerVecEnv(prepared, 2, PLANNER, services=EPISODES, seed=3)
    venv.reset()
    batches = [alone(venv, prepared, row) for row in (0, 1)]
    memories: list[Any] = [policy.reset(1, 3), policy.reset(1, 3)]
    for _ in range(7):  # the first is seven ticks ahead
        asked, memories[0] = policy.act(batches[0].observe(), memories[0])
        batches[0].step(asked)
    for _ in range(40):
        seen = [batch.observe() for batch in batches]
        both = type(seen[0])(
            30.0,
            **{
                field.name: np.concatenate([getattr(each, field.name) for each in seen])
                for field in dataclasses.fields(seen[0])
                if field.name != "tick_seconds"
            },
        )
        joined = {name: np.concatenate([memories[0][name], memories[1][name]]) for name in memories[0]}
        together, _ = policy.act(both, joined)
        for row, batch in enumerate(batches):
            asked, memories[row] = policy.act(seen[row], memories[row])
            np.testing.assert_array_equal(asked[0], together[row])
            batch.step(asked)


def write(path: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], object]) -> Path:
    curve = load_survival()
    settings = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(PLANNER.settings).items()
    }
    parameters: dict[str, Any] = {
        "planner": settings, "bonus": 3.0, "guidance": 10.0, "activation": "tanh",
    }  # fmt: skip
    weights = {"edges": curve.edges, "rates": curve.rates, **layers(5.0)}
    change(parameters, weights)
    names = parameters.pop("feature_names", list(FEATURE_NAMES))
    manifest = BundleManifest(
        name="made", kind="service", algorithm="service-residual", feature_names=names, parameters=parameters
    )
    write_bundle(path, manifest, weights)
    return path


def test_a_bundle_decides_as_what_was_written(tmp_path: Path) -> None:
    loaded = load_policy(write(tmp_path / "m.policy", lambda parameters, weights: None), "service")
    assert isinstance(loaded, ResidualPlanner)
    assert loaded.name == "made"
    features = np.random.default_rng(0).uniform(0, 2, (50, len(FEATURE_NAMES))).astype(np.float32)
    np.testing.assert_array_equal(loaded.choices(features), residual(5.0).choices(features))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, w: w.pop("edges"), "accepted: edges, rates"),
        (lambda p, w: w.update(rates=w["rates"][:-1]), "survival"),
        (lambda p, w: w.update(rates=-w["rates"]), "above 0"),
        (lambda p, w: w.update(extra=np.zeros(3)), "belong to no layer"),
        (lambda p, w: w.pop("head.policy.bias"), "is missing"),
        (lambda p, w: w.update({"trunk.0.weight": w["trunk.0.weight"][:, :-1].copy()}), "38 inputs"),
        (lambda p, w: w["trunk.0.weight"].fill(np.nan), "not finite"),
        (
            lambda p, w: w.update(
                {"head.policy.weight": np.zeros((3, 16), "f"), "head.policy.bias": np.zeros(3, "f")}
            ),
            "3 outputs",
        ),
        (lambda p, w: p.update(bonus="high"), "bonus"),
        (lambda p, w: p.update(guidance=-1.0), "guidance"),
        (lambda p, w: p.update(guidance=True), "guidance"),
        (lambda p, w: p.pop("bonus"), "accepted: planner, bonus"),
        (lambda p, w: p.update(activation="sigmoid"), "activation"),
        (lambda p, w: p.update(planner=3), "mapping"),
        (lambda p, w: p["planner"].update(own_prior=-1.0), "own_prior"),
        (lambda p, w: p["planner"].update(deeper_prior=[1.0, 1.0, 1.0]), "deeper_prior"),
        (lambda p, w: p["planner"].update(unknown=1.0), "unknown"),
        (lambda p, w: p.update(feature_names=["gap_0_0"]), "features differ"),
    ],
)  # fmt: skip
def test_a_bad_bundle_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_policy(write(tmp_path / "bad.policy", change), "service")


def test_advice_prefers_the_planners_choice_and_then_what_it_likes_nearly_as_well() -> None:
    features = np.zeros((1, len(FEATURE_NAMES)), np.float32)
    features[0, :OPTIONS] = np.linspace(0.0, 1.9, OPTIONS)
    scores = Advice(bonus=3.0, guidance=10.0).scores(features)[0]
    np.testing.assert_allclose(scores, -10.0 * features[0, :OPTIONS] + 3.0 * (np.arange(OPTIONS) == 0))
