"""One decision of each built-in policy behind the shield, and a batch of 10,000; NumPy, one thread.

One decision is timed in every state of a few jobs on their way, by the clock and in time of the processor:
on a machine that others use, the clock's 99th percentile is theirs.
"""

import time

import numpy as np

from policies.protocol import Memory
from policies.registry import load_policy, policy_names
from policies.shield import Shielded
from simulator.deadline import DeadlineBatch, DeadlineJob, DeadlineObservation, MarketStack
from simulator.deadline.observability import Observability
from simulator.market import sample_market

JOB = DeadlineJob(48 * 3600, 52 * 3600, 720)
JOBS = 10
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
    states = _states(policy, stack, observability)
    for observation, memory in states[:50]:
        policy.act(observation, memory)
    micros = np.empty((2, len(states)))
    for clock, row in zip((time.perf_counter, time.thread_time), micros, strict=True):
        for k, (observation, memory) in enumerate(states):
            began = clock()
            policy.act(observation, memory)
            row[k] = 1e6 * (clock() - began)
    start = np.random.default_rng(0).integers(0, int(stack.ticks[0]) - 312, BATCH)
    batch = DeadlineBatch.of(stack, JOB, np.zeros(BATCH, np.int64), start, observability)
    memory = policy.reset(BATCH, stack.pools)
    for _ in range(TICKS):
        action, memory = policy.act(batch.observe(), memory)
        batch.step(action)
    many = batch.observe()
    seconds = []
    for _ in range(20):
        began = time.thread_time()
        policy.act(many, memory)
        seconds.append(time.thread_time() - began)
    return {
        "one_decision_us_p50": round(float(np.percentile(micros[0], 50)), 1),
        "one_decision_us_p99": round(float(np.percentile(micros[0], 99)), 1),
        "one_decision_cpu_us_p99": round(float(np.percentile(micros[1], 99)), 1),
        "batch_of_10000_cpu_us_per_job": round(1e6 * float(np.median(seconds)) / BATCH, 3),
    }


def _states(
    policy: Shielded, stack: MarketStack, observability: Observability
) -> list[tuple[DeadlineObservation, Memory]]:
    """What the policy sees and remembers at each tick of some jobs, each alone."""
    states = []
    for start in np.linspace(0, int(stack.ticks[0]) - 313, JOBS).astype(np.int64):
        batch = DeadlineBatch.of(stack, JOB, [0], [start], observability)
        memory = policy.reset(1, stack.pools)
        while not batch.done.all():
            observation = batch.observe()
            states.append((observation, memory))
            action, memory = policy.act(observation, memory)
            batch.step(action)
    return states
