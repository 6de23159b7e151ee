"""Kernel steps per second by batch size, the optimum of a 70 h window, and service ticks; one thread."""

import statistics
import time

import numpy as np

from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.optimum import clairvoyant_optimum
from simulator.deadline.replay import Windows
from simulator.market import Market, Pool, sample_market
from simulator.service import Service, ServiceBatch

SECONDS = 1.0


def run() -> dict[str, object]:
    market = sample_market()
    stack = MarketStack.of([market.select([pool]) for pool in range(len(market.pools))])
    figures: dict[str, object] = {
        f"kernel_steps_per_second_{size}": round(_steps_per_second(stack, size))
        for size in (1, 64, 1024, 4096)
    }
    figures["service_ticks_per_second_1024_9_pools"] = round(_service_ticks_per_second())
    for overhead_minutes in (3, 12):
        job = DeadlineJob(48 * 3600, 70 * 3600, overhead_minutes * 60)
        windows = Windows.each_pool(market, job, 422)
        clairvoyant_optimum(stack, job, windows.market[:1], windows.start[:1])
        seconds = []
        for i in range(len(windows.start)):
            began = time.perf_counter()
            clairvoyant_optimum(stack, job, windows.market[i], windows.start[i])
            seconds.append(time.perf_counter() - began)
        name = f"optimum_70h_window_overhead_{overhead_minutes}min_ms"
        figures[name] = round(1000 * statistics.median(seconds), 2)
    return figures


def _steps_per_second(stack: MarketStack, size: int) -> float:
    rng = np.random.default_rng(0)
    batch = DeadlineBatch(stack, size)
    rows = np.arange(size)
    actions = rng.integers(0, 3, (64, size))

    def begin() -> None:
        start = rng.integers(0, stack.ticks.min() - 420, size)
        batch.assign(
            rows,
            market=rng.integers(0, len(stack.ticks), size),
            start=start,
            work=400 * 600.0,
            deadline=420 * 600.0,
            restart_overhead=720.0,
        )

    begin()
    batch.step(actions[0])
    steps, began, ticks = 0, time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        if ticks == 300:  # jobs would end soon
            begin()
            ticks = 0
        batch.step(actions[ticks % 64])
        steps += size
        ticks += 1
    return steps / (time.perf_counter() - began)


def _service_ticks_per_second() -> float:
    rng = np.random.default_rng(0)
    ticks, pools = 2880, 9
    market = Market.build(
        [Pool("synthetic", "r", f"z{p}", "t") for p in range(pools)],
        tick_seconds=30,
        start=sample_market().start,
        spot_price=1.0,
        spot_capacity=rng.integers(0, 5, (pools, ticks)),
        on_demand_price=3.0,
    )
    service = Service.of(3, ticks=ticks - 1000, tick_seconds=30, cold_start_seconds=120)
    batch = ServiceBatch(MarketStack.of([market]), service, 0, rng.integers(0, 1000, 1024))
    asked = rng.integers(0, 3, (64, 1024, pools + 1))
    batch.step(asked[0])
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS and not batch.done.any():
        batch.step(asked[steps % 64])
        steps += 1
    return 1024 * steps / (time.perf_counter() - began)
