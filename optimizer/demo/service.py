"""The service of the demo: judged over whole weeks, and its worst storm of interruptions minute by minute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.registry import SERVICE_CHAMPION, load_policy
from simulator.deadline.observation import BoolArray, IntArray
from simulator.deadline.replay import Windows
from simulator.market import Market, sample_market
from simulator.service import Service, ServiceObservation
from simulator.service.bound import service_bounds
from simulator.service.replay import Decider, run_service, service_windows
from training.service.evaluation import ServiceEvaluation, evaluate_services

MARKET = "fleet"
CHAMPION, SPOT_ONLY = SERVICE_CHAMPION, "spot-only"
POLICIES = ("on-demand", SPOT_ONLY, "static-mix-50", "spothedge-0", "spothedge-1", "spothedge-2", CHAMPION)
DEMAND, TARGET, COLD_START_SECONDS = 5, 0.995, 120.0
WINDOW_DAYS = 7
"""The champion keeps its target over a rolling week."""
SOLVER_SECONDS = 600.0
"""Never reached: figures must not depend on how busy the machine is. A week takes one or two."""
BURST_SECONDS, BEFORE_SECONDS, AFTER_SECONDS = 3600, 6 * 3600, 6 * 3600
"""The worst storm is the hour with the most interrupted instances; so much around its end is shown."""


@dataclass(frozen=True, eq=False)
class Course:
    """What one policy held and lost over the T ticks that are shown.

    Attributes:
        ready: (P + 1, T) ready instances by pool, the last on-demand.
        lost: (P, T) instances that the pool took back.
    """

    ready: IntArray
    lost: IntArray

    def short(self, demand: IntArray) -> BoolArray:
        """(T,) ticks at which not all of the demand (T,) was ready."""
        return np.asarray(self.ready.sum(axis=0) < demand)


@dataclass(frozen=True, eq=False)
class Storm:
    """The worst hour of the champion, with what came before and after.

    Attributes:
        start_tick: First tick shown, in the market.
        tick_seconds: Length of a tick.
        pools: Names of the P pools.
        demand: (T,) instances needed.
        courses: By policy.
    """

    start_tick: int
    tick_seconds: int
    pools: tuple[str, ...]
    demand: IntArray
    courses: Mapping[str, Course]

    def figures(self) -> dict[str, object]:
        """Plain data for `--json`."""
        return {
            "start_tick": self.start_tick,
            "ticks": len(self.demand),
            "policies": {
                label: {
                    "interruptions": int(course.lost.sum()),
                    "short_minutes": self.short_minutes(label),
                    "fewest_ready": int(course.ready.sum(axis=0).min()),
                }
                for label, course in self.courses.items()
            },
        }

    def short_minutes(self, label: str) -> float:
        """Minutes at which one policy had less than the demand ready."""
        return float(self.courses[label].short(self.demand).sum()) * self.tick_seconds / 60.0


@dataclass(frozen=True, eq=False)
class ServiceResult:
    """The service, judged.

    Attributes:
        market: Where it ran.
        windows: The weeks.
        service: What was needed in each.
        evaluation: Every policy in every week.
        summary: What `spotwise evaluate --workload service --json` prints, with the bound at the target only.
        storm: The worst storm.
    """

    market: Market
    windows: Windows
    service: Service
    evaluation: ServiceEvaluation
    summary: dict[str, Any]
    storm: Storm

    def figures(self) -> dict[str, object]:
        """Plain data for `--json`."""
        return {
            "market": MARKET,
            "demand": DEMAND,
            "cold_start_seconds": COLD_START_SECONDS,
            "window_days": WINDOW_DAYS,
            **self.summary,
            "storm": self.storm.figures(),
        }


def judge_service(seed: int, watch: Callable[[str], None]) -> ServiceResult:
    """Replay every policy over every week of the sample market, solve for the bound, and find the storm.

    Args:
        seed: Of the bootstrap.
        watch: Called with what is being done.
    """
    market = sample_market(MARKET)
    ticks = WINDOW_DAYS * 86400 // market.tick_seconds
    windows = service_windows([(MARKET, market)], ticks)
    service = Service.of(
        DEMAND,
        ticks=ticks,
        tick_seconds=market.tick_seconds,
        availability_target=TARGET,
        cold_start_seconds=COLD_START_SECONDS,
    )
    evaluation = evaluate_services(POLICIES, windows, service, with_bound=False, seed=seed, watch=watch)
    watch("clairvoyant bound")
    bounds = service_bounds(
        windows.stack,
        service,
        windows.market,
        windows.start,
        availability=(TARGET,),
        time_limit_seconds=SOLVER_SECONDS,
    )
    evaluation = replace(evaluation, bounds=bounds)
    watch("storm")
    return ServiceResult(
        market, windows, service, evaluation, evaluation.summary(), worst_storm(market, windows, service)
    )


def worst_storm(market: Market, windows: Windows, service: Service) -> Storm:
    """The hour in which the champion is interrupted most, and the same time with spot only."""
    asked, granted = _played(CHAMPION, windows, service)
    lost = interrupted(asked, granted)
    per_tick = lost.sum(axis=1)  # (N, T)
    tick = market.tick_seconds
    burst = np.cumsum(per_tick, axis=1)
    burst[:, BURST_SECONDS // tick :] -= burst[:, : -(BURST_SECONDS // tick)].copy()
    week, end = np.unravel_index(int(np.argmax(burst)), burst.shape)
    first = int(np.clip(end - BEFORE_SECONDS // tick, 0, service.ticks - 1))
    span = slice(first, min(first + (BEFORE_SECONDS + AFTER_SECONDS) // tick, service.ticks))
    cold = service.cold_start_ticks
    courses = {CHAMPION: Course(ready_by_pool(granted[week], cold)[:, span], lost[week][:, span])}
    one = Windows(windows.stack, windows.names, windows.market[[week]], windows.start[[week]])
    asked, granted = _played(SPOT_ONLY, one, service)
    lost = interrupted(asked, granted)
    courses[SPOT_ONLY] = Course(ready_by_pool(granted[0], cold)[:, span], lost[0][:, span])
    names = tuple(pool.zone for pool in market.pools)
    start = int(windows.start[week]) + first
    return Storm(start, tick, names, service.demand[span], courses)


def interrupted(asked: IntArray, granted: IntArray) -> IntArray:
    """(N, P, T) instances that were held, were still wanted and were not granted: as the kernel counts.

    Args:
        asked: (N, P + 1, T).
        granted: (N, P + 1, T).
    """
    had = np.concatenate([np.zeros_like(granted[..., :1]), granted[..., :-1]], axis=2)
    return np.asarray(np.maximum(np.minimum(had, asked) - granted, 0)[:, :-1])


def ready_by_pool(granted: IntArray, cold_start_ticks: int) -> IntArray:
    """(P + 1, T) instances that were held for the whole cold start, from what was granted (P + 1, T)."""
    padded = np.pad(granted, ((0, 0), (cold_start_ticks, 0)))
    spans = np.lib.stride_tricks.sliding_window_view(padded, cold_start_ticks + 1, axis=1)
    return np.asarray(spans.min(axis=2))


def _played(label: str, windows: Windows, service: Service) -> tuple[IntArray, IntArray]:
    """(N, P + 1, T) asked and granted."""
    watched = _Watched(load_policy(label, "service"))
    timeline: list[tuple[IntArray, IntArray]] = []
    run_service(watched, windows, service, timeline=timeline)
    return np.stack(watched.asked, axis=2), np.stack([granted for granted, _ in timeline], axis=2)


class _Watched:
    """A policy whose requests are kept."""

    def __init__(self, policy: Decider) -> None:
        self._policy = policy
        self.name = policy.name
        self.asked: list[IntArray] = []

    def reset(self, services: int, pools: int) -> Mapping[str, NDArray[Any]]:
        return self._policy.reset(services, pools)

    def act(
        self, observation: ServiceObservation, memory: Any
    ) -> tuple[IntArray, Mapping[str, NDArray[Any]]]:
        asked, memory = self._policy.act(observation, memory)
        self.asked.append(asked.copy())
        return asked, memory
