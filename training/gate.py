"""The promotion gate: what a deadline policy must show on held-out windows before it becomes the default."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from policies.protocol import DeadlinePolicy
from policies.registry import load_policy
from policies.shield import Shielded
from simulator.deadline import DeadlineBatch, DeadlineJob
from simulator.deadline.observation import FloatArray
from simulator.deadline.replay import Windows, replay
from simulator.errors import InputError
from simulator.market import Market
from training.evaluation import GAP_BASELINE, gap_closed, windows_of

TIMED_DECISIONS = 2000


class Variant(BaseModel):
    """One job that the gate replays.

    Attributes:
        work_hours: Work.
        deadline_hours: Time by which it is due.
        restart_overhead_minutes: Paid by every launch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    work_hours: float = Field(gt=0)
    deadline_hours: float = Field(gt=0)
    restart_overhead_minutes: float = Field(ge=0)

    @property
    def name(self) -> str:
        """The variant in words."""
        return (
            f"{self.work_hours:g} h due in {self.deadline_hours:g} h, "
            f"overhead {self.restart_overhead_minutes:g} min"
        )

    def job(self) -> DeadlineJob:
        """The job."""
        return DeadlineJob(
            self.work_hours * 3600, self.deadline_hours * 3600, self.restart_overhead_minutes * 60
        )


class GateSettings(BaseModel):
    """What the gate asks for.

    Attributes:
        variants: Jobs to replay, windows side by side with two ticks between them.
        baselines: Policies to beat; the best of them over all variants is the one that counts.
        worst_variant_loss: In no variant may it cost more than this above the best baseline there.
        decision_us_p99: Most microseconds of one decision, 99th percentile.
        level: Confidence of the interval whose lower end must be above zero.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    variants: tuple[Variant, ...] = Field(
        default=tuple(
            Variant(work_hours=48, deadline_hours=deadline, restart_overhead_minutes=overhead)
            for deadline in (52, 70)
            for overhead in (3, 12)
        ),
        min_length=1,
    )
    baselines: tuple[str, ...] = Field(
        default=("on-demand", "spot-when-available", "greedy", "uniform-progress"), min_length=1
    )
    worst_variant_loss: float = Field(default=0.02, ge=0)
    decision_us_p99: float = Field(default=500.0, gt=0)
    level: float = Field(default=0.95, gt=0, lt=1)
    resamples: int = Field(default=2000, ge=100)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement: what was asked, what was found, and whether that will do."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says.

    Attributes:
        checks: Every requirement.
        rows: The evaluation table that goes into the bundle: one row per variant.
        saving: Mean saving over the best baseline, as a share of its cost.
        interval: Its bootstrap interval.
        baseline: The best baseline.
    """

    checks: tuple[Check, ...]
    rows: tuple[Mapping[str, float | int | str], ...]
    saving: float
    interval: tuple[float, float]
    baseline: str

    @property
    def passed(self) -> bool:
        """Whether every requirement is met."""
        return all(check.passed for check in self.checks)


def judge(
    policy: DeadlinePolicy,
    markets: Sequence[tuple[str, Market]],
    settings: GateSettings | None = None,
    watch: Callable[[str], None] = lambda text: None,
) -> Verdict:
    """Replay a policy and the baselines on held-out markets, every pool alone.

    Args:
        policy: Without or with a shield; it is judged behind one.
        markets: Held-out markets by name; a pool is a zone of the bootstrap.
        settings: What to ask for.
        watch: Told what is being done.

    Raises:
        InputError: A window does not fit a market, or there are fewer than two pools.
    """
    settings = settings or GateSettings()
    shielded = policy if isinstance(policy, Shielded) else Shielded(policy)
    relative: dict[str, list[list[FloatArray]]] = {}
    rows: list[dict[str, float | int | str]] = []
    missed = 0
    for variant in settings.variants:
        job = variant.job()
        tick = markets[0][1].tick_seconds
        windows = windows_of(markets, job, round(job.deadline_seconds / tick) + 2, "each")
        if len(windows.names) < 2:
            raise InputError("the gate resamples pools; accepted: markets with at least two pools together")
        watch(variant.name)
        row, costs = _replay(shielded, windows, job, settings)
        rows.append({"variant": variant.name, **row})
        missed += int(row["missed_deadlines"])
        for name, by_zone in costs.items():
            relative.setdefault(name, []).append(by_zone)
    means = {name: float(np.mean([np.concatenate(v).mean() for v in by])) for name, by in relative.items()}
    baseline = min(settings.baselines, key=lambda name: means[name])
    draws = _bootstrap(relative[_CANDIDATE], relative[baseline], settings)
    tail = 50.0 * (1.0 - settings.level)
    low, high = (float(x) for x in np.percentile(draws, [tail, 100.0 - tail]))
    losses = [
        np.concatenate(mine).mean() / min(np.concatenate(relative[b][v]).mean() for b in settings.baselines)
        - 1.0
        for v, mine in enumerate(relative[_CANDIDATE])
    ]
    watch("decision time")
    micros = _decision_us_p99(shielded, markets[0][1], settings.variants[0].job())
    checks = (
        Check(
            "no avoidable miss", missed == 0, f"{missed} of {sum(int(r['episodes']) for r in rows)} missed"
        ),
        Check(
            f"saving over {baseline} above zero at {settings.level:.0%}",
            low > 0.0,
            f"{low:.2%} to {high:.2%}",
        ),
        Check(
            f"worst variant loses at most {settings.worst_variant_loss:.0%}",
            bool(max(losses) <= settings.worst_variant_loss),
            f"{max(losses):+.2%} against the best baseline there",
        ),
        Check(
            f"one decision in at most {settings.decision_us_p99:g} us (p99)",
            micros <= settings.decision_us_p99,
            f"{micros:.0f} us",
        ),
    )
    return Verdict(checks, tuple(rows), 1.0 - means[_CANDIDATE] / means[baseline], (low, high), baseline)


