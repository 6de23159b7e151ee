"""Evaluation of service policies: availability against cost, with intervals and the clairvoyant bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from policies.registry import load_policy
from simulator.deadline.observation import FloatArray, IntArray
from simulator.deadline.replay import Windows
from simulator.errors import InputError
from simulator.market import Market
from simulator.service import Service
from simulator.service.bound import AVAILABILITY_LEVELS, ServiceBound, service_bounds
from simulator.service.replay import replay_service, service_windows
from training.statistics import StratifiedBootstrap

REFERENCE = "spothedge-1"
"""Policy that costs and availabilities are compared with unless another is named."""
HIGHEST_BOUND_WINDOWS = 400


@dataclass(frozen=True, eq=False)
class ServiceEvaluation:
    """One row per policy and window, and the bound of each window.

    Attributes:
        table: As from `replay_service`, with a column `policy` of labels.
        labels: Policies in the order asked for.
        target: Availability that the service asks for.
        bounds: Per window the bounds at `AVAILABILITY_LEVELS` and the target, highest first; empty if not
            wanted.
        on_demand: (N,) USD of each window's demand on on-demand capacity.
        bootstrap: Resamples windows within each market.
    """

    table: pd.DataFrame
    labels: tuple[str, ...]
    target: float
    bounds: Sequence[tuple[ServiceBound, ...]]
    on_demand: FloatArray
    bootstrap: StratifiedBootstrap

    def summary(self, reference: str = REFERENCE) -> dict[str, object]:
        """Plain data for `--json`: see `docs/services.md`."""
        other = self._rows(reference)
        return {
            "workload": "service",
            "episodes": len(self.on_demand),
            "availability_target": self.target,
            "clairvoyant_optimum": self._optimum(),
            "policies": {label: self._summary(self._rows(label), other, reference) for label in self.labels},
        }

    def _rows(self, label: str) -> pd.DataFrame:
        return self.table[self.table["policy"] == label].reset_index(drop=True)

    def _summary(self, rows: pd.DataFrame, other: pd.DataFrame, reference: str) -> dict[str, object]:
        availability, cost = _values(rows, "availability"), _values(rows, "cost_usd")
        short = float(rows["unavailable_ticks"].sum()) / max(float(rows["counted_ticks"].sum()), 1.0)
        return {
            "availability": {
                "mean": float(availability.mean()),
                "min": float(availability.min()),
                "ci95": list(self.bootstrap.mean_interval(availability)),
            },
            "served_fraction": float(rows["served_fraction"].mean()),
            "cost_relative_to_on_demand": self._relative(cost),
            "launches": float(rows["launches"].mean()),
            "interruptions": float(rows["interruptions"].mean()),
            "failed_launches": float(rows["failed_launches"].mean()),
            "target_met_windows": int((availability >= self.target - 1e-12).sum()),
            "error_budget_spent": short / (1.0 - self.target),
            "against_reference": {
                "reference": reference,
                "cost": self._relative(cost - _values(other, "cost_usd")),
                "availability": self._spread(availability - _values(other, "availability")),
            },
        }

    def _spread(self, values: FloatArray) -> dict[str, object]:
        return {"mean": float(values.mean()), "ci95": list(self.bootstrap.mean_interval(values))}

    def _relative(self, cost: FloatArray) -> dict[str, object]:
        """Sum over the sum of on-demand costs, so that windows without demand weigh nothing."""
        base = self.on_demand
        if base.sum() <= 0.0:
            return {"mean": None, "ci95": None}
        interval = self.bootstrap.interval(
            lambda rows: np.asarray(cost[rows].sum(axis=1) / np.maximum(base[rows].sum(axis=1), 1e-12))
        )
        return {"mean": float(cost.sum() / base.sum()), "ci95": list(interval)}

    def _optimum(self) -> dict[str, object]:
        levels: dict[str, object] = {}
        for place, first in enumerate(self.bounds[0] if self.bounds else ()):
            at = [window[place] for window in self.bounds]
            reached = np.array([bound.reachable for bound in at])
            base = float(self.on_demand[reached].sum())
            cost = sum(bound.cost for bound in at if bound.plan is not None)
            planned = sum(
                own for own, bound in zip(self.on_demand, at, strict=True) if bound.plan is not None
            )
            dual = sum(bound.dual_bound for bound in at if bound.reachable)
            levels[f"{first.availability:g}"] = {
                "cost_relative_to_on_demand": float(cost / planned) if planned > 0.0 else None,
                "dual_bound": float(dual / base) if base > 0.0 else None,
                "reachable_windows": int(reached.sum()),
                "solved_windows": sum(bound.status == "optimal" for bound in at),
                "best_availability": float(np.mean([bound.best_availability for bound in at])),
            }
        return levels


def evaluate_services(
    policies: Sequence[str],
    windows: Windows,
    service: Service | Sequence[Service],
    *,
    reference: str = REFERENCE,
    with_bound: bool = True,
    seed: int = 0,
    watch: Callable[[str], None] = lambda label: None,
) -> ServiceEvaluation:
    """Replay policies over windows.

    Args:
        policies: Names or paths of `.policy` files; the labels of the result.
        windows: What to replay.
        service: The service that begins in each window, or one per window.
        reference: Replayed too.
        with_bound: Whether to solve for the clairvoyant bound of each window.
        seed: Of the bootstrap.
        watch: Called with each label before its replay.

    Raises:
        InputError: A policy is unknown, damaged or given twice, or there are too many windows for the bound.
    """
    if len(set(policies)) != len(policies):
        twice = next(each for each in policies if list(policies).count(each) > 1)
        raise InputError(f"policy {twice} is given twice; give each policy once")
    if with_bound and len(windows.start) > HIGHEST_BOUND_WINDOWS:
        raise InputError(
            f"the bound of {len(windows.start)} windows takes too long; accepted: {HIGHEST_BOUND_WINDOWS} "
            "windows, or --no-bound"
        )
    labels = list(dict.fromkeys((*policies, reference)))
    loaded = {label: load_policy(label, "service") for label in labels}
    tables = []
    for label, policy in loaded.items():
        watch(label)
        tables.append(replay_service([policy], windows, service).assign(policy=label))
    table = pd.concat(tables, ignore_index=True)
    one = service if isinstance(service, Service) else service[0]
    bounds: list[tuple[ServiceBound, ...]] = []
    if with_bound:
        levels = tuple(sorted({*AVAILABILITY_LEVELS, one.availability_target}, reverse=True))
        each = [service] * len(windows.start) if isinstance(service, Service) else list(service)
        for number, (demand, market, start) in enumerate(
            zip(each, windows.market, windows.start, strict=True), 1
        ):
            watch(f"clairvoyant bound, window {number}")
            bounds += service_bounds(windows.stack, demand, [market], [start], availability=levels)
    first = table[table["policy"] == labels[0]]
    return ServiceEvaluation(
        table,
        tuple(policies),
        one.availability_target,
        bounds,
        first["on_demand_usd"].to_numpy(np.float64),
        StratifiedBootstrap(windows.market, seed),
    )


def windows_and_services(
    markets: Sequence[tuple[str, Market]],
    demand: ArrayLike,
    service: Mapping[str, float],
    *,
    window_ticks: int,
    stride: int | None,
    pools: str,
    repeat_market: bool,
) -> tuple[Windows, Service | list[Service]]:
    """Windows of the markets and the service of each.

    A series begins with each market; a window takes its part of it. One number holds at every tick.

    Args:
        markets: Names and markets.
        demand: Instances: one number, or a whole number per tick from the begin of a market.
        service: `availability_target`, `cold_start_seconds`, `committed`, `minimum_billed_seconds`.
        window_ticks: Length of a window.
        stride: Ticks between window starts; None for windows that do not overlap.
        pools: `all`, or `each` pool alone.
        repeat_market: Play a market again from its begin where the series is longer.

    Raises:
        InputError: A series is longer than a market or shorter than a window, a window does not fit or is
            over before anything counts, or `pools` is neither.
    """
    if pools not in ("each", "all"):
        raise InputError(f"--pools {pools!r}; accepted: each, all")
    if pools == "each":
        markets = [
            (f"{name} {pool.name}", market.select([place]))
            for name, market in markets
            for place, pool in enumerate(market.pools)
        ]
    series = np.asarray(demand)
    length = window_ticks if series.ndim == 0 else series.shape[0]
    if length < window_ticks:
        raise InputError(
            f"a demand of {length} ticks, a window has {window_ticks}; accepted: a shorter window, a longer "
            "demand"
        )
    fitted = []
    for name, market in markets:
        if length > market.ticks and not repeat_market:
            raise InputError(
                f"{name}: {market.ticks} ticks for a demand of {length}; accepted: a longer market, "
                "a shorter demand, or --repeat-market"
            )
        longer = market.repeated(length) if length > market.ticks else market
        fitted.append((name, longer if series.ndim == 0 else longer.window(0, length)))
    windows = service_windows(fitted, window_ticks, stride)
    values = np.full(window_ticks, series) if series.ndim == 0 else series
    whole = _service(values, fitted[0][1].tick_seconds, service)
    if window_ticks <= whole.cold_start_ticks:
        raise InputError(
            f"windows of {window_ticks} ticks, a cold start of {whole.cold_start_ticks}, which does not "
            "count; accepted: longer windows"
        )
    if series.ndim == 0:
        return windows, whole
    parts: dict[int, Service] = {}
    for start in windows.start:
        if int(start) not in parts:
            parts[int(start)] = replace(whole, demand=whole.demand[start : start + window_ticks])
    return windows, [parts[int(start)] for start in windows.start]


def _service(
    demand: NDArray[np.generic] | IntArray, tick_seconds: int, values: Mapping[str, float]
) -> Service:
    return Service.of(
        demand,
        tick_seconds=tick_seconds,
        availability_target=values["availability_target"],
        cold_start_seconds=values["cold_start_seconds"],
        committed=int(values["committed"]),
        minimum_billed_seconds=values.get("minimum_billed_seconds", 0.0),
    )


def _values(rows: pd.DataFrame, column: str) -> FloatArray:
    return rows[column].to_numpy(np.float64)
