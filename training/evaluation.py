"""Judging policies: replay over all windows, against the optimum, with intervals. No torch, no MLflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from policies.protocol import DeadlinePolicy, Memory
from policies.registry import load_policy
from simulator.deadline import DeadlineJob, DeadlineObservation
from simulator.deadline.observability import Observability
from simulator.deadline.observation import FloatArray, IntArray
from simulator.deadline.optimum import clairvoyant_optimum
from simulator.deadline.replay import Windows, replay
from simulator.errors import InputError
from simulator.market import Market
from training.statistics import StratifiedBootstrap, interquartile_mean

GAP_BASELINE = "uniform-progress"
"""`gap_closed` is 0 at this policy's mean cost and 1 at the clairvoyant optimum's."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A policy under the label that the user gave it."""

    label: str
    policy: DeadlinePolicy

    @property
    def name(self) -> str:
        """The label."""
        return self.label

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        """Memory of the policy."""
        return self.policy.reset(jobs, pools)

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Decide one tick."""
        return self.policy.act(observation, memory)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Every episode of every policy.

    Attributes:
        table: What `replay` returned, with `optimum_usd`; policies by label.
        labels: The policies that were asked for, in their order.
        bootstrap: Resamples that all intervals share.
    """

    table: pd.DataFrame
    labels: tuple[str, ...]
    bootstrap: StratifiedBootstrap

    @property
    def episodes(self) -> int:
        """Episodes of each policy."""
        return len(self.bootstrap.stratum)

    def of(self, label: str) -> pd.DataFrame:
        """The episodes of one policy, always in the same order of windows."""
        return self.table[self.table["policy"] == label].reset_index(drop=True)

    def summary(self, reference: str = GAP_BASELINE) -> dict[str, object]:
        """Everything `spotwise evaluate --json` prints about these episodes.

        Args:
            reference: Policy that savings are relative to; it was replayed.
        """
        first = self.of(self.labels[0])
        optimum = first["optimum_usd"].to_numpy(np.float64)
        return {
            "episodes": self.episodes,
            "clairvoyant_optimum": {
                "cost_usd": self._spread(optimum),
                "relative_to_on_demand": float(optimum.mean() / first["on_demand_usd"].mean()),
                "per_pool": _means(first, "optimum_usd"),
            },
            "policies": {label: self._policy(label, optimum, reference) for label in self.labels},
        }

    def _policy(self, label: str, optimum: FloatArray, reference: str) -> dict[str, object]:
        rows = self.of(label)
        cost = rows["cost_usd"].to_numpy(np.float64)
        baseline = self.of(GAP_BASELINE)["cost_usd"].to_numpy(np.float64)
        other = self.of(reference)["cost_usd"].to_numpy(np.float64)
        saving = self.bootstrap.interval(
            lambda drawn: 1.0 - cost[drawn].mean(axis=1) / other[drawn].mean(axis=1)
        )
        return {
            "cost_usd": self._spread(cost),
            "relative_to_on_demand": float(cost.mean() / rows["on_demand_usd"].mean()),
            "relative_to_optimum": float(cost.mean() / optimum.mean()),
            "gap_closed": gap_closed(cost, baseline, optimum),
            "saving_over_reference": {
                "reference": reference,
                "mean": float(1.0 - cost.mean() / other.mean()),
                "ci95": list(saving),
            },
            "lateness_usd": float(rows["lateness_usd"].mean()),
            "missed_deadlines": int(rows["missed"].sum()),
            "infeasible": int((~np.isfinite(optimum)).sum()),
            "launches": float(rows["launches"].mean()),
            "interruptions": float(rows["interruptions"].mean()),
            "hours": {
                option: float(rows[f"{option}_hours"].mean()) for option in ("spot", "on_demand", "idle")
            },
            "per_pool": {
                pool: {
                    "episodes": len(part),
                    "cost_usd": float(part["cost_usd"].mean()),
                    "relative_to_on_demand": float(part["cost_usd"].mean() / part["on_demand_usd"].mean()),
                    "gap_closed": gap_closed(cost[part.index], baseline[part.index], optimum[part.index]),
                    "missed_deadlines": int(part["missed"].sum()),
                }
                for pool, part in rows.groupby("market", sort=False)
            },
        }

    def _spread(self, values: FloatArray) -> dict[str, object]:
        return {
            "mean": float(values.mean()),
            "iqm": float(interquartile_mean(values)),
            "ci95": list(self.bootstrap.mean_interval(values)),
        }


def gap_closed(cost: FloatArray, baseline: FloatArray, optimum: FloatArray) -> float | None:
    """Share of the way from the baseline's mean cost to the optimum's; None if there is no way to go."""
    way = float(baseline.mean() - optimum.mean())
    return float(baseline.mean() - cost.mean()) / way if way > 1e-9 else None


def windows_of(markets: Sequence[tuple[str, Market]], job: DeadlineJob, stride: int, pools: str) -> Windows:
    """Windows of one market file or of several, every pool alone (`each`) or all pools together (`all`).

    Raises:
        InputError: `pools` is neither, a window does not fit, or the markets cannot be stacked.
    """
    if pools not in ("each", "all"):
        raise InputError(f"--pools {pools!r}; accepted: each, all")
    parts = []
    for name, market in markets:
        try:
            if pools == "each":
                parts.append(Windows.each_pool(market, job, stride))
            else:
                parts.append(Windows.all_pools(market, job, stride, name))
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return Windows.join(parts)


def evaluate(
    policies: Sequence[str],
    windows: Windows,
    job: DeadlineJob,
    *,
    reference: str = GAP_BASELINE,
    observability: Observability = "full",
    seed: int = 0,
    watch: Callable[[str], None] = lambda label: None,
) -> Evaluation:
    """Replay policies over windows.

    Args:
        policies: Names or paths of `.policy` files; the labels of the result.
        windows: What to replay.
        job: The job that begins in each window.
        reference: Replayed too, as is `GAP_BASELINE`.
        observability: What the policies know of pools.
        seed: Of the bootstrap.
        watch: Called with each label before its replay.

    Raises:
        InputError: A policy is unknown, damaged or given twice, or the observability is none of these pools.
    """
    if len(set(policies)) != len(policies):
        twice = next(each for each in policies if list(policies).count(each) > 1)
        raise InputError(f"policy {twice} is given twice; give each policy once")
    extra = [name for name in dict.fromkeys((GAP_BASELINE, reference)) if name not in policies]
    loaded = [Labelled(label, load_policy(label)) for label in (*policies, *extra)]
    tables = []
    for each in loaded:
        watch(each.label)
        tables.append(replay([each], windows, job, with_optimum=False, observability=observability))
    watch("clairvoyant optimum")
    optimum = clairvoyant_optimum(windows.stack, job, windows.market, windows.start)
    table = pd.concat([part.assign(optimum_usd=optimum) for part in tables], ignore_index=True)
    return Evaluation(table, tuple(policies), StratifiedBootstrap(windows.market, seed))


def _means(rows: pd.DataFrame, column: str) -> dict[str, float]:
    return {str(pool): float(part.mean()) for pool, part in rows.groupby("market", sort=False)[column]}
