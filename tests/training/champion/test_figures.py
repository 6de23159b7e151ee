"""The figures of docs/policies.md: what is printed is what an evaluation of the same windows finds."""

import json
from pathlib import Path

import pytest

from policies.baselines import Greedy, UniformProgress
from policies.protocol import DeadlinePolicy
from policies.registry import load_policy
from simulator.market import sample_market
from simulator.sample_data import sample_path
from training.champion.figures import PLANNER, figures, main
from training.evaluation import evaluate, windows_of
from training.gate import Variant

VARIANTS = (
    Variant(work_hours=10, deadline_hours=12, restart_overhead_minutes=12),
    Variant(work_hours=10, deadline_hours=16, restart_overhead_minutes=3),
)


def test_figures_agree_with_the_evaluation_of_the_same_windows() -> None:
    market = sample_market("v100-unseen").select([0, 1, 2])
    policies: dict[str, DeadlinePolicy] = {
        PLANNER: load_policy("planner"),
        "greedy": Greedy(),
        "none": UniformProgress(),
    }
    rows = {row.name: row for row in figures(market, policies, VARIANTS)}
    for k, variant in enumerate(VARIANTS):
        job = variant.job()
        windows = windows_of([("m", market)], job, round(job.deadline_seconds / 600) + 2, "each")
        summary = evaluate(["planner", "greedy"], windows, job).summary()
        judged = summary["policies"]
        assert isinstance(judged, dict)
        assert rows[PLANNER].gaps[k] == pytest.approx(judged["planner"]["gap_closed"])
        assert rows["greedy"].gaps[k] == pytest.approx(judged["greedy"]["gap_closed"])
    assert rows["none"].gaps == (0.0, 0.0)
    assert rows["none"].interval == (0.0, 0.0)
    assert rows[PLANNER].over_planner == (0.0, 0.0)
    for row in rows.values():
        assert row.interval[0] <= row.mean <= row.interval[1]
        assert row.missed == 0


def test_the_command_prints_planner_ablations_and_every_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(sample_path("v100")), str(sample_path("v100-unseen"))]
    assert main([*paths, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [row["name"] for row in rows]
    assert names[:2] == ["greedy", "planner"]
    assert sum("alone" in name for name in names) == 5
    assert main([str(tmp_path / "none.npz"), paths[1]]) == 2
    assert "none.npz" in capsys.readouterr().err
