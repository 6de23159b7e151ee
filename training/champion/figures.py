"""The figures of docs/policies.md: `python -m training.champion.figures TRAINING HELD_OUT`.

TRAINING is a market of the training zones at their trace's own tick, HELD_OUT one of other zones at ten
minutes. Every policy is replayed on every held-out zone alone, windows side by side with two ticks between
them, 48 h of work, four settings of deadline and overhead. Printed as a table: the share of the way from
Uniform Progress to the clairvoyant optimum, and the mean over settings with a 95 % interval, as is its
difference to the planner (bootstrap: zones resampled, and windows within each zone; both the same ones for
all policies).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policies.baselines import Greedy, UniformProgress
from policies.bundle import read_bundle
from policies.guided import GuidedPolicy
from policies.planner import SemiMarkovPlanner
from policies.planner.fit import AGE_EDGES, CHUNK_TICKS, TYPES, availability_series, fit_planner_model
from policies.protocol import DeadlinePolicy
from policies.registry import CHAMPIONS
from policies.shield import Shielded
from simulator.deadline.observation import FloatArray, IntArray
from simulator.deadline.optimum import clairvoyant_optimum
from simulator.deadline.replay import Windows, run
from simulator.errors import InputError
from simulator.market import Market
from simulator.synthetic import fit_semi_markov
from training.gate import GateSettings, Variant

PLANNER = "planner"
INSIDER = "no contender: planner fitted to the held-out zones"
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Figure:
    """How one policy did.

    Attributes:
        name: What the row is called.
        gaps: Share of the gap closed, per variant.
        mean: Their mean.
        interval: 95 % of the mean.
        over_planner: 95 % interval of the mean's difference to the planner's.
        missed: Missed deadlines.
    """

    name: str
    gaps: tuple[float, ...]
    mean: float
    interval: tuple[float, float]
    over_planner: tuple[float, float]
    missed: int


@dataclass(frozen=True, eq=False)
class Replayed:
    """One variant: costs of every policy and of the optimum, (N,) USD in the same order of windows."""

    zone: IntArray
    costs: Mapping[str, FloatArray]
    optimum: FloatArray

    def gap(self, name: str, rows: IntArray) -> FloatArray:
        """Share of the gap closed over windows `rows`, (..., N) numbers of windows."""
        base = self.costs[UniformProgress().name][rows].mean(axis=-1)
        way = base - self.optimum[rows].mean(axis=-1)
        return np.asarray((base - self.costs[name][rows].mean(axis=-1)) / way)


def contenders(
    training: Sequence[Market], held_out: Market, champion: GuidedPolicy
) -> dict[str, DeadlinePolicy]:
    """Policies by the name of their row: heuristics, planner and its ablations, each network, all of them.

    `INSIDER` is no contender: its model is fitted to the very series it is replayed on, which tells how much
    is to be had from knowing the zones better.
    """
    series = [each for market in training for each in availability_series(market)]

    def fitted(
        types: int, edges: tuple[int, ...], to: Sequence[NDArray[np.bool_]] = series
    ) -> SemiMarkovPlanner:
        return SemiMarkovPlanner(
            fit_semi_markov(to, types=types, chunk_ticks=CHUNK_TICKS, age_edges=edges), unlike=0.0
        )

    rows: dict[str, DeadlinePolicy] = {
        "greedy": Greedy(),
        PLANNER: SemiMarkovPlanner(fit_planner_model(training)),
        "planner of fitted types only": fitted(TYPES, AGE_EDGES),
        "planner without belief (one type)": fitted(1, AGE_EDGES),
        "planner without age (one bucket)": fitted(TYPES, AGE_EDGES[:1]),
        "planner without either": fitted(1, AGE_EDGES[:1]),
        INSIDER: fitted(TYPES, AGE_EDGES, availability_series(held_out)),
    }
    members = champion.layers[0][0].shape[0]
    for seed in range(members):
        layers = tuple((w[seed : seed + 1], b[seed : seed + 1]) for w, b in champion.layers)
        rows[f"champion, network of seed {seed} alone"] = replace(champion, layers=layers)
    rows[f"champion ({members} networks)"] = champion
    return rows


def replay_variant(market: Market, variant: Variant, policies: Mapping[str, DeadlinePolicy]) -> Replayed:
    """Every policy and the optimum on every window of one variant; a missed deadline costs infinity."""
    job = variant.job()
    windows = Windows.each_pool(market, job, round(job.deadline_seconds / market.tick_seconds) + 2)
    costs: dict[str, FloatArray] = {}
    for name, policy in {UniformProgress().name: UniformProgress(), **policies}.items():
        batch = run(Shielded(policy), windows, job)
        costs[name] = np.where(batch.missed, np.inf, batch.cost)
    optimum = clairvoyant_optimum(windows.stack, job, windows.market, windows.start)
    return Replayed(windows.market, costs, optimum)


def figures(
    market: Market, policies: Mapping[str, DeadlinePolicy], variants: Sequence[Variant], seed: int = 0
) -> list[Figure]:
    """One row per policy; `PLANNER` must be among them."""
    replayed = [replay_variant(market, variant, policies) for variant in variants]
    generator = np.random.default_rng(seed)
    count = len(market.pools)
    zones = generator.integers(0, count, (RESAMPLES, count))
    draws = [_draws(generator, each.zone, zones) for each in replayed]

    def of(name: str) -> FloatArray:
        gaps = [each.gap(name, rows) for each, rows in zip(replayed, draws, strict=True)]
        return np.asarray(np.mean(gaps, axis=0))

    planner = of(PLANNER)
    rows = []
    for name in policies:
        gaps = tuple(float(each.gap(name, np.arange(len(each.zone)))) for each in replayed)
        resampled = of(name)
        rows.append(
            Figure(
                name,
                gaps,
                float(np.mean(gaps)),
                _interval(resampled),
                _interval(resampled - planner),
                int(sum(np.isinf(each.costs[name]).sum() for each in replayed)),
            )
        )
    return rows


def _draws(generator: np.random.Generator, zone: IntArray, zones: IntArray) -> IntArray:
    """(R, N) windows: of each drawn zone as many as it has, with replacement; all zones have equally many."""
    members = np.array([np.flatnonzero(zone == each) for each in np.unique(zone)])
    count = members.shape[1]
    chosen = generator.integers(0, count, (*zones.shape, count))
    return np.asarray(np.take_along_axis(members[zones], chosen, axis=2).reshape(len(zones), -1))


def _interval(values: FloatArray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def table(rows: Sequence[Figure], variants: Sequence[Variant]) -> str:
    """The rows as a table in Markdown."""
    settings = [f"{v.deadline_hours:g} h, {v.restart_overhead_minutes:g} min" for v in variants]
    lines = [
        f"| policy | {' | '.join(settings)} | mean | 95 % | less planner, 95 % | late |",
        "|---" * (len(variants) + 5) + "|",
    ]
    for row in rows:
        gaps = " | ".join(f"{gap:.3f}" for gap in row.gaps)
        low, high = row.interval
        less = "–" if row.name == PLANNER else f"{row.over_planner[0]:+.3f} to {row.over_planner[1]:+.3f}"
        lines.append(
            f"| {row.name} | {gaps} | {row.mean:.3f} | {low:.3f} to {high:.3f} | {less} | {row.missed} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.champion.figures", description=__doc__)
    parser.add_argument("training", type=Path, help="market of the training zones at their trace's own tick")
    parser.add_argument("held_out", type=Path, help="market of other zones at ticks of ten minutes")
    parser.add_argument(
        "--champion", type=Path, default=CHAMPIONS / "deadline-champion.policy", help="its bundle"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per row instead")
    given = parser.parse_args(arguments)
    try:
        champion = GuidedPolicy.of(read_bundle(given.champion, "deadline"))
        held_out = Market.load(given.held_out)
        policies = contenders([Market.load(given.training)], held_out, champion)
        variants = GateSettings().variants
        rows = figures(held_out, policies, variants)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if given.json:
        for row in rows:
            sys.stdout.write(json.dumps({name: getattr(row, name) for name in Figure.__slots__}) + "\n")
    else:
        sys.stdout.write(table(rows, variants))
    return 0


if __name__ == "__main__":
    sys.exit(main())
