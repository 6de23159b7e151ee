"""`spotwise train` as a user runs it: exit codes, what is written, Ctrl-C."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from policies.registry import load_policy
from simulator.sample_data import sample_path
from training.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
name: tiny
jobs: [{work_hours: [2, 6], deadline_ratio: [1.1, 2.0]}]
ppo: {total_steps: 4096, environments: 16, rollout_steps: 32, batch_size: 128, layers: [8]}
evaluation: {every_steps: 2048, stride_hours: 100, jobs: [{work_hours: 4, deadline_hours: 6}]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path


def start(folder: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "optimizer.cli", "train", "--config", "tiny.yaml", "--market"]
    return subprocess.Popen(
        [*command, str(sample_path("v100")), *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_trains_and_writes_a_bundle_that_loads(folder: Path) -> None:
    out, err = (process := start(folder, "--tracking-uri", "none", "--json")).communicate(timeout=120)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["steps"] == 4096
    assert result["missed_deadlines"] == 0
    assert load_policy(folder / result["bundle"]).name == "tiny"
    out, err = (process := start(folder, "--tracking-uri", "none", "--resume")).communicate(timeout=120)
    assert process.returncode == 2
    assert "finished" in err


def test_bad_input_exits_with_two_and_without_a_traceback(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(CONFIG.replace("layers", "layer"))
    _, err = (process := start(folder, "--tracking-uri", "none")).communicate(timeout=120)
    assert process.returncode == 2
    assert "tiny.yaml, line 4, field ppo.layer" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_and_ends_the_mlflow_run_as_killed(
    folder: Path, number: signal.Signals
) -> None:
    options = ("--tracking-uri", "sqlite:///m.db", "--no-progress", "--total-steps", "100000000")
    process = start(folder, *options)
    checkpoint = folder / "runs" / "tiny-seed0" / "checkpoint.safetensors"
    until = time.monotonic() + 100
    while not checkpoint.exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "--resume" in err
    assert "Traceback" not in err
    note = load_checkpoint(checkpoint).note
    assert not note["finished"]
    # the database itself is asked: importing MLflow takes long

    with sqlite3.connect(folder / "m.db") as database:
        assert database.execute("select run_uuid, status from runs").fetchall() == [(note["run"], "KILLED")]
    database.close()
