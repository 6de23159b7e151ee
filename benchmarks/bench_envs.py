"""Environment steps per second through the batched VecEnv, masks read each step, one thread."""

import time

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from envs.deadline_vec_env import DeadlineVecEnv
from envs.jobs import JobDistribution, JobRange
from envs.series import EpisodeMarkets
from policies.features import RICH, SIMPLE
from simulator.market import sample_market

SECONDS = 2.0


def run() -> dict[str, object]:
    markets = EpisodeMarkets.of([sample_market()])
    jobs = JobDistribution([JobRange((24.0, 96.0), (1.04, 2.0), (0.0, 12.0), price_ratio=(0.2, 0.6))])
    figures: dict[str, object] = {}
    for features in (SIMPLE, RICH):
        for size in (1, 64, 1024, 4096):
            venv = DeadlineVecEnv(markets, size, jobs=jobs, features=features, seed=0)
            name = f"vec_env_steps_per_second_{features.name.removeprefix('deadline-')}_{size}"
            figures[name] = round(_steps_per_second(venv, size))
    return figures


def _steps_per_second(venv: VecEnv, size: int) -> float:
    venv.reset()
    actions = np.ones(size, np.int64)
    for _ in range(20):
        venv.step(actions)
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        venv.env_method("action_masks")
        venv.step(actions)
        steps += size
    return steps / (time.perf_counter() - began)
