"""A run can be stopped and gone on with to the bit; what it writes decides as what was trained."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from policies.bundle import read_bundle
from policies.learned import NetworkPolicy
from policies.registry import load_policy
from simulator.errors import InputError, SpotwiseError
from simulator.market import sample_market
from training.checkpoint import CHECKPOINT, Checkpoint, load_checkpoint, save_checkpoint
from training.config import (
    EvaluationJob,
    EvaluationSettings,
    JobSettings,
    PPOSettings,
    TrainingConfig,
)
from training.data import Data
from training.held_out import Score
from training.progress import Progress
from training.tracking import MLflowTracker, NoTracker, TrackingError
from training.trainer import Trainer

ROLLOUTS = 8


def small_config(**ppo: float) -> TrainingConfig:
    """A run of eight short rollouts over short jobs."""
    settings = {"total_steps": 8 * 16 * ROLLOUTS, "environments": 8, "rollout_steps": 16, "batch_size": 64}
    return TrainingConfig(
        name="small",
        jobs=(
            JobSettings(work_hours=(2.0, 6.0), deadline_ratio=(1.1, 2.0), restart_overhead_minutes=(0, 12)),
        ),
        ppo=PPOSettings.model_validate({**settings, "layers": (16,), "epochs": 2, "averaging": 0.5, **ppo}),
        evaluation=EvaluationSettings(
            every_steps=256,
            stride_hours=200.0,
            jobs=(EvaluationJob(work_hours=4.0, deadline_hours=5.0, restart_overhead_minutes=6.0),),
        ),
        checkpoint_every_rollouts=2,
    )


def data() -> Data:
    return Data([sample_market().select([0, 1])], {"sample.npz": "0" * 64})


def weights(path: Path) -> dict[str, np.ndarray]:
    return {
        **load_checkpoint(path / CHECKPOINT).part("policy"),
        **load_checkpoint(path / CHECKPOINT).part("best"),
    }


class Stop(BaseCallback):
    """Ends a run as a crash would, in the middle of a rollout."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def _on_step(self) -> bool:
        if self.num_timesteps == self.at:
            raise RuntimeError("crash")
        return True


class Count(BaseCallback):
    """A callback with state that checkpoints must keep."""

    def __init__(self) -> None:
        super().__init__()
        self.steps_seen = np.zeros(1, np.int64)

    def _on_step(self) -> bool:
        self.steps_seen += 1
        return True

    def state(self) -> dict[str, np.ndarray]:
        return {"steps": self.steps_seen.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.steps_seen = np.array(state["steps"])


def test_the_same_seed_gives_the_same_bundle_and_another_seed_another(tmp_path: Path) -> None:
    trained = [
        Trainer(small_config(), data(), tmp_path / str(k), seed=seed).run()
        for k, seed in enumerate((3, 3, 4))
    ]
    assert trained[0].sha256 == trained[1].sha256 != trained[2].sha256


def test_a_crashed_run_resumed_gives_the_same_weights(tmp_path: Path) -> None:
    whole = Trainer(small_config(), data(), tmp_path / "whole", callbacks=[Count()]).run()
    crashing = Trainer(small_config(), data(), tmp_path / "parts", callbacks=[Count(), Stop(8 * 16 * 5 + 24)])
    with pytest.raises(RuntimeError, match="crash"):
        crashing.run()
    assert load_checkpoint(tmp_path / "parts" / CHECKPOINT).note["rollouts"] == 4
    counting = Count()
    parts = Trainer(small_config(), data(), tmp_path / "parts", callbacks=[counting]).run(resume=True)
    assert parts.sha256 == whole.sha256
    assert parts.score == whole.score
    assert counting.steps_seen[0] == 16 * ROLLOUTS
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.training.test_trainer import ROLLOUTS, data, small_config
from training.trainer import Trainer
def watch(progress):
    print(progress.steps, flush=True)
    if progress.steps >= 8 * 16 * 5:
        time.sleep(0.3)  # leaves time for the signal
try:
    Trainer(small_config(total_steps=8 * 16 * 20), data(), Path(sys.argv[1]), watch=watch).run()
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_resumed_gives_the_same_weights(tmp_path: Path, number: signal.Signals) -> None:
    root = str(Path(__file__).resolve().parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "parts"), root],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=root,
    )
    assert child.stdout is not None
    steps = 0
    while steps < 8 * 16 * 5:
        steps = int(child.stdout.readline())
    child.send_signal(number)
    child.communicate(timeout=60)
    expected = 130 if number == signal.SIGINT else -signal.SIGKILL
    assert child.returncode == expected
    note = load_checkpoint(tmp_path / "parts" / CHECKPOINT).note
    assert not note["finished"]
    assert note["rollouts"] >= (5 if number == signal.SIGINT else 4)
    config = small_config(total_steps=8 * 16 * 20)
    parts = Trainer(config, data(), tmp_path / "parts").run(resume=True)
    assert parts.sha256 == Trainer(config, data(), tmp_path / "whole").run().sha256


