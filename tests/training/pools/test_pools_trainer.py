"""`spotwise train` of the network over pools: what it writes decides, a stopped run goes on to the bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from optimizer.cli import app
from policies.registry import load_policy
from simulator.deadline import DeadlineJob
from simulator.deadline.replay import Windows, replay
from simulator.market import Market, sample_market
from training.checkpoint import CHECKPOINT, load_checkpoint
from training.config import EvaluationJob, EvaluationSettings, JobSettings, PPOSettings, TrainingConfig
from training.data import Data
from training.held_out import Score
from training.pools.trainer import OVERHEAD_SECONDS, PoolsTrainer, RoundedJobs
from training.progress import Progress

CONFIG = """
name: tiny
features: deadline-pools
jobs: [{work_hours: [2, 6], deadline_ratio: [1.2, 2.0], restart_overhead_minutes: 6}]
ppo: {total_steps: 512, environments: 8, rollout_steps: 32, batch_size: 128}
evaluation: {every_steps: 512, stride_hours: 400, jobs: [{work_hours: 4, deadline_hours: 6}]}
"""


def three_pools() -> Market:
    return sample_market().select(range(3)).window(0, 2000)


def config() -> TrainingConfig:
    return TrainingConfig(
        name="small",
        features="deadline-pools",
        jobs=(
            JobSettings(work_hours=(2.0, 6.0), deadline_ratio=(1.2, 2.0), restart_overhead_minutes=(6, 6)),
        ),
        ppo=PPOSettings(total_steps=8 * 16 * 4, environments=8, rollout_steps=16, batch_size=64, epochs=1),
        evaluation=EvaluationSettings(
            every_steps=8 * 16 * 2,
            stride_hours=100.0,
            jobs=(EvaluationJob(work_hours=4.0, deadline_hours=6.0, restart_overhead_minutes=6.0),),
        ),
        checkpoint_every_rollouts=2,
    )


def trainer(out: Path) -> PoolsTrainer:
    return PoolsTrainer(config(), Data([three_pools()]), out, seed=3)


def test_a_stopped_run_goes_on_to_the_bit_and_its_bundle_decides(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole").run()
    assert whole.score.missed == 0
    stopped = trainer(tmp_path / "stopped")

    def watch(progress: Progress[Score]) -> None:
        if progress.steps >= 8 * 16 * 2:
            stopped.stop()

    stopped.watch = watch
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    trainer(tmp_path / "stopped").run(resume=True)
    first, second = (load_checkpoint(tmp_path / name / CHECKPOINT) for name in ("whole", "stopped"))
    for name, array in first.part("policy").items():
        np.testing.assert_array_equal(second.part("policy")[name], array)
    job = DeadlineJob(4 * 3600, 6 * 3600, 360)
    windows = Windows.all_pools(three_pools(), job, 300)
    table = replay([load_policy(whole.bundle), load_policy("planner")], windows, job)
    assert not table["missed"].any()
    cost = table.groupby("policy")["cost_usd"].mean()
    assert cost["small"] < 1.1 * cost["planner"]


def test_overheads_and_prices_are_few_and_jobs_stay_feasible(tmp_path: Path) -> None:
    markets = trainer(tmp_path).env.markets
    kind = JobSettings(restart_overhead_minutes=(0, 20), price_ratio=(0.2, 0.9)).ranges()
    drawn = RoundedJobs([kind]).draw(np.random.default_rng(0).random((2000, 16)), markets)
    assert (drawn.deadline - drawn.work >= drawn.restart_overhead).all()
    assert len(np.unique(drawn.spot_scale)) < 10
    rest = drawn.restart_overhead % OVERHEAD_SECONDS
    assert ((rest == 0) | (drawn.restart_overhead == drawn.deadline - drawn.work)).all()


def test_the_command_trains_over_all_pools_of_a_market(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    three_pools().save(tmp_path / "m.npz")
    command = ["train", "--config", "tiny.yaml", "--market", "m.npz", "--tracking-uri", "none", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["steps"] == 512
    assert told["missed_deadlines"] == 0
    assert load_policy(tmp_path / told["bundle"]).name == "tiny"
