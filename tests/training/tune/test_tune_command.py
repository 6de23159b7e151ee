"""`spotwise tune` as a user runs it: processes, Ray, Ctrl-C, what MLflow holds."""

import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulator.sample_data import sample_path
from training.config import load_config

ROOT = Path(__file__).resolve().parents[3]
CONFIG = """
name: tiny
jobs: [{work_hours: [2, 6], deadline_ratio: [1.1, 2.0]}]
ppo: {total_steps: 4096, environments: 16, rollout_steps: 32, batch_size: 128, layers: [8]}
evaluation: {every_steps: 2048, stride_hours: 100, jobs: [{work_hours: 4, deadline_hours: 6}]}
checkpoint_every_rollouts: 4
"""
SPACE = """
trials: 3
steps: STEPS
evaluations: 2
startup_trials: 5
parameters:
  ppo.learning_rate: {log_uniform: [0.0001, 0.01]}
  ppo.layers: {categorical: [[8], [16]]}
"""


def start(folder: Path, *options: str, steps: int = 2048) -> "subprocess.Popen[str]":
    (folder / "tiny.yaml").write_text(CONFIG)
    (folder / "space.yaml").write_text(SPACE.replace("STEPS", str(steps)))
    command = [
        sys.executable,
        "-m",
        "optimizer.cli",
        "tune",
        "--config",
        "tiny.yaml",
        "--space",
        "space.yaml",
    ]
    return subprocess.Popen(
        [*command, "--market", str(sample_path("v100")), *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_leaves_a_study_that_goes_on_from_its_checkpoints(tmp_path: Path) -> None:
    process = start(
        tmp_path, "--tracking-uri", "sqlite:///m.db", "--no-progress", "--jobs", "2", steps=30_000
    )
    trials = tmp_path / "runs" / "tiny-tune" / "trials"
    until = time.monotonic() + 150
    while not list(trials.glob("*/checkpoint.safetensors")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "--resume --out runs/tiny-tune" in err
    assert "Traceback" not in err
    checkpoints = list(trials.glob("*/checkpoint.safetensors"))
    assert checkpoints
    options = ("--tracking-uri", "sqlite:///m.db", "--json", "--resume")
    out, err = (process := start(tmp_path, *options, steps=30_000)).communicate(timeout=200)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert (found["complete"], found["pruned"], found["failed"]) == (3, 0, 0)
    assert load_config(tmp_path / found["configuration"]).ppo.learning_rate == pytest.approx(
        found["parameters"]["ppo.learning_rate"]
    )
    assert not list(trials.glob("*/*"))
    with sqlite3.connect(tmp_path / "m.db") as database:
        parents = database.execute(
            "select r.name, r.status, p.value from runs r left join tags p "
            "on p.run_uuid = r.run_uuid and p.key = 'mlflow.parentRunId'"
        ).fetchall()
        scores = database.execute("select count(*) from metrics where key = 'gap_closed'").fetchone()
    database.close()
    trial_names = [f"tiny-trial{number}" for number in range(3)]
    assert sorted(parents, key=str) == sorted(
        [("tiny-tune", "FINISHED", None), *((name, "FINISHED", found["run"]) for name in trial_names)],
        key=str,
    )
    assert scores[0] == 6


def test_bad_input_exits_with_two_and_without_a_traceback(tmp_path: Path) -> None:
    _, err = (process := start(tmp_path, "--backend", "slurm")).communicate(timeout=100)
    assert process.returncode == 2
    assert "accepted: local, ray" in err
    assert "Traceback" not in err


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_local_ray_cluster_finds_what_processes_find(tmp_path: Path) -> None:
    assert importlib.util.find_spec("ray"), "make ray-tests installs Ray"
    results = []
    for backend in ("local", "ray"):
        options = ("--tracking-uri", "none", "--json", "--backend", backend, "--out", backend)
        out, err = (process := start(tmp_path, *options)).communicate(timeout=280)
        assert process.returncode == 0, err
        results.append(json.loads(out))
    for name in ("number", "score", "parameters", "complete", "pruned", "failed"):
        assert results[0][name] == results[1][name]


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_ctrl_c_on_ray_leaves_checkpoints_and_goes_on(tmp_path: Path) -> None:
    options = ("--tracking-uri", "none", "--no-progress", "--backend", "ray", "--jobs", "2")
    process = start(tmp_path, *options, steps=30_000)
    trials = tmp_path / "runs" / "tiny-tune" / "trials"
    until = time.monotonic() + 200
    while not list(trials.glob("*/checkpoint.safetensors")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    out, err = (process := start(tmp_path, *options, "--resume", "--json", steps=30_000)).communicate(
        timeout=280
    )
    assert process.returncode == 0, err
    assert json.loads(out)["complete"] == 3
