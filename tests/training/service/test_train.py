"""Training for services: what is learned starts at the planner and decides in production as it did here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.bundle import read_bundle
from policies.registry import load_policy
from policies.service.residual import OPTIONS, ResidualPlanner
from simulator.errors import InputError, SpotwiseError
from simulator.market import Market, Pool
from training.checkpoint import CHECKPOINT, load_checkpoint
from training.data import Data
from training.service.train import ServiceProgress, ServiceTrainer
from training.service.train_config import (
    EpisodeSettings,
    ServiceEvaluationSettings,
    ServicePPOSettings,
    ServiceTrainingConfig,
)
from training.tracking import Status

STEPS_PER_ROLLOUT = 4 * 12


def market() -> Market:
    rng = np.random.default_rng(0)
    return Market.build(
        [Pool("aws", "r", f"z{p}", "t") for p in range(3)], tick_seconds=30,
        start=datetime(2024, 1, 1, tzinfo=UTC), spot_price=1.0,
        spot_capacity=np.repeat(rng.integers(0, 5, (3, 80)), 10, axis=1), on_demand_price=3.0,
    )  # fmt: skip


def config(**ppo: float) -> ServiceTrainingConfig:
    settings = {"total_steps": 4 * STEPS_PER_ROLLOUT, "environments": 4, "rollout_steps": 12, **ppo}
    return ServiceTrainingConfig(
        name="small",
        episodes=EpisodeSettings(ticks=60, demand=(1, 4), cold_start_ticks=(1, 5)),
        ppo=ServicePPOSettings.model_validate({"batch_size": 24, "epochs": 1, "layers": (8,), **settings}),
        evaluation=ServiceEvaluationSettings(every_steps=STEPS_PER_ROLLOUT, episodes=4),
        checkpoint_every_rollouts=1,
    )


def trainer(out: Path, seed: int = 0, **ppo: float) -> ServiceTrainer:
    return ServiceTrainer(config(**ppo), Data([market()], {"m.npz": "0" * 64}), out, seed=seed)


class Notes:
    """A tracker that remembers."""

    def __init__(self, fails_at: int = 10**9) -> None:
        self.steps: list[int] = []
        self.status: Status | None = None
        self.parameters: Mapping[str, Any] = {}
        self.bundles: list[Path] = []
        self.fails_at = fails_at

    def begin(
        self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str], run: str | None
    ) -> str:
        self.parameters = {"name": name, **parameters, **tags}
        return run or "a-run"

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        assert all(np.isfinite(value) for value in values.values())
        self.steps.append(step)
        if len(self.steps) >= self.fails_at:
            raise KeyboardInterrupt

    def bundle(self, path: Path, registered_model: str) -> str:
        self.bundles.append(path)
        return "1"

    def end(self, status: Status) -> None:
        self.status = status


def test_before_the_first_update_the_network_is_the_planner_and_torch_agrees_with_numpy(
    tmp_path: Path,
) -> None:
    made = trainer(tmp_path)
    seen = made.env.reset()
    np.testing.assert_array_equal(made.policy().choices(seen), seen[:, :OPTIONS].argmin(axis=1))
    with torch.no_grad():
        made.agent.policy.state_dict()["action_net.linear.weight"].normal_(0.0, 5.0)
    drawn = np.random.default_rng(0).uniform(0, 3, (200, seen.shape[1])).astype(np.float32)
    weights = {name: tensor.numpy() for name, tensor in made.agent.policy.state_dict().items()}
    mine = made.policy(weights).choices(drawn)
    np.testing.assert_array_equal(mine, made.agent.predict(drawn, deterministic=True)[0])
    assert (mine != drawn[:, :OPTIONS].argmin(axis=1)).any()


def test_a_run_ends_with_a_bundle_that_decides_as_the_best_network(tmp_path: Path) -> None:
    notes, seen = Notes(), list[ServiceProgress]()
    made = ServiceTrainer(
        config(learning_rate=0.05), Data([market()], {"m.npz": "0" * 64}), tmp_path, tracker=notes,
        watch=seen.append,
    )  # fmt: skip
    trained = made.run()
    loaded = load_policy(trained.bundle, "service")
    assert isinstance(loaded, ResidualPlanner)
    drawn = np.random.default_rng(0).uniform(0, 3, (200, 39)).astype(np.float32)
    best = made.policy(made.best_weights)
    np.testing.assert_array_equal(loaded.choices(drawn), best.choices(drawn))
    assert loaded.planner.settings == made.planner.settings
    assert trained.score == made.best
    manifest = read_bundle(trained.bundle).manifest
    assert manifest.evaluation[0]["gain"] == trained.score.gain
    assert manifest.data_sha256 == {"m.npz": "0" * 64}
    assert notes.bundles == [trained.bundle]
    assert notes.status == "FINISHED"
    assert notes.parameters["seed"] == 0
    assert [each.steps for each in seen] == [48, 96, 144, 192] == notes.steps
    with pytest.raises(InputError, match="finished"):
        trainer(tmp_path, learning_rate=0.05).run(resume=True)


def test_the_same_seed_gives_the_same_bundle_and_another_seed_another(tmp_path: Path) -> None:
    digests = [trainer(tmp_path / name, seed).run().sha256 for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert digests[0] == digests[1] != digests[2]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.tracker = notes = Notes(fails_at=2)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert notes.status == "KILLED"
    kept = load_checkpoint(tmp_path / CHECKPOINT)
    assert kept.note["steps"] == 2 * STEPS_PER_ROLLOUT
    with pytest.raises(InputError, match="--resume"):
        trainer(tmp_path).run()
    with pytest.raises(InputError, match="seed"):
        trainer(tmp_path, seed=1).run(resume=True)
    again = trainer(tmp_path)
    again.tracker = resumed = Notes()
    assert again.run(resume=True).steps == 4 * STEPS_PER_ROLLOUT
    assert resumed.steps == [3 * STEPS_PER_ROLLOUT, 4 * STEPS_PER_ROLLOUT]


def test_weights_that_are_not_finite_end_the_run(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    with torch.no_grad():
        made.agent.policy.value_net.weight.fill_(np.nan)
    with pytest.raises(SpotwiseError, match="diverged"):
        made.run()
    assert not (tmp_path / CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"planner": "spothedge-1"}, "accepted: a look-ahead planner"),
        ({"planner": "nobody"}, "no service policy"),
        ({"episodes": EpisodeSettings(ticks=55, cold_start_ticks=(1, 5))}, "multiple of 10"),
        ({"episodes": EpisodeSettings(ticks=700)}, "longer markets"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ServiceTrainer(config().model_copy(update=change), Data([market()]), tmp_path)


def test_the_evaluation_does_not_depend_on_the_seed_of_the_run(tmp_path: Path) -> None:
    scores = []
    settings = config().model_copy(
        update={"episodes": EpisodeSettings(ticks=60, demand=(1, 4), cold_start_ticks=(1, 5), weight=(3, 3))}
    )
    for seed in (0, 1):
        made = ServiceTrainer(settings, Data([market()]), tmp_path / str(seed), seed=seed)
        with torch.no_grad():
            made.agent.policy.state_dict()["action_net.linear.bias"][OPTIONS - 1] = 100.0
        made._evaluate()
        scores.append(made.score)
    assert scores[0] is not None
    assert scores[0] == scores[1]
    assert (scores[0].episodes, scores[0].corrected) == (4, 1.0)
    assert scores[0].gain < 0.0, "three spares and everything in reserve, always, where shortages cost little"
