"""The gate lets a good policy through and says why it stops a bad one."""

from pathlib import Path

import numpy as np
import pytest

from policies.protocol import DeadlinePolicy, Memory
from policies.registry import load_policy
from simulator.deadline import DeadlineObservation
from simulator.deadline.observation import IntArray
from simulator.errors import InputError
from simulator.market import Market, sample_market
from training.configuration import read_configuration
from training.gate import GateSettings, Variant, Verdict, judge

QUICK = GateSettings(
    variants=(
        Variant(work_hours=20, deadline_hours=24, restart_overhead_minutes=3),
        Variant(work_hours=20, deadline_hours=30, restart_overhead_minutes=12),
    ),
    resamples=300,
    decision_us_p99=1e5,
)


@pytest.fixture(scope="module")
def markets() -> list[tuple[str, Market]]:
    return [("unseen", sample_market("v100-unseen").window(0, 2500))]


def failed(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if not check.passed]


def test_planner_passes_and_its_table_has_every_variant(markets: list[tuple[str, Market]]) -> None:
    verdict = judge(load_policy("planner"), markets, QUICK)
    assert verdict.passed, verdict.checks
    assert [row["variant"] for row in verdict.rows] == [variant.name for variant in QUICK.variants]
    assert verdict.interval[0] > 0
    assert verdict.interval[0] < verdict.saving < verdict.interval[1]
    again = judge(load_policy("planner"), markets, QUICK)
    assert (again.rows, again.saving, again.interval) == (verdict.rows, verdict.saving, verdict.interval)


def test_a_baseline_does_not_save_over_itself(markets: list[tuple[str, Market]]) -> None:
    verdict = judge(load_policy("uniform-progress"), markets, QUICK)
    assert any("above zero" in name for name in failed(verdict))


def test_on_demand_loses_in_its_worst_variant(markets: list[tuple[str, Market]]) -> None:
    settings = QUICK.model_copy(update={"baselines": ("uniform-progress",)})
    names = failed(judge(load_policy("on-demand"), markets, settings))
    assert len(names) == 2
    assert any("worst variant" in name for name in names)


class Slow:
    """On-demand, but it takes its time."""

    name = "slow"

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        return {}

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        np.linalg.eig(np.eye(30))
        return np.ones(observation.jobs, np.int64), memory


def test_a_slow_policy_is_stopped(markets: list[tuple[str, Market]]) -> None:
    policy: DeadlinePolicy = Slow()
    verdict = judge(policy, markets, QUICK.model_copy(update={"decision_us_p99": 20.0}))
    assert any("one decision" in name for name in failed(verdict))


def test_one_pool_is_too_few_to_resample(markets: list[tuple[str, Market]]) -> None:
    with pytest.raises(InputError, match="at least two pools"):
        judge(load_policy("greedy"), [("one", markets[0][1].select([0]))], QUICK)


def test_shipped_settings_are_the_defaults() -> None:
    path = Path(__file__).resolve().parents[2] / "configs" / "gate.yaml"
    assert read_configuration(path, GateSettings, prefix="SPOTWISE_GATE", environ={}) == GateSettings()