_CANDIDATE = ""
"""Key of the judged policy among the baselines, whose names are never empty."""


def _replay(
    policy: DeadlinePolicy, windows: Windows, job: DeadlineJob, settings: GateSettings
) -> tuple[dict[str, float | int | str], dict[str, list[FloatArray]]]:
    """One row of the table, and costs relative to on-demand by policy and zone."""
    names = list(dict.fromkeys((*settings.baselines, GAP_BASELINE)))
    mine = replay([policy], windows, job)
    others = {name: replay([load_policy(name)], windows, job, with_optimum=False) for name in names}
    on_demand = mine["on_demand_usd"].to_numpy(np.float64)
    zones = [np.flatnonzero(windows.market == zone) for zone in range(len(windows.names))]

    def by_zone(cost: FloatArray) -> list[FloatArray]:
        return [(cost / on_demand)[rows] for rows in zones]

    cost = mine["cost_usd"].to_numpy(np.float64)
    optimum = mine["optimum_usd"].to_numpy(np.float64)
    baseline = others[GAP_BASELINE]["cost_usd"].to_numpy(np.float64)
    gap = gap_closed(cost, baseline, optimum)
    row: dict[str, float | int | str] = {
        "episodes": len(cost),
        "cost_usd": round(float(cost.mean()), 4),
        "relative_to_on_demand": round(float(cost.mean() / on_demand.mean()), 4),
        "gap_closed": "none to close" if gap is None else round(gap, 4),
        "clairvoyant_optimum_usd": round(float(optimum.mean()), 4),
        "missed_deadlines": int(mine["missed"].sum()),
    }
    for name in settings.baselines:
        row[f"{name}_usd"] = round(float(others[name]["cost_usd"].mean()), 4)
    costs = {name: by_zone(others[name]["cost_usd"].to_numpy(np.float64)) for name in settings.baselines}
    return row, {_CANDIDATE: by_zone(cost), **costs}


def _bootstrap(
    mine: list[list[FloatArray]], other: list[list[FloatArray]], settings: GateSettings
) -> FloatArray:
    """(R,) paired savings: zones are drawn with replacement, and windows within each drawn zone."""
    generator = np.random.default_rng(settings.seed)
    zones = len(mine[0])
    drawn = generator.integers(0, zones, (settings.resamples, zones))
    own, theirs = np.zeros(settings.resamples), np.zeros(settings.resamples)
    for slot in range(zones):
        for zone in range(zones):
            rows = np.flatnonzero(drawn[:, slot] == zone)
            for a, b in zip(mine, other, strict=True):
                windows = generator.integers(0, len(a[zone]), (len(rows), len(a[zone])))
                own[rows] += a[zone][windows].mean(axis=1)
                theirs[rows] += b[zone][windows].mean(axis=1)
    return np.asarray(1.0 - own / theirs)


def _decision_us_p99(policy: DeadlinePolicy, market: Market, job: DeadlineJob) -> float:
    windows = Windows.each_pool(market.select([0]), job, market.ticks)
    batch = DeadlineBatch.of(windows.stack, job, windows.market[:1], windows.start[:1])
    memory = policy.reset(1)
    micros = []
    seen = batch.observe()
    for _ in range(TIMED_DECISIONS):
        began = time.perf_counter()
        policy.act(seen, memory)
        micros.append(1e6 * (time.perf_counter() - began))
    return float(np.percentile(micros[50:], 99))
