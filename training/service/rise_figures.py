"""Services that are not always needed (docs/services.md): `python -m training.service.rise_figures MARKET`.

Demand rises from zero, and nobody can be ready at once: what on-demand capacity alone reaches is the most.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from policies.registry import load_policy
from simulator.deadline.observation import IntArray
from simulator.market import Market, ticks_for
from simulator.service import Service
from simulator.service.replay import replay_service, service_windows

HEADING = "| demand | target | available | cost | on-demand alone available |\n|---|---|---|---|---|"
TARGETS = (0.99, 0.995, 0.999)
COLD_START_SECONDS = 120.0
INSTANCES = 3
WEEK_HOURS, STRIDE_HOURS = 168.0, 24.0


def demands(ticks: int, tick_seconds: int) -> dict[str, IntArray]:
    """(T,) instances by what the demand is like."""
    hours = np.arange(ticks) * tick_seconds / 3600.0
    rng = np.random.default_rng(5)
    rare = np.zeros(ticks, np.int64)
    for begin in rng.integers(0, ticks, int(hours[-1] / 18.0)):
        rare[begin : begin + int(rng.integers(1, 4) * 3600 / tick_seconds)] = INSTANCES
    return {
        "ten hours a day": np.where((hours % 24 >= 8) & (hours % 24 < 18), INSTANCES, 0),
        "one to three hours, at random": rare,
        "half an hour in two hours": np.where(hours % 2 < 0.5, INSTANCES, 0),
    }


def rise_rows(policy: str, market: Market, *, hours: float = WEEK_HOURS) -> list[str]:
    """One row per demand and target: mean availability and cost over windows that begin a day apart."""
    tick = market.tick_seconds
    ticks = ticks_for(hours * 3600.0, tick)
    windows = service_windows([("market", market)], ticks, ticks_for(STRIDE_HOURS * 3600.0, tick))
    decide = [load_policy(policy, "service"), load_policy("on-demand", "service")]
    rows = []
    for name, demand in demands(ticks, tick).items():
        for target in TARGETS:
            service = Service.of(
                demand, tick_seconds=tick, availability_target=target, cold_start_seconds=COLD_START_SECONDS
            )
            table = (
                replay_service(decide, windows, service).groupby("policy", sort=False).mean(numeric_only=True)
            )
            own, alone = table.iloc[0], table.iloc[1]
            rows.append(
                f"| {name} | {target:.1%} | {own['availability']:.3%} | {own['relative_cost']:.1%} | "
                f"{alone['availability']:.3%} |"
            )
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("market", type=Path)
    parser.add_argument("--policy", default="service-champion")
    arguments = parser.parse_args()
    print(HEADING)  # noqa: T201 -- the output of the command
    for row in rise_rows(arguments.policy, Market.load(arguments.market)):
        print(row, flush=True)  # noqa: T201 -- as above


if __name__ == "__main__":
    main()
