"""The tables of `docs/services.md`, as Markdown: `python -m training.service.figures MARKET...`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from policies.registry import load_policy
from simulator.deadline.observation import FloatArray
from simulator.deadline.replay import Windows
from simulator.market import Market, ticks_for
from simulator.service import Service
from simulator.service.replay import replay_service, service_windows
from training.service.gate import cost_at
from training.statistics import StratifiedBootstrap

BASELINES = ("spothedge-0", "spothedge-1", "spothedge-2")
TARGETS = (0.95, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.9975, 0.998, 0.9985, 0.999, 0.9995)
WEEK_TARGETS = (0.99, 0.995, 0.999)
COLD_START_SECONDS = 120.0
DAY_HOURS, WEEK_HOURS = 24.0, 168.0


def frontier_table(policy: str, market: Market, demand: int, stride_hours: float) -> list[str]:
    """Rows: each baseline, and what the policy costs at its availability, with a paired 95 % interval."""
    windows = _windows(market, DAY_HOURS, stride_hours)
    loaded = load_policy(policy, "service")
    frontier = [
        replay_service([loaded], windows, _service(windows, DAY_HOURS, demand, target)) for target in TARGETS
    ]
    bootstrap = StratifiedBootstrap(windows.market, 0)
    rows = []
    for name in BASELINES:
        service = _service(windows, DAY_HOURS, demand, 0.995)
        other = replay_service([load_policy(name, "service")], windows, service)
        cost = other["relative_cost"].to_numpy(np.float64)
        mixed = cost_at(frontier, float(other["availability"].mean()))
        low, high = bootstrap.mean_interval(cost - mixed)
        saved = f"{100 * (cost - mixed).mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"
        cells = (demand, name, f"{other['availability'].mean():.2%}", _percent(cost), _percent(mixed), saved)
        rows.append(_row(cells))
    return rows


def dial_table(policy: str, market: Market, demand: int, stride_hours: float) -> list[str]:
    """Rows: each target, and what was reached over days and weeks."""
    rows = []
    for target in WEEK_TARGETS:
        cells: list[object] = [demand, f"{target:.1%}"]
        for hours in (DAY_HOURS, WEEK_HOURS):
            table = _replayed(policy, market, hours, stride_hours, demand, target)
            cells += [f"{table['availability'].mean():.2%}", _percent(table["relative_cost"].to_numpy())]
        met = int((table["availability"] >= target - 1e-12).sum())
        rows.append(_row([*cells, f"{met} of {len(table)}"]))
    return rows


def main() -> None:
    """Print both tables for every market and demand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("market", type=Path, nargs="+")
    parser.add_argument("--policy", default="service-champion")
    parser.add_argument("--demand", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--stride-hours", type=float, default=24.0)
    arguments = parser.parse_args()
    for path in arguments.market:
        market = Market.load(path)
        days = market.ticks * market.tick_seconds / 86400
        lines = [
            f"{path.name}: {len(market.pools)} pools, {days:.1f} days\n",
            f"| N | baseline | available | cost | {arguments.policy} there | points below (95 %) |",
            "|---|---|---|---|---|---|",
        ]
        for demand in arguments.demand:
            lines += frontier_table(arguments.policy, market, demand, arguments.stride_hours)
        lines += [
            "",
            "| N | target | days: available | cost | weeks: available | cost | weeks that meet it |",
            "|---|---|---|---|---|---|---|",
        ]
        for demand in arguments.demand:
            lines += dial_table(arguments.policy, market, demand, arguments.stride_hours)
        print("\n".join(lines), "\n", flush=True)  # noqa: T201 -- the output of the command


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _percent(values: FloatArray) -> str:
    return f"{values.mean():.1%}"


def _windows(market: Market, hours: float, stride_hours: float) -> Windows:
    tick = market.tick_seconds
    return service_windows(
        [("market", market)], ticks_for(hours * 3600.0, tick), ticks_for(stride_hours * 3600.0, tick)
    )


def _service(windows: Windows, hours: float, demand: int, target: float) -> Service:
    tick = windows.stack.tick_seconds
    return Service.of(
        demand,
        ticks=ticks_for(hours * 3600.0, tick),
        tick_seconds=tick,
        availability_target=target,
        cold_start_seconds=COLD_START_SECONDS,
    )


def _replayed(
    policy: str, market: Market, hours: float, stride_hours: float, demand: int, target: float
) -> pd.DataFrame:
    windows = _windows(market, hours, stride_hours)
    return replay_service([load_policy(policy, "service")], windows, _service(windows, hours, demand, target))


if __name__ == "__main__":
    main()
