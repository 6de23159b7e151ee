"""How often the 90 % interval covers what a policy costs in windows it has not seen.

`python -m optimizer.recommend.calibration` prints the table of `docs/recommend.md`: many markets are drawn,
the interval of a month's cost comes from the first part of each and is held to the 30 days after it.
`--market FILE` takes a recorded market instead: every pool alone and all together, from day to day.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from scipy.special import betaincinv

from optimizer.recommend.jobs import JobCase, replay_job
from optimizer.recommend.match import NamedMarket
from optimizer.recommend.services import Case, replay_cases
from optimizer.recommend.windows import Spans, WindowPlan, choose_length, interval, plan_windows
from policies.registry import load_policy
from simulator.deadline import DeadlineJob
from simulator.deadline.observation import FloatArray, IntArray
from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.synthetic import load_model, synthetic_market

MONTH_DAYS = 30
"""Horizon of drawn markets; recorded ones are shorter, see `--horizon-days`."""
SERVICE_POLICIES = ("spot-only", "static-mix-50", "spothedge-1")
JOB_POLICIES = ("spot-when-available", "greedy", "uniform-progress")
ON_DEMAND, SPOT = 3.06, 0.9731


@dataclass(frozen=True)
class Coverage:
    """How one policy fared.

    Attributes:
        kind: Kind of workload.
        policy: Name.
        days: Known.
        horizon_days: Predicted.
        cases: Spans that were held to an interval.
        apart: How many of them lie side by side and so say something each.
        inside: Cases whose cost lay in the interval.
        width: Sum of the widths over the sum of the costs.
        of_on_demand: Mean width, as a share of what on-demand capacity costs.
    """

    kind: str
    policy: str
    days: int
    horizon_days: int
    cases: int
    apart: int
    inside: int
    width: float
    of_on_demand: float

    @property
    def share(self) -> float:
        """Share of the cases whose cost lay in the interval."""
        return self.inside / self.cases

    @property
    def range(self) -> tuple[float, float]:
        """What the true share may be, at 95 % (Clopper and Pearson), as many cases as lie side by side."""
        hits = self.share * self.apart
        low = float(betaincinv(hits, self.apart - hits + 1, 0.025)) if hits > 0 else 0.0
        high = float(betaincinv(hits + 1, self.apart - hits, 0.975)) if hits < self.apart else 1.0
        return low, high


def calibrate(
    markets: Sequence[Market],
    days: int,
    *,
    kinds: Sequence[str] = ("service", "deadline-job"),
    horizon_days: int = MONTH_DAYS,
    windows: int = 60,
    seed: int = 0,
    apart: int | None = None,
) -> list[Coverage]:
    """Hold the interval from the first `days` of every market to the days after them.

    Args:
        markets: Each at least `days` + `horizon_days` long.
        days: Length of the part that the interval comes from.
        horizon_days: Length of what is held to it.
        kinds: Workloads.
        windows: Windows in it.
        seed: Of windows and demand.
        apart: How many of the markets do not overlap; by default all.
    """
    policies = {"service": SERVICE_POLICIES, "deadline-job": JOB_POLICIES}
    found = []
    for kind in kinds:
        for policy in policies[kind]:
            rows = np.array(
                [
                    _month(market, (days, horizon_days), kind, policy, windows, seed + number)
                    for number, market in enumerate(markets)
                ]
            )
            low, high, real = rows.T
            inside = int(((low <= real) & (real <= high)).sum())
            widths = high - low
            found.append(
                Coverage(
                    kind,
                    policy,
                    days,
                    horizon_days,
                    len(markets),
                    len(markets) if apart is None else apart,
                    inside,
                    float(widths.sum() / max(real.sum(), 1e-9)),
                    float(widths.mean()),
                )
            )
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
        raise InputError(f"{days} days known; accepted: at least 4, as windows are a day or longer")
    ratios = _ratios(known, plan, kind, policy, seed)
    real = _ratios(
        after,
        WindowPlan(np.zeros(1, np.int64), np.zeros(1, np.int64), horizon_days * 24, 1),
        kind,
        policy,
        seed,
    )
    low, high = interval(ratios, Spans(hours, plan.independent, horizon_days * 24), 1.0)
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


def cut(market: Market, days: int, every: int, zones: Sequence[str] = ()) -> tuple[list[Market], int]:
    """Parts of a recorded market.

    Args:
        market: The market.
        days: Length of a part.
        every: Days from the begin of one part to that of the next.
        zones: Zones to take; by default all.

    Returns:
        Parts of every pool alone and of all together; and how many parts of pools alone lie side by side.

    Raises:
        InputError: A zone is not in the market, or the market is too short.
    """
    unknown = set(zones) - {pool.zone for pool in market.pools}
    if unknown:
        raise InputError(f"zone {sorted(unknown)[0]} is not in the market; it has {_zones(market)}")
    rows = [row for row, pool in enumerate(market.pools) if not zones or pool.zone in zones]
    per_day = 86400 // market.tick_seconds
    starts = range(0, market.ticks - days * per_day + 1, every * per_day)
    if not starts:
        raise InputError(f"a market of {market.ticks // per_day} days; accepted: at least {days}")
    sets = [[row] for row in rows] + ([rows] if len(rows) > 1 else [])
    parts = [market.select(own).window(start, days * per_day) for own in sets for start in starts]
    return parts, len(rows) * (market.ticks // (days * per_day))


def _zones(market: Market) -> str:
    return ", ".join(sorted(str(pool.zone) for pool in market.pools))


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markets", type=int, default=60, help="markets to draw")
    parser.add_argument("--seed", type=int, default=5000, help="of the first market that is drawn")
    parser.add_argument("--days", type=int, nargs="+", default=[30, 60, 90], help="days known")
    parser.add_argument("--market", type=Path, help="recorded market instead")
    parser.add_argument("--zone", action="append", default=[], help="only this zone of it; repeatable")
    parser.add_argument("--every", type=int, default=2, help="days from one part of it to the next")
    parser.add_argument("--horizon-days", type=int, nargs="+", default=[MONTH_DAYS], help="days predicted")
    chosen = parser.parse_args()
    out = sys.stdout
    out.write(
        "| workload | policy | days known | predicted | cases (side by side) | inside the 90 % interval | "
        "width / cost | width / on-demand |\n|---|---|---:|---:|---:|---:|---:|---:|\n"
    )
    for days, horizon in itertools.product(chosen.days, chosen.horizon_days):
        markets, apart = (
            (drawn_markets(chosen.markets, days + horizon, chosen.seed), None)
            if chosen.market is None
            else cut(Market.load(chosen.market), days + horizon, chosen.every, chosen.zone)
        )
        for one in calibrate(markets, days, horizon_days=horizon, apart=apart):
            low, high = one.range
            out.write(
                f"| {one.kind} | {one.policy} | {one.days} | {one.horizon_days} | "
                f"{one.cases} ({one.apart}) | {one.share:.1%} ({low:.0%} to {high:.0%}) | {one.width:.0%} | "
                f"{one.of_on_demand:.1%} |\n"
            )
            out.flush()


if __name__ == "__main__":
    main()
