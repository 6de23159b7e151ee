"""How often the 90 % interval covers what a policy costs in windows it has not seen.

`python -m optimizer.recommend.calibration` prints the table of `docs/recommend.md`: many markets are drawn,
the interval of a month's cost comes from the first part of each and is held to the 30 days after it.
`--market FILE` takes recorded markets instead, cut into parts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from optimizer.recommend.jobs import JobCase, replay_job
from optimizer.recommend.match import NamedMarket
from optimizer.recommend.services import Case, replay_cases
from optimizer.recommend.windows import Spans, WindowPlan, choose_length, interval, plan_windows
from policies.registry import load_policy
from simulator.deadline import DeadlineJob
from simulator.deadline.observation import FloatArray, IntArray
from simulator.market import Market, Pool
from simulator.synthetic import load_model, synthetic_market

MONTH_DAYS = 30
"""Horizon of drawn markets; recorded ones are shorter, see `--horizon-days`."""
SERVICE_POLICIES = ("spot-only", "static-mix-50", "spothedge-1")
JOB_POLICIES = ("spot-when-available", "greedy", "uniform-progress")
ON_DEMAND, SPOT = 3.06, 0.9731


@dataclass(frozen=True)
class Coverage:
    """How one policy fared: held-out months inside the interval, of how many, and its mean width."""

    kind: str
    policy: str
    days: int
    inside: int
    months: int
    width: float

    @property
    def share(self) -> float:
        """Share of the months whose cost lay in the interval."""
        return self.inside / self.months if self.months else float("nan")


def calibrate(
    markets: Sequence[Market],
    days: int,
    *,
    kinds: Sequence[str] = ("service", "deadline-job"),
    horizon_days: int = MONTH_DAYS,
    windows: int = 60,
    seed: int = 0,
) -> list[Coverage]:
    """Hold the interval from the first `days` of every market to the days after them.

    Args:
        markets: Each at least `days` + `horizon_days` long.
        days: Length of the part that the interval comes from.
        horizon_days: Length of what is held to it.
        kinds: Workloads.
        windows: Windows in it.
        seed: Of windows and demand.
    """
    policies = {"service": SERVICE_POLICIES, "deadline-job": JOB_POLICIES}
    found = []
    for kind in kinds:
        for policy in policies[kind]:
            inside, months, widths = 0, 0, []
            for number, market in enumerate(markets):
                low, high, real = _month(market, (days, horizon_days), kind, policy, windows, seed + number)
                inside += low <= real <= high
                months += 1
                widths.append((high - low) / max(real, 1e-9))
            found.append(Coverage(kind, policy, days, inside, months, float(np.mean(widths))))
    return found


def _month(
    market: Market, spans: tuple[int, int], kind: str, policy: str, windows: int, seed: int
) -> tuple[float, float, float]:
    """The interval from the first part, and the ratio to on-demand that the month after it had."""
    days, horizon_days = spans
    per_day = 86400 // market.tick_seconds
    known = NamedMarket("known", market.window(0, days * per_day))
    after = NamedMarket("after", market.window(days * per_day, horizon_days * per_day))
    hours = choose_length([known], horizon_days * 24)
    plan = plan_windows([known], hours, windows, seed)
    if plan is None:
        raise SystemExit(f"a market of {days} days is too short")
    ratios = _ratios(known, plan, kind, policy, seed)
    real = _ratios(
        after,
        WindowPlan(np.zeros(1, np.int64), np.zeros(1, np.int64), horizon_days * 24, 1),
        kind,
        policy,
        seed,
    )
    low, high = interval(ratios, Spans(hours, plan.independent, horizon_days * 24))
    return low, high, float(real[0])


def _ratios(named: NamedMarket, plan: WindowPlan, kind: str, policy: str, seed: int) -> FloatArray:
    tick = named.market.tick_seconds
    if kind == "deadline-job":
        job = DeadlineJob(5 * 3600.0, 24 * 3600.0, 720.0)
        period = 86400 // tick
        runs = max(plan.hours // 24, 1)
        case = JobCase((named,), plan.market, plan.start, runs, period, job, ON_DEMAND)
        outcome = replay_job(case, policy)
        return outcome.cost / outcome.on_demand
    ticks = plan.hours * 3600 // tick
    demand = _demand(len(plan.start), plan.start, ticks, tick, seed)
    service = Case((named,), plan.market, plan.start, demand, 0, 0.99, ON_DEMAND)
    loaded = load_policy(policy, "service")
    (found,) = replay_cases([service], lambda numbers: loaded, run=_one_by_one)
    return found.cost / found.on_demand


def _one_by_one(tasks: Sequence[Callable[[], None]]) -> None:
    for task in tasks:
        task()


def _demand(windows: int, start: IntArray, ticks: int, tick: int, seed: int) -> IntArray:
    """A daily rhythm between 2 and 8 instances, in step with the hour of the market."""
    hour = (start[:, None] + np.arange(ticks)) * tick / 3600.0 % 24.0
    shift = np.random.default_rng(seed).integers(0, 24)
    wave = 5.0 + 3.0 * np.sin((hour + shift) / 24.0 * 2.0 * np.pi)
    return np.asarray(np.round(wave), np.int64).reshape(windows, ticks)


def drawn_markets(count: int, days: int, seed: int = 5000) -> list[Market]:
    """Synthetic markets of three zones with room for every demand."""
    model = load_model()
    pools = [Pool("synthetic", "us-east-1", f"us-east-1{zone}", "v100") for zone in "abc"]
    return [
        synthetic_market(
            model,
            pools,
            ticks=days * 144,
            seed=seed + number,
            spot_price=SPOT,
            on_demand_price=ON_DEMAND,
            capacity=20,
            start=datetime(2024, 1, 1, tzinfo=UTC),
        )
        for number in range(count)
    ]


def cut(market: Market, days: int) -> list[Market]:
    """Parts of a recorded market, one after the other, `days` long; every pool alone is a market too."""
    length = days * 86400 // market.tick_seconds
    singles = [market.select([row]) for row in range(len(market.pools))]
    return [
        each.window(start, length)
        for each in (market, *singles)
        for start in range(0, each.ticks - length + 1, length)
    ]


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markets", type=int, default=60, help="markets to draw")
    parser.add_argument("--days", type=int, nargs="+", default=[30, 60, 90], help="days known")
    parser.add_argument("--market", type=Path, action="append", default=[], help="recorded market instead")
    parser.add_argument("--horizon-days", type=int, default=MONTH_DAYS, help="days predicted")
    chosen = parser.parse_args()
    out = sys.stdout
    out.write("| workload | policy | days known | months | inside the 90 % interval | mean width / cost |\n")
    out.write("|---|---|---:|---:|---:|---:|\n")
    for days in chosen.days:
        whole = days + chosen.horizon_days
        markets = (
            [part for path in chosen.market for part in cut(Market.load(path), whole)]
            if chosen.market
            else drawn_markets(chosen.markets, whole)
        )
        for one in calibrate(markets, days, horizon_days=chosen.horizon_days):
            out.write(
                f"| {one.kind} | {one.policy} | {one.days} | {one.months} | {one.share:.1%} | "
                f"{one.width:.1%} |\n"
            )
        out.flush()


if __name__ == "__main__":
    main()
