"""Services: kernel with its options, clairvoyant bound, planner decisions, environments; one thread."""

import time
from collections.abc import Callable

import numpy as np

from envs.service_episodes import ServiceRange
from envs.service_planner_vec_env import ServicePlannerVecEnv
from envs.service_series import service_markets
from envs.service_vec_env import ServiceVecEnv
from policies.service import LookAhead
from policies.service.lookahead.fit import load_survival
from simulator.deadline import MarketStack
from simulator.market import Market, Pool, sample_market
from simulator.service import Service, ServiceBatch
from simulator.service.bound import service_bounds

SECONDS = 2.0
SIZE, POOLS, DAYS = 1024, 9, 20
TICKS = 2880


def run() -> dict[str, object]:
    market = _market()
    stack = MarketStack.of([market])
    starts = np.random.default_rng(1).integers(0, market.ticks - TICKS, SIZE)
    service = Service.of(3, ticks=TICKS, tick_seconds=30, cold_start_seconds=120)
    charged = Service.of(3, ticks=TICKS, tick_seconds=30, cold_start_seconds=120, minimum_billed_seconds=60)
    groups = np.repeat(np.arange(SIZE // 4), 4)
    batches = {
        "": ServiceBatch(stack, service, 0, starts),
        "_minimum_bill": ServiceBatch(stack, charged, 0, starts),
        "_groups_of_4": ServiceBatch(stack, service, 0, starts[groups], group=groups),
    }
    figures: dict[str, object] = {
        f"kernel_ticks_per_second_20_days{name}": round(_kernel(batch)) for name, batch in batches.items()
    }
    planner = LookAhead(load_survival())
    figures["planner_us_per_decision"] = round(
        1e6 / _planner(planner, ServiceBatch(stack, service, 0, starts)), 2
    )
    figures |= _environments(market, planner)
    return figures | _bounds(stack)


def _market() -> Market:
    """Nine pools of up to four instances that change every few hours, at samples of 300 s."""
    rng = np.random.default_rng(0)
    samples = DAYS * TICKS // 10
    change = rng.random((POOLS, samples)) < 0.02
    place = np.maximum.accumulate(np.where(change, np.arange(samples), 0), axis=1)
    level = np.take_along_axis(rng.integers(0, 5, (POOLS, samples)), place, axis=1)
    return Market.build(
        [Pool("synthetic", f"r{p // 3}", f"z{p}", "t") for p in range(POOLS)],
        tick_seconds=30,
        start=sample_market().start,
        spot_price=rng.uniform(0.8, 1.2, (POOLS, 1)),
        spot_capacity=np.repeat(level, 10, axis=1),
        on_demand_price=3.0,
    )


def _per_second(step: Callable[[], object], ticks: int) -> float:
    for _ in range(5):
        step()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        step()
        count += ticks
    return count / (time.perf_counter() - began)


def _kernel(batch: ServiceBatch) -> float:
    asked = np.random.default_rng(2).integers(0, 2, (64, SIZE, POOLS + 1))
    place = iter(range(10**9))

    def step() -> None:
        if batch.done[0]:
            batch.tick[:], batch.done[:] = 0, False
        batch.step(asked[next(place) % 64])

    return _per_second(step, SIZE)


def _planner(planner: LookAhead, batch: ServiceBatch) -> float:
    memory = {name: np.array(values) for name, values in planner.reset(SIZE, POOLS).items()}
    seconds, decisions = 0.0, 0
    while not batch.done[0] and seconds < SECONDS:
        seen = batch.observe()
        began = time.perf_counter()
        due = planner.perceive(seen, memory)
        asked = planner.ask(seen, memory, due, planner.dial(seen, memory))
        if batch.tick[0] >= 5:  # compiled by then
            seconds += time.perf_counter() - began
            decisions += SIZE
        batch.step(asked)
    return decisions / seconds


def _environments(market: Market, planner: LookAhead) -> dict[str, object]:
    markets, kind = service_markets([market], variants=2), ServiceRange()
    venv = ServiceVecEnv(markets, SIZE, services=kind, seed=0)
    venv.reset()
    counts = np.ones((SIZE, POOLS + 1), np.int64)
    figures: dict[str, object] = {
        "vec_env_ticks_per_second_1024": round(_per_second(lambda: venv.step(counts), SIZE))
    }
    for paired in (False, True):
        guided = ServicePlannerVecEnv(markets, SIZE, planner, services=kind, against_planner=paired, seed=0)
        seen = [guided.reset()]

        def step(env: ServicePlannerVecEnv = guided, seen: list[np.ndarray] = seen) -> None:
            seen[0] = env.step(seen[0][:, :20].argmin(axis=1))[0]  # type: ignore[assignment] # arrays here

        name = f"planner_vec_env_ticks_per_second_1024{'_against_planner' if paired else ''}"
        figures[name] = round(_per_second(step, SIZE * guided.held_ticks))
    return figures


def _bounds(stack: MarketStack) -> dict[str, object]:
    service = Service.of(3, ticks=TICKS, tick_seconds=30, cold_start_seconds=120)
    seconds, gaps = [], []
    for start in range(0, 6 * TICKS, TICKS):
        began = time.perf_counter()
        bounds = service_bounds(stack, service, 0, [start])[0]
        seconds.append(time.perf_counter() - began)
        gaps += [bound.gap for bound in bounds]
    return {
        "bound_seconds_per_day_of_9_pools_4_levels_mean": round(float(np.mean(seconds)), 2),
        "bound_seconds_per_day_of_9_pools_4_levels_worst": round(max(seconds), 2),
        "bound_gap_percent_worst": round(100 * max(gaps), 3),
    }
