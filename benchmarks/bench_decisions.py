"""One decision of each built-in policy behind the shield, and a batch of 10,000; NumPy, one thread."""

import time

import numpy as np

from policies.registry import load_policy, policy_names
from policies.shield import Shielded
from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.batch import Observability
from simulator.market import sample_market

JOB = DeadlineJob(48 * 3600, 52 * 3600, 720)
REPEATS = 3000
BATCH = 10_000
TICKS = 20
"""That the batch has run before it is timed, so that its jobs differ in placement, slack and beliefs."""
SEVERAL: tuple[tuple[int, Observability], ...] = ((3, "full"), (3, "occupied"), (5, "full"))
"""Pools, and what is known of them."""


def run() -> dict[str, object]:
    market = sample_market()
    one = MarketStack.of([market.select([0])])
    figures: dict[str, object] = {name: _figures(load_policy(name), one, "full") for name in policy_names()}
    for pools, observability in SEVERAL:
        stack = MarketStack.of([market.select(range(pools))])
        name = f"planner_{pools}_pools_{observability}"
        figures[name] = _figures(load_policy("planner"), stack, observability)
    return figures


def _figures(policy: Shielded, stack: MarketStack, observability: Observability) -> dict[str, float]:
    single = DeadlineBatch.of(stack, JOB, [0], [100], observability).observe()
    memory = policy.reset(1, stack.pools)
    for _ in range(50):
        policy.act(single, memory)
    micros = np.empty(REPEATS)
    for k in range(REPEATS):
        began = time.perf_counter()
        policy.act(single, memory)
        micros[k] = 1e6 * (time.perf_counter() - began)
    start = np.random.default_rng(0).integers(0, int(stack.ticks[0]) - 312, BATCH)
    batch = DeadlineBatch.of(stack, JOB, np.zeros(BATCH, np.int64), start, observability)
    memory = policy.reset(BATCH, stack.pools)
    for _ in range(TICKS):
        action, memory = policy.act(batch.observe(), memory)
        batch.step(action)
    many = batch.observe()
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        policy.act(many, memory)
        seconds.append(time.perf_counter() - began)
    return {
        "one_decision_us_p50": round(float(np.percentile(micros, 50)), 1),
        "one_decision_us_p99": round(float(np.percentile(micros, 99)), 1),
        "batch_of_10000_us_per_job": round(1e6 * float(np.median(seconds)) / BATCH, 3),
    }
