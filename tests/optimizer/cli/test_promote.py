"""`spotwise promote` as a user types it."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from policies.bundle import BundleManifest, read_bundle, write_bundle
from policies.guided import ALGORITHM
from policies.guided.policy import FEATURE_NAMES, bundle_parts
from policies.learned import network_arrays
from policies.planner import SemiMarkovPlanner
from simulator.market import sample_market
from simulator.synthetic import load_model
from training.champion.jobs import trained_range

GATE = """
variants:
  - {work_hours: 20, deadline_hours: 26, restart_overhead_minutes: 6}
resamples: 200
decision_us_p99: 100000
"""


def spotwise(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[3]
    return subprocess.run(
        [sys.executable, "-m", "optimizer.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    zero = network_arrays([(np.zeros((3, len(FEATURE_NAMES)), np.float32), np.zeros(3, np.float32))])
    parameters, weights = bundle_parts(SemiMarkovPlanner(load_model()), 5.0, trained_range(600), [zero])
    manifest = BundleManifest.model_validate(
        {
            "name": "candidate",
            "kind": "deadline",
            "algorithm": ALGORITHM,
            "feature_names": list(FEATURE_NAMES),
            "parameters": parameters,
        }
    )
    write_bundle(tmp_path / "candidate.policy", manifest, weights)
    sample_market("v100-unseen").window(0, 2500).save(tmp_path / "m.npz")
    (tmp_path / "gate.yaml").write_text(GATE)
    return tmp_path


def test_a_good_policy_is_promoted_with_its_table_and_alias(folder: Path) -> None:
    done = spotwise(
        "promote", "candidate.policy", "-m", "m.npz", "--gate", "gate.yaml", "-o", "best.policy", "--json",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert report["saving"]["ci95"][0] > 0
    bundle = read_bundle(folder / "best.policy", "deadline")
    assert bundle.manifest.name == "deadline-champion"
    assert bundle.manifest.evaluation[0]["missed_deadlines"] == 0
    assert bundle.manifest.evaluation[0]["cost_usd"] == report["variants"][0]["cost_usd"]
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    version = client.get_model_version_by_alias("deadline-champion", "champion")
    assert str(version.version) == report["model_version"]


def test_a_policy_that_fails_is_a_challenger_and_nothing_is_written(folder: Path) -> None:
    (folder / "gate.yaml").write_text(GATE.replace("decision_us_p99: 100000", "decision_us_p99: 0.5"))
    done = spotwise(
        "promote", "candidate.policy", "-m", "m.npz", "--gate", "gate.yaml", "-o", "best.policy",
        "--tracking-uri", "none", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 1
    assert "FAIL  one decision" in done.stdout
    assert "not promoted" in done.stderr
    assert not (folder / "best.policy").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.policy", "-m", "m.npz"), "none.policy"),
        (("m.npz", "-m", "m.npz"), "accepted: manifest.json and weights.safetensors"),
        (("candidate.policy", "-m", "none.npz"), "no such file"),
        (("candidate.policy", "-m", "m.npz", "--gate", "bad.yaml"), "resample"),
    ],
)
def test_bad_input_is_explained(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    (folder / "bad.yaml").write_text("resample: 3\n")
    done = spotwise("promote", *arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_market_it_was_trained_on_is_no_evidence(folder: Path) -> None:
    bundle = read_bundle(folder / "candidate.policy", "deadline")
    digest = hashlib.sha256((folder / "m.npz").read_bytes()).hexdigest()
    manifest = bundle.manifest.model_copy(update={"data_sha256": {"m.npz": digest}})
    write_bundle(folder / "trained.policy", manifest, bundle.weights)
    done = spotwise("promote", "trained.policy", "-m", "m.npz", cwd=folder)
    assert done.returncode == 2
    assert "was trained on this file" in done.stderr
