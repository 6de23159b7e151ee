"""Judges networks on the groups of zones that they were trained without, beside the planner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from policies.planner import SemiMarkovPlanner
from policies.planner.fit import AGE_EDGES, CHUNK_TICKS, TICK_SECONDS, TYPES
from policies.protocol import DeadlinePolicy
from policies.shield import Shielded
from simulator.deadline import DeadlineJob
from simulator.deadline.observability import Observability
from simulator.deadline.observation import BoolArray
from simulator.deadline.replay import Windows, replay
from simulator.market import ticks_for
from simulator.market.build import BuildOptions, build_market
from simulator.synthetic import SemiMarkovModel, fit_semi_markov
from training.several_pools import CACHE_BYTES, GROUPS, ON_DEMAND_PRICE, SETTINGS, Fold

RESAMPLES = 5_000


def zone_series(traces: Path) -> list[BoolArray]:
    """Availability of all zones of a folder at the planner's tick, as `training.several_pools` reads them.

    Raises:
        InputError: A file is missing or not what it should be.
    """
    options = BuildOptions(tick_seconds=TICK_SECONDS, spot_price=1.0, on_demand_price=ON_DEMAND_PRICE)
    return list(build_market(sorted(traces.glob("*.json")), options).spot_capacity > 0)


def without_group(series: Sequence[BoolArray], group: int) -> list[BoolArray]:
    """The zones to which `training.several_pools` fits where `group` is left out."""
    return [row for zone, row in enumerate(series) if zone % GROUPS != group]


def fitted(series: Sequence[BoolArray]) -> SemiMarkovModel:
    """The planner's model of these zones."""
    return fit_semi_markov(
        series, types=TYPES, chunk_ticks=CHUNK_TICKS, age_edges=AGE_EDGES, tick_seconds=TICK_SECONDS
    )


def judge(
    parts: Sequence[Fold], learned: Sequence[DeadlinePolicy], observability: Observability = "full"
) -> pd.DataFrame:
    """Replay the planner and a learned policy over all windows of all settings.

    Args:
        parts: Groups that are left out.
        learned: A policy for each group, trained without it.
        observability: What jobs know of pools.

    Returns:
        What `replay` returns, one row per policy and window, with `group`, `deadline_hours` and
        `overhead_minutes`.
    """
    tables = []
    for deadline, overhead in SETTINGS:
        job = DeadlineJob(48 * 3600, deadline * 3600, overhead * 60)
        stride = ticks_for(job.deadline_seconds, TICK_SECONDS) + 2
        for group, (fold, policy) in enumerate(zip(parts, learned, strict=True)):
            for name, market in fold.markets:
                planner = SemiMarkovPlanner(fold.model, cache_bytes=CACHE_BYTES)
                table = replay(
                    [Shielded(planner), Shielded(policy)],
                    Windows.all_pools(market, job, stride, name),
                    job,
                    observability=observability,
                )
                tables.append(table.assign(group=group, deadline_hours=deadline, overhead_minutes=overhead))
    return pd.concat(tables, ignore_index=True)


def difference(table: pd.DataFrame, policy: str, seed: int = 0) -> tuple[float, float, float]:
    """Cost of a policy less that of the planner as a share of the optimum, and its 95 % interval.

    Args:
        table: What `judge` returns.
        policy: Name of the policy.
        seed: Of the resampling, which draws groups, and windows within each.

    Returns:
        Difference, lower and upper bound; negative where `policy` is cheaper.
    """
    own = table[table["policy"] == policy].reset_index(drop=True)
    other = table[table["policy"] == "planner"].reset_index(drop=True)
    gap = (own["cost_usd"] - other["cost_usd"]).to_numpy()
    optimum, group = own["optimum_usd"].to_numpy(), own["group"].to_numpy()
    rows_of = [np.flatnonzero(group == each) for each in sorted(set(group.tolist()))]
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, len(rows_of), len(rows_of))
        rows = np.concatenate([rng.choice(rows_of[k], len(rows_of[k])) for k in chosen])
        drawn.append(gap[rows].sum() / optimum[rows].sum())
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(gap.sum() / optimum.sum()), float(low), float(high)


def report(table: pd.DataFrame, policy: str) -> str:
    """One line per setting and one for all: cost above the optimum, and the difference with its interval."""
    lines = []
    settings = [
        (f"due in {hours} h, overhead {minutes} min", part)
        for (hours, minutes), part in table.groupby(["deadline_hours", "overhead_minutes"])
    ]
    for setting, part in [*settings, ("all", table)]:
        mean = part.groupby("policy", sort=False)[["cost_usd", "optimum_usd"]].mean()
        above = (mean["cost_usd"] / mean["optimum_usd"] - 1.0).items()
        costs = ", ".join(f"{name} {value:.2%}" for name, value in above)
        found, low, high = difference(part, policy)
        lines.append(
            f"{setting}: above the optimum {costs}; difference {found:+.2%} ({low:+.2%} to {high:+.2%})"
        )
    return "\n".join([*lines, f"missed {int(table['missed'].sum())} of {len(table)}", ""])
