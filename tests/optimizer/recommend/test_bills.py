"""Bills that mislead: what the report says of them, and what the plan would do."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from optimizer.plan import read_plan
from optimizer.recommend.run import Found, Options, recommend
from optimizer.recommend.write import write_report
from tests.optimizer.recommend.bills import WEEKS, machine_hours, write_bill
from tests.optimizer.recommend.scene import Scene

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOURS = range(WEEKS * 168)
Report = Callable[..., Found]


@pytest.fixture
def report_of(scene: Scene, tmp_path: Path) -> Report:
    """Return a function from the rows of a bill to its report, on the market of m5.large."""

    def run(rows: list[dict[str, object]], **options: Any) -> Found:
        ledger, workloads = write_bill(tmp_path, rows)
        chosen: dict[str, Any] = {"windows": 8, "service_policy": "spothedge-2", **options}
        return recommend(ledger, workloads, [scene.markets[0]], Options(**chosen))

    return run


def _daily(hour: int) -> int:
    """Return a demand of 2 to 10 instances."""
    return round(6 - 4 * math.cos(2 * math.pi * hour / 24))


def _moved(found: Found, name: str) -> Found:
    """Return the report with one workload moved to its best static mix, whatever was recommended."""
    from dataclasses import replace

    workloads = tuple(
        w.model_copy(
            update={
                "decision": w.decision.model_copy(
                    update={"action": "move", "role": "static-mix", "policy": "static-mix-25"}
                )
            }
        )
        if w.name == name
        else w
        for w in found.report.workloads
    )
    return replace(found, report=found.report.model_copy(update={"workloads": workloads}))


def test_plan_leaves_all_that_a_commitment_covers(report_of: Report, tmp_path: Path) -> None:
    rows = []
    for hour in HOURS:
        covered = min(_daily(hour), 4)
        rows.append(machine_hours("shop", hour, covered, pricing="Committed", price=0.06))
        if _daily(hour) > covered:
            rows.append(machine_hours("shop", hour, _daily(hour) - covered))
    found = _moved(report_of(rows), "shop")
    (shop,) = found.report.workloads
    written = write_report(found, tmp_path / "out", NOW)
    assert written.plan is not None
    (planned,) = read_plan(written.plan, now=NOW).workloads
    assert planned.kind == "service"
    assert planned.demand.source == "series"
    # Noon of a Monday, as the first hours of the bill were midnight of one.
    wanted = [max(_daily(12 + hour) - 4, 0) for hour in range(24 * 7)]
    assert list(planned.demand.instances[: 24 * 7]) == wanted
    assert planned.committed == 0
    assert planned.expected is not None
    scenario = shop.scenario("static-mix")
    assert scenario is not None
    assert planned.expected.cost_usd == pytest.approx(
        scenario.monthly_usd - shop.commitment.covered_cost, abs=1e-6
    )
    assert any("no commitment covers" in text for text in planned.reasons)
