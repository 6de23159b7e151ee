"""The loop of the demo: train a small policy, judge it beside everything else on windows it has not seen."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.demo.service import ServiceResult, judge_service
from policies.registry import load_policy
from simulator.deadline import DeadlineJob
from simulator.deadline.optimum import clairvoyant_plan
from simulator.deadline.replay import Windows, run
from simulator.market import Market, sample_market, ticks_for
from training.evaluation import Evaluation, evaluate, windows_of

TRAINING_MARKET, JUDGING_MARKET = "v100", "v100-unseen"
HEURISTICS = ("on-demand", "spot-when-available", "greedy", "uniform-progress")
OPTIMUM = "clairvoyant optimum"
TRAINED_LABEL = "trained in this demo"
DEFAULT_STEPS = 4_000_000
WORK_HOURS = 48.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One job of the demo.

    Attributes:
        title: In words.
        job: The job.
    """

    title: str
    job: DeadlineJob


SCENARIOS = (
    Scenario("tight: due in 52 h, restart overhead 12 min", DeadlineJob(48 * 3600, 52 * 3600, 720)),
    Scenario("loose: due in 70 h, restart overhead 3 min", DeadlineJob(48 * 3600, 70 * 3600, 180)),
)


@dataclass(frozen=True, eq=False)
class Timeline:
    """What ran in one window.

    Attributes:
        pool: The pool of the window.
        start_tick: First tick of the window.
        available: (T,) whether spot was to be had.
        placements: By policy, (T,) 0 idle, 1 on-demand, 2 spot, -1 done.
        cost_usd: By policy.
    """

    pool: str
    start_tick: int
    available: NDArray[np.bool_]
    placements: dict[str, NDArray[np.int64]]
    cost_usd: dict[str, float]


@dataclass(frozen=True, eq=False)
class Result:
    """One scenario, judged.

    Attributes:
        scenario: The job.
        evaluation: Every episode.
        summary: What `spotwise evaluate --json` would print.
        timeline: One window, played by everybody.
        tick_hours: Length of a tick.
    """

    scenario: Scenario
    evaluation: Evaluation
    summary: dict[str, Any]
    timeline: Timeline
    tick_hours: float


@dataclass(frozen=True, eq=False)
class Demo:
    """Everything that the report shows.

    Attributes:
        results: One per deadline job.
        service: The service.
        trained: Path of the policy that was trained; None without the training extra.
        seed: Of training and bootstrap.
        steps: Environment steps of the training; 0 without it.
        training_market: Markets.
        judging_market: Windows of this one, which training never saw.
    """

    results: tuple[Result, ...]
    service: ServiceResult
    trained: Path | None
    seed: int
    steps: int
    training_market: Market
    judging_market: Market


Watch = Callable[[str, float], None]
"""Told what is being done and which share of the whole is done."""


def can_train() -> bool:
    """Whether the training extra is installed."""
    return all(importlib.util.find_spec(name) for name in ("torch", "sb3_contrib", "stable_baselines3"))


def run_demo(out: Path, *, seed: int, steps: int, watch: Watch) -> Demo:
    """Run the loop.

    Args:
        out: Folder for the trained policy.
        seed: The same seed and steps give the same figures on the same machine.
        steps: Environment steps of the training; 0 leaves it out.
        watch: Progress.
    """
    training, judging = sample_market(TRAINING_MARKET), sample_market(JUDGING_MARKET)
    trained = _train(out, training, seed, steps, watch) if steps else None
    policies = [*HEURISTICS, "planner", "deadline-champion"]
    results = []
    for number, scenario in enumerate(SCENARIOS):

        def judged(label: str, number: int = number) -> None:
            watch(f"judging {label}", (0.75 if steps else 0.0) + (0.07 if steps else 0.35) * number)

        results.append(_judge(scenario, judging, policies, trained, seed, judged))
    service = judge_service(seed, lambda label: watch(f"service: {label}", 0.9 if steps else 0.7))
    watch("done", 1.0)
    return Demo(tuple(results), service, trained, seed, steps, training, judging)


def _train(out: Path, market: Market, seed: int, steps: int, watch: Watch) -> Path:
    """The champion's recipe on a small scale: fit the planner, then train one network to correct it."""
    from policies.planner import SemiMarkovPlanner
    from policies.planner.fit import fit_planner_model
    from training.champion.recipe import Recipe, guided, train_member, write_champion

    def progress(done: int) -> None:
        share = min(done / steps, 1.0)
        watch(f"training a policy: {min(done, steps):,} of {steps:,} steps", 0.75 * share)

    watch("training a policy", 0.0)
    recipe = Recipe(steps=steps)
    model = fit_planner_model([market], f"sample market {TRAINING_MARKET}")
    member = train_member([market], model, recipe, seed, progress)
    policy = guided("demo", SemiMarkovPlanner(model), [member])
    path = out / "demo.policy"
    write_champion(path, policy, [member], recipe, [seed], {})
    return path


def _judge(
    scenario: Scenario,
    market: Market,
    policies: list[str],
    trained: Path | None,
    seed: int,
    watch: Callable[[str], None],
) -> Result:
    job = scenario.job
    stride = ticks_for(job.deadline_seconds, market.tick_seconds) + 2
    windows = windows_of([(JUDGING_MARKET, market)], job, stride, "each")
    names = {label: label for label in policies}
    if trained:
        names[TRAINED_LABEL] = str(trained)
    evaluation = evaluate(list(names.values()), windows, job, seed=seed, watch=watch)
    if trained:
        table = evaluation.table.replace({"policy": {str(trained): TRAINED_LABEL}})
        evaluation = Evaluation(table, tuple(names), evaluation.bootstrap)
    timeline = _timeline(evaluation, windows, job, names)
    return Result(scenario, evaluation, evaluation.summary(), timeline, market.tick_seconds / 3600.0)


def _timeline(evaluation: Evaluation, windows: Windows, job: DeadlineJob, names: dict[str, str]) -> Timeline:
    """The window whose gap between Uniform Progress and the optimum is the median one."""
    rows = evaluation.of("uniform-progress")
    gap = (rows["cost_usd"] - rows["optimum_usd"]).to_numpy()
    chosen = int(np.argsort(gap, kind="stable")[len(gap) // 2])
    pool, start = int(windows.market[chosen]), int(windows.start[chosen])
    ticks = ticks_for(job.deadline_seconds, windows.stack.tick_seconds)
    one = Windows(windows.stack, windows.names, windows.market[[chosen]], windows.start[[chosen]])
    placements: dict[str, NDArray[np.int64]] = {}
    cost: dict[str, float] = {}
    for label, name in names.items():
        seen: list[NDArray[np.int64]] = []
        batch = run(load_policy(name), one, job, seen)
        placements[label] = _filled(np.concatenate(seen), ticks)
        cost[label] = float(batch.cost[0])
    placements[OPTIMUM] = _filled(clairvoyant_plan(windows.stack, job, pool, start), ticks)
    cost[OPTIMUM] = float(rows["optimum_usd"][chosen])
    available = windows.stack.capacity[pool, 0, start : start + ticks] > 0
    return Timeline(windows.names[pool], start, available, placements, cost)


def _filled(placements: NDArray[np.int64], ticks: int) -> NDArray[np.int64]:
    filled = np.full(ticks, -1, np.int64)
    filled[: len(placements)] = np.minimum(placements, 2)
    return filled