def test_bundle_decides_as_the_torch_network(tmp_path: Path) -> None:
    config = small_config(averaging=0.0).model_copy(
        update={"evaluation": small_config().evaluation.model_copy(update={"select": "last"})}
    )
    trainer = Trainer(config, data(), tmp_path)
    bundle = trainer.run().bundle
    policy = load_policy(bundle).policy
    assert isinstance(policy, NetworkPolicy)
    features = trainer.env.reset()
    for _ in range(50):
        masks = trainer.env.action_masks()
        with torch.no_grad():
            latent = trainer.agent.policy.mlp_extractor.forward_actor(torch.from_numpy(features))
            logits = trainer.agent.policy.action_net(latent).numpy()
        scores = policy.scores(features)
        np.testing.assert_allclose(scores, logits, atol=2e-5)
        action, _ = trainer.agent.predict(features, deterministic=True, action_masks=masks)
        np.testing.assert_array_equal(np.where(masks, scores, -np.inf).argmax(1), action)
        trainer.env.step_async(action)
        features = trainer.env.step_wait()[0]
    manifest = read_bundle(bundle).manifest
    assert manifest.data_sha256 == {"sample.npz": "0" * 64}
    assert manifest.training_config["seed"] == 0
    assert manifest.evaluation[0]["missed_deadlines"] == 0


def test_the_best_network_on_held_out_windows_is_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([Score(0.9, 0, 1), Score(0.5, 0, 1), Score(0.4, 1, 1), *[Score(0.7, 0, 1)] * 20])
    kept = []
    trainer = Trainer(small_config(averaging=0.0), data(), tmp_path)

    def score(policy: NetworkPolicy) -> Score:
        kept.append(policy.scores(np.ones((1, policy.features.size), np.float32)))
        return next(scores)

    monkeypatch.setattr(trainer.held_out, "score", score)
    trained = trainer.run()
    assert trained.score == Score(0.5, 0, 1)
    policy = load_policy(trained.bundle).policy
    assert isinstance(policy, NetworkPolicy)
    np.testing.assert_array_equal(policy.scores(np.ones((1, policy.features.size), np.float32)), kept[1])


def test_training_stops_when_the_score_does_not_improve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config()
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"patience": 2})})
    trainer = Trainer(config, data(), tmp_path)
    monkeypatch.setattr(trainer.held_out, "score", lambda policy: Score(0.5, 0, 1))
    assert trainer.run().steps == 3 * 256


def test_a_full_disk_keeps_the_previous_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / CHECKPOINT
    save_checkpoint(path, Checkpoint({"a": np.arange(3)}, {"finished": False}))
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"No space left on device.*unchanged"):
        save_checkpoint(path, Checkpoint({"a": np.zeros(3)}, {"finished": False}))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [CHECKPOINT]


@pytest.mark.parametrize("damage", ["truncated", "text", "missing", "version"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / CHECKPOINT
    save_checkpoint(path, Checkpoint({"a": np.arange(300)}, {"finished": False}))
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[:-100])
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content.replace(b'"version":"1"', b'"version":"9"'))
    with pytest.raises(InputError, match="accepted: a checkpoint"):
        load_checkpoint(path)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    crashing = Trainer(small_config(), data(), tmp_path, callbacks=[Stop(8 * 16 * 3)])
    with pytest.raises(RuntimeError):
        crashing.run()
    with pytest.raises(InputError, match=r"ppo\.gamma"):
        Trainer(small_config(gamma=0.9), data(), tmp_path).run(resume=True)
    with pytest.raises(InputError, match="--resume"):
        Trainer(small_config(), data(), tmp_path).run()


def test_watching_sees_every_rollout(tmp_path: Path) -> None:
    seen: list[Progress[Score]] = []
    Trainer(small_config(), data(), tmp_path, watch=seen.append).run()
    assert [progress.steps for progress in seen] == [8 * 16 * k for k in range(1, ROLLOUTS + 1)]
    assert all(np.isfinite(list(progress.metrics.values())).all() for progress in seen)


