"""The promotion gate for services: what a policy must show on held-out windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from policies.registry import load_policy
from policies.service.protocol import ServicePolicy
from simulator.deadline.observation import FloatArray
from simulator.deadline.replay import Windows
from simulator.market import Market, ticks_for
from simulator.service import Service, ServiceBatch
from simulator.service.replay import replay_service, service_windows
from training.gate import Check, Verdict
from training.statistics import StratifiedBootstrap

WEEK_HOURS = 7 * 24
TIMED_TICKS = 500
TIMED_SERVICES = 1000


class ServiceBaseline(BaseModel):
    """A policy to beat at its own availability.

    Attributes:
        name: Its name.
        cheaper_by: Share of on-demand cost by which the policy must be cheaper, or may be dearer if below 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    cheaper_by: float = Field(ge=-1, le=1)


class ServiceGateSettings(BaseModel):
    """What the gate asks for.

    Attributes:
        demand: Instances needed at every tick.
        cold_start_seconds: Paid before a new instance is ready.
        window_hours: Length of a window; windows do not overlap.
        targets: Availability targets at which the policy is replayed: its frontier.
        baselines: Policies to beat.
        week_target: Target that must be kept over weeks.
        weeks_met: Share of weeks, begun every day, in which it must be kept.
        decision_us: Most microseconds per service and tick in a batch.
        level: Confidence of the intervals of cost differences.
        seed: Of the bootstrap.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    demand: int = Field(default=3, ge=1)
    cold_start_seconds: float = Field(default=120.0, ge=0)
    window_hours: float = Field(default=24.0, gt=0)
    targets: tuple[float, ...] = Field(
        default=(0.95, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.9975, 0.998, 0.9985, 0.999, 0.9995), min_length=2
    )
    baselines: tuple[ServiceBaseline, ...] = Field(
        default=(
            ServiceBaseline(name="spothedge-0", cheaper_by=-0.005),
            ServiceBaseline(name="spothedge-1", cheaper_by=0.05),
            ServiceBaseline(name="spothedge-2", cheaper_by=0.12),
        ),
        min_length=1,
    )
    week_target: float = Field(default=0.995, gt=0, lt=1)
    weeks_met: float = Field(default=0.95, ge=0, le=1)
    decision_us: float = Field(default=5.0, gt=0)
    level: float = Field(default=0.95, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)


def judge_service(
    policy: ServicePolicy,
    markets: Sequence[tuple[str, Market]],
    settings: ServiceGateSettings | None = None,
    watch: Callable[[str], None] = lambda text: None,
) -> Verdict:
    """Replay a policy's frontier and the baselines on held-out markets, all pools of a market together.

    A baseline's availability is met by mixing, in equal windows, the two targets of the policy next to it.

    Args:
        policy: The policy.
        markets: Held-out markets by name.
        settings: What to ask for.
        watch: Told what is being done.

    Returns:
        The verdict; `saving` is over the second baseline, as a share of on-demand cost.

    Raises:
        InputError: A window does not fit a market.
    """
    settings = settings or ServiceGateSettings()
    tick = markets[0][1].tick_seconds
    ticks = ticks_for(settings.window_hours * 3600.0, tick)
    windows = [service_windows([market], ticks) for market in markets]
    frontier = []
    for target in sorted(settings.targets):
        watch(f"target {target:g}")
        frontier.append(_replayed(policy, windows, _service(settings, tick, target)))
    stratum = np.repeat(np.arange(len(windows)), [len(each.start) for each in windows])
    bootstrap = StratifiedBootstrap(stratum, settings.seed)
    checks: list[Check] = []
    rows: list[dict[str, float | int | str]] = []
    savings: list[tuple[float, tuple[float, float]]] = []
    for baseline in settings.baselines:
        watch(baseline.name)
        other = _replayed(
            load_policy(baseline.name, "service"), windows, _service(settings, tick, settings.week_target)
        )
        mixed = cost_at(frontier, float(other["availability"].mean()))
        saved = _column(other, "relative_cost") - mixed
        low, high = bootstrap.mean_interval(saved, settings.level)
        savings.append((float(saved.mean()), (low, high)))
        rows.append(
            {
                "variant": f"at the availability of {baseline.name}",
                "episodes": len(other),
                "availability": round(float(other["availability"].mean()), 5),
                "cost_relative_to_on_demand": round(float(mixed.mean()), 4),
                f"{baseline.name}_relative": round(float(other["relative_cost"].mean()), 4),
                "saving_low": round(low, 4),
                "saving_high": round(high, 4),
            }
        )
        found = f"{saved.mean():.1%} of on-demand ({settings.level:.0%}: {low:.1%} to {high:.1%})"
        checks.append(
            Check(
                f"{-baseline.cheaper_by:.1%} dearer than {baseline.name} at most"
                if baseline.cheaper_by < 0
                else f"at least {baseline.cheaper_by:.1%} cheaper than {baseline.name}",
                bool(saved.mean() >= baseline.cheaper_by and (low > 0 or baseline.cheaper_by < 0)),
                found,
            )
        )
    checks.append(_weeks(policy, markets, settings))
    watch("decision time")
    micros = _decision_us(policy, windows[0], _service(settings, tick, settings.week_target))
    checks.append(
        Check(
            f"a decision in at most {settings.decision_us:g} us in a batch",
            micros <= settings.decision_us,
            f"{micros:.1f} us",
        )
    )
    place = min(1, len(savings) - 1)
    return Verdict(
        tuple(checks), tuple(rows), savings[place][0], savings[place][1], settings.baselines[place].name
    )


def _service(settings: ServiceGateSettings, tick: int, target: float) -> Service:
    return Service.of(
        settings.demand,
        ticks=ticks_for(settings.window_hours * 3600.0, tick),
        tick_seconds=tick,
        availability_target=target,
        cold_start_seconds=settings.cold_start_seconds,
    )


def _replayed(policy: ServicePolicy, windows: Sequence[Windows], service: Service) -> pd.DataFrame:
    return pd.concat([replay_service([policy], each, service) for each in windows], ignore_index=True)


def cost_at(frontier: Sequence[pd.DataFrame], availability: float) -> FloatArray:
    """(N,) relative cost of each window where the frontier has this mean availability.

    Below the frontier's lowest availability its cheapest point counts; above its highest all on-demand does,
    at a relative cost of 1, which everybody can have.
    """
    means = np.array([table["availability"].mean() for table in frontier])
    costs = [_column(table, "relative_cost") for table in frontier]
    enough = np.flatnonzero(means >= availability - 1e-12)
    if len(enough) == 0:
        return np.ones(len(costs[0]))
    upper = int(min(enough, key=lambda k: costs[k].mean()))
    below = [
        k for k in range(len(means)) if means[k] < availability and costs[k].mean() < costs[upper].mean()
    ]
    if not below:
        return costs[upper]
    lower = max(below, key=lambda k: means[k])
    share = (availability - means[lower]) / (means[upper] - means[lower])
    return np.asarray((1.0 - share) * costs[lower] + share * costs[upper])


def _weeks(
    policy: ServicePolicy, markets: Sequence[tuple[str, Market]], settings: ServiceGateSettings
) -> Check:
    tick = markets[0][1].tick_seconds
    ticks = ticks_for(WEEK_HOURS * 3600.0, tick)
    long = [(name, market) for name, market in markets if market.ticks >= ticks]
    name = f"{settings.week_target:.2%} kept in at least {settings.weeks_met:.0%} of weeks"
    if not long:
        return Check(name, False, "no market of a week")
    windows = [service_windows([market], ticks, ticks_for(86400.0, tick)) for market in long]
    service = replace(_service(settings, tick, settings.week_target), demand=np.full(ticks, settings.demand))
    table = _replayed(policy, windows, service)
    met = table["availability"].to_numpy() >= settings.week_target - 1e-12
    return Check(name, bool(met.mean() >= settings.weeks_met), f"{int(met.sum())} of {len(met)}")


def _decision_us(policy: ServicePolicy, windows: Windows, service: Service) -> float:
    """Mean CPU microseconds per service and tick of a batch, without the first ticks that compile."""
    count = min(TIMED_TICKS, service.ticks - 1)
    starts = np.resize(windows.start, TIMED_SERVICES)
    batch = ServiceBatch(windows.stack, service, np.resize(windows.market, TIMED_SERVICES), starts)
    memory = policy.reset(batch.size, windows.stack.pools)
    micros = []
    for _ in range(count):
        seen = batch.observe()
        began = time.process_time()
        asked, memory = policy.act(seen, memory)
        micros.append(1e6 * (time.process_time() - began) / batch.size)
        batch.step(asked)
    return float(np.mean(micros[min(5, len(micros) - 1) :]))


def _column(table: pd.DataFrame, name: str) -> FloatArray:
    return table[name].to_numpy(np.float64)
