"""Trained policies beside the planner they correct: `python -m training.service.train_figures MARKET`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from policies.registry import load_policy
from simulator.deadline.replay import Windows
from simulator.market import Market, ticks_for
from simulator.service import Service
from simulator.service.replay import replay_service, service_windows
from training.service.gate import ServiceGateSettings, cost_at
from training.statistics import StratifiedBootstrap

HEADING = (
    "| policy | at the availability of | available | planner | policy | points below the planner (95 %) |"
)


def beside_the_planner(
    policies: Sequence[str], planner: str, market: Market, settings: ServiceGateSettings
) -> list[str]:
    """Rows of a Markdown table: what each policy and the planner cost where each baseline's availability is.

    Args:
        policies: Names or bundles.
        planner: Name or bundle of the planner.
        market: Held out; its windows do not overlap.
        settings: Demand, cold start, window, targets and baselines; the rest does not matter.

    Raises:
        InputError: A policy is unknown, or a window does not fit.
    """
    ticks = ticks_for(settings.window_hours * 3600.0, market.tick_seconds)
    windows = service_windows([("market", market)], ticks)
    bootstrap = StratifiedBootstrap(windows.market, settings.seed)
    frontiers = {
        policy: [_replayed(policy, windows, target, ticks, settings) for target in settings.targets]
        for policy in (planner, *policies)
    }
    levels = {
        baseline.name: float(
            _replayed(baseline.name, windows, settings.week_target, ticks, settings)["availability"].mean()
        )
        for baseline in settings.baselines
    }
    rows = []
    for policy in policies:
        for name, level in levels.items():
            its, mine = cost_at(frontiers[planner], level), cost_at(frontiers[policy], level)
            low, high = bootstrap.mean_interval(its - mine, settings.level)
            saved = f"{100 * (its - mine).mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"
            cells = (policy, name, f"{level:.2%}", f"{its.mean():.1%}", f"{mine.mean():.1%}", saved)
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def main() -> None:
    """Print the table for a market."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("market", type=Path)
    parser.add_argument("--policy", nargs="+", required=True)
    parser.add_argument("--planner", default="service-champion")
    parser.add_argument("--demand", type=int, default=3)
    arguments = parser.parse_args()
    settings = ServiceGateSettings(demand=arguments.demand)
    rows = beside_the_planner(arguments.policy, arguments.planner, Market.load(arguments.market), settings)
    print("\n".join([HEADING, "|---|---|---|---|---|---|", *rows]))  # noqa: T201 -- the output of the command


def _replayed(
    policy: str, windows: Windows, target: float, ticks: int, settings: ServiceGateSettings
) -> pd.DataFrame:
    service = Service.of(
        np.full(ticks, settings.demand),
        tick_seconds=windows.stack.tick_seconds,
        availability_target=target,
        cold_start_seconds=settings.cold_start_seconds,
    )
    return replay_service([load_policy(policy, "service")], windows, service)


if __name__ == "__main__":
    main()
