"""PPO steps per second with masks, evaluation, checkpoints and MLflow tracking, and one decision in NumPy."""

import tempfile
import time
from pathlib import Path

import numpy as np

from optimizer.presets import presets_dir
from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack
from simulator.market import sample_market
from training.config import load_config
from training.data import Data
from training.tracking import MLflowTracker
from training.trainer import Trainer

STEPS = 1_000_000


def run() -> dict[str, object]:
    config = load_config(presets_dir() / "deadline.yaml")
    config = config.model_copy(update={"ppo": config.ppo.model_copy(update={"total_steps": STEPS})})
    with tempfile.TemporaryDirectory() as folder:
        tracker = MLflowTracker(f"sqlite:///{folder}/mlflow.db")
        moments: list[tuple[float, int]] = []
        trainer = Trainer(
            config,
            Data([sample_market()]),
            Path(folder),
            tracker=tracker,
            watch=lambda progress: moments.append((time.perf_counter(), progress.steps)),
        )
        trainer.run()
        (first, before), (last, after) = moments[0], moments[-1]
        return {
            "ppo_steps_per_second": round((after - before) / (last - first)),
            "ppo_threads": 1,
            **_decision(trainer),
        }


def _decision(trainer: Trainer) -> dict[str, object]:
    policy = trainer.policy()
    stack = MarketStack.of([sample_market().select([0])])
    job = DeadlineJob(48 * 3600.0, 52 * 3600.0, 720.0)
    figures: dict[str, object] = {}
    for jobs, repeats in ((1, 20_000), (10_000, 50)):
        seen = DeadlineBatch.of(stack, job, np.zeros(jobs, np.int64), np.arange(jobs) % 5000).observe()
        memory = policy.reset(jobs)
        for _ in range(20):
            policy.act(seen, memory)
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            policy.act(seen, memory)
            seconds.append(time.perf_counter() - began)
        for quantile in (50, 99):
            per_job = float(np.percentile(seconds, quantile)) / jobs * 1e6
            figures[f"network_decision_us_per_job_p{quantile}_batch_{jobs}"] = round(per_job, 3)
    return figures
