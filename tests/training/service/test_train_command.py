"""`spotwise train --workload service` as a user runs it, and what can be done with its bundle."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from optimizer.presets import find_config
from simulator.market import Market, Pool
from training.service.train_config import ServiceTrainingConfig, load_service_config

ROOT = Path(__file__).resolve().parents[3]
CONFIG = """
name: tiny
episodes: {ticks: 60, demand: [1, 4], cold_start_ticks: [1, 4]}
ppo: {total_steps: 96, environments: 4, rollout_steps: 12, batch_size: 24, layers: [8]}
evaluation: {every_steps: 48, episodes: 4}
"""
GATE = """
targets: [0.9, 0.999]
baselines: [{name: on-demand, cheaper_by: -1}]
weeks_met: 0
decision_us: 1000000
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("train")
    (path / "tiny.yaml").write_text(CONFIG)
    (path / "gate.yaml").write_text(GATE)
    rng = np.random.default_rng(0)
    for name, samples, tick in (("m.npz", 80, 30), ("week.npz", 1008, 60)):
        Market.build(
            [Pool("aws", "r", f"z{p}", "t") for p in range(3)], tick_seconds=tick,
            start=datetime(2024, 1, 1, tzinfo=UTC), spot_price=1.0,
            spot_capacity=np.repeat(rng.integers(0, 5, (3, samples)), 10, axis=1), on_demand_price=3.0,
        ).save(path / name)  # fmt: skip
    return path


def spotwise(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "optimizer.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return spotwise(folder, "train", "--workload", "service", "-c", "tiny.yaml", "-m", "m.npz", *arguments)


def test_trains_tracks_and_writes_a_bundle_to_evaluate_and_promote(folder: Path) -> None:
    done = train(folder, "--seed", "3", "--tracking-uri", "sqlite:///m.db", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["steps"] == 96
    assert result["bundle"] == "runs/tiny-seed3/tiny.policy"
    database = sqlite3.connect(folder / "m.db")
    assert database.execute("select run_uuid, status from runs").fetchall() == [(result["run"], "FINISHED")]
    noted = {key for (key,) in database.execute("select distinct key from metrics").fetchall()}
    database.close()
    assert {"rollout/gain", "evaluation/gain", "evaluation/corrected"} <= noted
    replayed = spotwise(
        folder, "evaluate", "--workload", "service", "-m", "m.npz", "--window-hours", "3", "--demand", "2",
        "--policy", result["bundle"], "--no-bound", "--json",
    )  # fmt: skip
    assert replayed.returncode == 0, replayed.stderr
    assert 0.0 < json.loads(replayed.stdout)["policies"][result["bundle"]]["availability"]["mean"] <= 1.0
    promoted = spotwise(
        folder, "promote", "--workload", "service", result["bundle"], "-m", "week.npz", "--gate", "gate.yaml",
        "--out", "champion.policy",
    )  # fmt: skip
    assert promoted.returncode == 0, promoted.stdout + promoted.stderr
    assert (folder / "champion.policy").is_file()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("layers", "layer", "line 4, field ppo.layer"),
        ("demand: [1, 4]", "demand: [4, 1]", "field episodes"),
        ("every_steps", "often", "line 5, field evaluation.often"),
    ],
)
def test_bad_settings_exit_with_two_and_name_the_line(folder: Path, old: str, new: str, message: str) -> None:
    (folder / "tiny.yaml").write_text(CONFIG.replace(old, new))
    try:
        done = train(folder, "--tracking-uri", "none", "--out", "bad")
    finally:
        (folder / "tiny.yaml").write_text(CONFIG)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_another_workload_is_refused(folder: Path) -> None:
    done = spotwise(folder, "train", "--workload", "batch", "-c", "tiny.yaml", "-m", "m.npz")
    assert done.returncode == 2
    assert "accepted: deadline, service" in done.stderr


def test_the_shipped_configuration_says_what_the_defaults_are() -> None:
    shipped = load_service_config(find_config(ROOT / "configs/service.yaml"))
    assert shipped.ppo.averaging == 0.9
    plain = ServiceTrainingConfig()
    assert shipped.model_copy(update={"ppo": plain.ppo}) == plain
