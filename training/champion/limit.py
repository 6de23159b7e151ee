"""How near the limit is: `python -m training.champion.limit`.

Series are drawn from the fitted model itself, so that the best that anybody can do without knowing the
future is known: the planner that is told each zone's type solves them exactly. A policy that closes as much
of the way from Uniform Progress to the clairvoyant optimum as that one has nothing left to gain but knowledge
of the future.

The second and third table draw zones of another season: the hazards of each zone are those of a fitted type
times two factors, one for runs with spot and one for runs without, whose logarithms are normal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from policies.baselines import UniformProgress
from policies.bundle import read_bundle
from policies.guided import GuidedPolicy
from policies.planner import SemiMarkovPlanner
from policies.protocol import DeadlinePolicy
from policies.registry import CHAMPIONS
from policies.shield import Shielded
from simulator.deadline.optimum import clairvoyant_optimum
from simulator.deadline.replay import Windows, run
from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.synthetic import SemiMarkovModel, simulate_availability
from training.gate import GateSettings, Variant

TOLD = "planner that is told the type: the limit"
SPREADS = (0.0, 0.5, 1.0)
"""Standard deviation of the logarithms of a zone's two factors."""
BUCKET_SPREAD = 0.2
"""The same, of each hazard's own factor, in zones of another season."""
WARM_UP_TICKS = 300
"""Dropped, so that a window begins anywhere in a run."""
START = datetime(2023, 1, 1, tzinfo=UTC)

Gaps = Mapping[str, Sequence[float]]


def limit(
    model: SemiMarkovModel,
    policies: Mapping[str, DeadlinePolicy],
    variants: Sequence[Variant],
    *,
    spread: float,
    zones: int,
    windows: int,
    seed: int = 0,
) -> Gaps:
    """Share of the way from Uniform Progress to the optimum that each policy closes.

    Args:
        model: What the zones are drawn from.
        policies: By the name of their row.
        variants: Jobs.
        spread: Of the zones' factors; 0 draws zones of exactly the fitted types.
        zones: Zones drawn.
        windows: Independent windows of each.
        seed: Of everything drawn.

    Returns:
        For each policy and for `TOLD`, the share per variant.
    """
    generator = np.random.default_rng(seed)
    spent: dict[str, list[list[float]]] = {}
    for child in np.random.SeedSequence(seed).spawn(zones):
        kind = zone_of(model, spread, generator)
        market = windows_of(kind, windows, _longest(variants, model.tick_seconds), child)
        told: dict[str, DeadlinePolicy] = {TOLD: SemiMarkovPlanner(kind, unlike=0.0), "": UniformProgress()}
        for name, costs in _costs(market, {**policies, **told}, variants).items():
            spent.setdefault(name, []).append(costs)
    mean = {name: np.mean(costs, axis=0) for name, costs in spent.items()}
    base, optimum = mean.pop(""), mean.pop("optimum")
    return {name: [float(gap) for gap in (base - cost) / (base - optimum)] for name, cost in mean.items()}


def zone_of(model: SemiMarkovModel, spread: float, generator: np.random.Generator) -> SemiMarkovModel:
    """A model of one type: a fitted one, times random factors if `spread` is not 0."""
    kind = generator.choice(len(model.prior), p=model.prior)
    hazard = model.hazard[kind : kind + 1]
    factors = np.exp(
        spread * generator.standard_normal((1, 2, 1))
        + BUCKET_SPREAD * generator.standard_normal(hazard.shape)
    )
    if spread > 0.0:
        hazard = np.clip(hazard * factors, 1e-4, 0.95)
    return replace(model, hazard=hazard, prior=np.ones(1))


def windows_of(kind: SemiMarkovModel, windows: int, ticks: int, seed: np.random.SeedSequence) -> Market:
    """A market whose pools are independent windows of one zone."""
    up = simulate_availability(kind, ["z"] * windows, ticks=WARM_UP_TICKS + ticks, seed=seed)
    return Market.build(
        [Pool("synthetic", "z", f"z{window}", "any") for window in range(windows)],
        tick_seconds=kind.tick_seconds,
        start=START,
        spot_price=np.full((windows, 1), 0.9731),
        on_demand_price=np.full((windows, 1), 3.06),
        spot_capacity=up[:, WARM_UP_TICKS:].astype(np.int32),
    )


def _longest(variants: Sequence[Variant], tick_seconds: int) -> int:
    return int(np.ceil(max(variant.deadline_hours for variant in variants) * 3600 / tick_seconds))


def _costs(
    market: Market, policies: Mapping[str, DeadlinePolicy], variants: Sequence[Variant]
) -> dict[str, list[float]]:
    costs: dict[str, list[float]] = {name: [] for name in (*policies, "optimum")}
    for variant in variants:
        job = variant.job()
        windows = Windows.each_pool(market, job, market.ticks)
        for name, policy in policies.items():
            costs[name].append(float(run(Shielded(policy), windows, job).cost.mean()))
        optimum = clairvoyant_optimum(windows.stack, job, windows.market, windows.start)
        costs["optimum"].append(float(optimum.mean()))
    return costs


def table(gaps: Gaps, variants: Sequence[Variant]) -> str:
    """The rows as a table in Markdown."""
    settings = [f"{v.deadline_hours:g} h, {v.restart_overhead_minutes:g} min" for v in variants]
    lines = [f"| policy | {' | '.join(settings)} | mean |", "|---" * (len(variants) + 2) + "|"]
    for name, row in gaps.items():
        lines.append(f"| {name} | {' | '.join(f'{gap:.3f}' for gap in row)} | {np.mean(row):.3f} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one table per spread; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.champion.limit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--champion", type=Path, default=CHAMPIONS / "deadline-champion.policy", help="its bundle"
    )
    parser.add_argument("--zones", type=int, default=60, help="zones drawn per table")
    parser.add_argument("--windows", type=int, default=30, help="windows per zone")
    given = parser.parse_args(arguments)
    try:
        if given.zones < 1 or given.windows < 1:
            raise InputError("--zones and --windows: accepted: at least 1")
        champion = GuidedPolicy.of(read_bundle(given.champion, "deadline"))
        model = champion.planner.model
        policies: dict[str, DeadlinePolicy] = {
            "planner of fitted types only": SemiMarkovPlanner(model, unlike=0.0),
            "planner": SemiMarkovPlanner(model),
            "champion": champion,
        }
        variants = GateSettings().variants
        for spread in SPREADS:
            gaps = limit(model, policies, variants, spread=spread, zones=given.zones, windows=given.windows)
            sys.stdout.write(f"spread {spread:g}\n\n{table(gaps, variants)}\n")
            sys.stdout.flush()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
