"""Before the first tick: each policy decides on made-up data, so that what it runs is compiled.

In a fresh image nothing is compiled yet, and compiling takes longer than a policy may take in a tick.
Decisions do not depend on it: policies keep nothing but their memory, and that of these calls is thrown away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from optimizer.controller.fleets import Jobs, Services
from optimizer.controller.jobs import JobFleet
from optimizer.controller.observe import Tell
from optimizer.controller.services import ServiceFleet
from policies.protocol import DeadlinePolicy, fresh_memory
from policies.service import ServicePolicy
from policies.shield import apply_shield, shown_to
from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND

LONGEST_SECONDS = 300.0
"""Then the first tick begins all the same; the safe baseline decides where a policy is not ready."""
SIZES = (1, 2)
"""Workloads of a batch: arrays of one and of several lie in memory in other ways; numba compiles for each."""
SLACKS = 40
"""After them, less and less slack: a champion asks its networks only where the planner is in doubt."""
STEPS = ((True, IDLE), (True, FIRST_SPOT), (False, IDLE), (True, ON_DEMAND))
"""Tick by tick: whether pools are available, and where the jobs are."""
WORK_TICKS, WHOLE_TICKS = 4.0, 12.0
"""Work of the made-up jobs, and time to their deadline."""
SPOT_SHARE = 0.4
"""Made-up spot prices, as a share of on-demand."""


def warm_up(jobs: Jobs, services: Services, tick_seconds: float, tell: Tell, stop: threading.Event) -> None:
    """Let each policy decide; what goes wrong is told and ends nothing.

    Args:
        jobs: Deadline jobs and their policies.
        services: Services and their policies.
        tick_seconds: Of the plan.
        tell: Takes events.
        stop: Ends the wait.
    """
    calls: list[tuple[str, Callable[[], None]]] = []
    for size in SIZES:
        for fleet, policy in jobs:
            if size <= fleet.size:
                calls.append((policy.name, partial(_decide_jobs, fleet, policy, size, tick_seconds)))
        for service, service_policy in services:
            if size <= service.size:
                calls.append((service_policy.name, partial(_decide_services, service, service_policy, size)))

    def body() -> None:
        for name, call in calls:
            if stop.is_set():
                return
            try:
                call()
            except Exception as error:  # noqa: BLE001 -- the tick meets it too, and the baseline decides there
                tell("warning", "warm-up", f"policy {name} failed ({type(error).__name__}: {error})")

    began = time.perf_counter()
    worker = threading.Thread(target=body, name="warm-up", daemon=True)
    worker.start()
    while worker.is_alive() and not stop.is_set() and time.perf_counter() - began < LONGEST_SECONDS:
        worker.join(0.5)
    seconds = time.perf_counter() - began
    if worker.is_alive() and not stop.is_set():
        tell("warning", "warm-up", f"policies are not ready after {seconds:.0f} s; the first tick begins")
    else:
        tell("info", "warm-up", f"policies are ready after {seconds:.2f} s")


def _decide_jobs(fleet: JobFleet, policy: DeadlinePolicy, size: int, tick_seconds: float) -> None:
    few = np.arange(size)
    price = {name: SPOT_SHARE * pool.on_demand_price for name, pool in fleet.pools.items()}
    offers = dict.fromkeys(price, int(fleet.nodes.max()))
    seen = fleet.observe(few, float(fleet.begins[few].max()), tick_seconds, price, offers)
    # a short job: solving what a long one needs takes time, and does not compile more
    work, whole = np.full(size, WORK_TICKS * tick_seconds), np.full(size, WHOLE_TICKS * tick_seconds)
    whole += 2.0 * seen.restart_overhead
    memory = fresh_memory(policy, size, fleet.pools_each, varied=fleet.ground is not None)
    less = np.arange(len(STEPS) + SLACKS) * tick_seconds
    less[len(STEPS) :] = np.linspace(less[len(STEPS) - 1], (WHOLE_TICKS - WORK_TICKS) * tick_seconds, SLACKS)
    for step, passed in enumerate(less.tolist()):
        available, placement = STEPS[step % len(STEPS)]
        shown = shown_to(
            policy,
            replace(
                seen,
                work_total=work,
                work_left=work,
                time_total=whole,
                time_left=whole - passed,
                due_left=0.75 * whole - passed,
                placement=np.full(size, placement),
                spot_available=np.full_like(seen.spot_available, available),
            ),
        )
        asked, memory = policy.act(shown, memory)
        apply_shield(shown, asked)


def _decide_services(fleet: ServiceFleet, policy: ServicePolicy, size: int) -> None:
    few = np.arange(size)
    price = {name: SPOT_SHARE * pool.on_demand_price for name, pool in fleet.pools.items()}
    seen = replace(fleet.observe(few, price), demand=np.full(few.size, 3))
    memory = policy.reset(few.size, fleet.pools_each)
    for step in range(len(STEPS)):
        asked, memory = policy.act(replace(seen, ticks_elapsed=np.full(few.size, step)), memory)
        granted = np.asarray(asked, np.int64)
        seen = replace(seen, asked=granted, granted=granted, ready=granted.sum(axis=1))
