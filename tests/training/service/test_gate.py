"""The gate for services: who passes and who does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.registry import load_policy
from policies.service import OnDemandOnly, SpotHedge
from simulator.market import Market
from simulator.market.build import build_market
from simulator.market.options import BuildOptions
from training.service.gate import ServiceBaseline, ServiceGateSettings, judge_service


@pytest.fixture(scope="module")
def four_node(shared_data: Path) -> Market:
    folder = shared_data / "traces/skypilot_spot_traces/preemption/4-node/aws-08-03-2023"
    options = BuildOptions(tick_seconds=30, spot_price=1.0, on_demand_price=3.0)
    return build_market(sorted(folder.glob("*.json")), options, format_name="skypilot")


SETTINGS = ServiceGateSettings(
    targets=(0.95, 0.99, 0.9975, 0.9995),
    baselines=(
        ServiceBaseline(name="spothedge-0", cheaper_by=-0.005),
        ServiceBaseline(name="spothedge-1", cheaper_by=0.05),
    ),
    decision_us=1e6,
)


def test_the_champion_passes_and_the_rows_say_by_how_much(four_node: Market) -> None:
    verdict = judge_service(load_policy("service-champion", "service"), [("four", four_node)], SETTINGS)
    assert verdict.passed, verdict.checks
    assert verdict.baseline == "spothedge-1"
    assert verdict.interval[0] <= verdict.saving <= verdict.interval[1]
    assert verdict.saving == pytest.approx(
        float(verdict.rows[1]["spothedge-1_relative"]) - float(verdict.rows[1]["cost_relative_to_on_demand"]),
        abs=2e-4,
    )


def test_a_policy_that_saves_nothing_does_not_pass(four_node: Market) -> None:
    verdict = judge_service(OnDemandOnly(), [("four", four_node)], SETTINGS)
    assert not verdict.passed
    assert [check.passed for check in verdict.checks] == [False, False, True, True]


def test_a_policy_that_never_reaches_the_availability_does_not_pass(four_node: Market) -> None:
    settings = SETTINGS.model_copy(
        update={"baselines": (ServiceBaseline(name="spothedge-2", cheaper_by=0.0),)}
    )
    verdict = judge_service(SpotHedge(0), [("four", four_node)], settings)
    assert not verdict.checks[0].passed
    assert not verdict.checks[1].passed


def test_a_market_shorter_than_a_week_cannot_show_a_week(four_node: Market) -> None:
    verdict = judge_service(OnDemandOnly(), [("four", four_node.window(0, 3 * 2880))], SETTINGS)
    weeks = next(check for check in verdict.checks if "weeks" in check.name)
    assert not weeks.passed
    assert weeks.found == "no market of a week"
    assert np.isfinite(verdict.saving)