MLFLOW = """
import json, sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.training.test_trainer import Stop, data, small_config
from training.tracking import MLflowTracker
from training.trainer import Trainer
out, uri = Path(sys.argv[1]), "sqlite:///mlflow.db"
class Interrupt(Stop):
    def _on_step(self):
        if self.num_timesteps == self.at:
            raise KeyboardInterrupt
        return True
try:
    stop = Interrupt(8 * 16 * 3 + 8)
    Trainer(small_config(), data(), out, tracker=MLflowTracker(uri, "e"), callbacks=[stop]).run()
except KeyboardInterrupt:
    pass
from mlflow.tracking import MlflowClient
client = MlflowClient(uri)
experiment = client.get_experiment_by_name("e").experiment_id
killed = client.search_runs([experiment])[0].info.status
trained = Trainer(small_config(), data(), out, tracker=MLflowTracker(uri, "e")).run(resume=True)
runs = client.search_runs([experiment])
run = runs[0]
history = client.get_metric_history(run.info.run_id, "train/loss")
import mlflow
mlflow.set_tracking_uri(uri)
folder = Path(mlflow.artifacts.download_artifacts("models:/small/1", dst_path=str(out / "got")))
downloaded = sorted(each.name for each in folder.rglob("*.policy"))
print(json.dumps({
    "killed": killed, "runs": len(runs), "status": run.info.status, "seed": run.data.params["seed"],
    "gamma": run.data.params["ppo.gamma"], "tags": run.data.tags,
    "steps": sorted({point.step for point in history}),
    "artifacts": [each.path for each in client.list_artifacts(run.info.run_id, "policy")],
    "name": run.info.run_name,
    "downloaded": downloaded,
    "registered": client.get_model_version("small", "1").run_id == trained.run == run.info.run_id,
}))
"""


def test_mlflow_has_the_run_its_metrics_and_its_bundle(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", MLFLOW, str(tmp_path / "out"), root],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["killed"] == "KILLED"
    assert found["name"] == "small-seed0"
    assert found["downloaded"] == ["small.policy"]
    assert found["status"] == "FINISHED"
    assert found["runs"] == 1
    assert (found["seed"], found["gamma"]) == ("0", "1.0")
    assert found["tags"]["data_sha256.sample.npz"] == "0" * 64
    assert found["tags"]["git_revision"]
    assert found["steps"] == [8 * 16 * k for k in range(1, ROLLOUTS + 1)]
    assert found["artifacts"] == ["policy/small.policy"]
    assert found["registered"]


def test_a_tracking_store_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    tracker = MLflowTracker(f"sqlite:///{tmp_path}/no/such/folder/mlflow.db")
    with pytest.raises(TrackingError, match="cannot be written"):
        Trainer(small_config(), data(), tmp_path / "out", tracker=tracker).run()


class Breaks(NoTracker):
    """A store that fails in the middle of a run."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if step > 8 * 16:
            raise TrackingError("MLflow at x: disk full")


def test_a_tracking_store_that_fails_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="disk full"):
        Trainer(small_config(), data(), tmp_path, tracker=Breaks()).run()
    Trainer(small_config(), data(), tmp_path).run(resume=True)


def test_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpotwiseError, match=r"training diverged after .* lower ppo\.learning_rate"):
        Trainer(small_config(learning_rate=1e30), data(), tmp_path).run()


@pytest.mark.parametrize("evaluated", [False, True])
def test_a_market_that_does_not_fit_is_named_by_its_file(tmp_path: Path, evaluated: bool) -> None:
    whole = sample_market().select([0])
    short = whole.window(0, 20)
    hashes = {"long.npz": "0" * 64, "short.npz": "1" * 64}
    given = Data([whole], hashes, [short]) if evaluated else Data([whole, short], hashes)
    with pytest.raises(InputError, match=r"^short\.npz: "):
        Trainer(small_config(), given, tmp_path)


def test_a_market_too_short_to_train_on_is_named_by_its_file(tmp_path: Path) -> None:
    whole = sample_market().select([0])
    given = Data([whole, whole.window(0, 7)], {"a.npz": "", "b.npz": "", "c.npz": ""}, [whole])
    with pytest.raises(InputError, match=r"^b\.npz: .*the shortest job needs"):
        Trainer(small_config(), given, tmp_path)
