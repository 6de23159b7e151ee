"""From a bill to the running controller: ledger, workloads, recommendation, plan, placements."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from optimizer.billing.ingest import ingest
from optimizer.billing.sample import demo_scenario, write_cur
from optimizer.billing.workloads import derive, write_workloads
from optimizer.cli import app
from optimizer.recommend.run import Options, recommend
from optimizer.recommend.write import write_report
from tests.optimizer.recommend.scene import TYPES, made_market


@pytest.mark.slow
def test_a_recommended_plan_is_applied(tmp_path: Path) -> None:
    write_cur(demo_scenario("aws"), tmp_path / "export")
    ledger, workloads = tmp_path / "ledger.duckdb", tmp_path / "workloads.yaml"
    ingest([str(tmp_path / "export")], ledger)
    write_workloads(derive(ledger), workloads)
    markets = []
    for seed, name in enumerate(TYPES):
        markets.append(tmp_path / f"{name}.npz")
        made_market(name, seed).save(markets[-1])
    found = recommend(ledger, workloads, tuple(markets), Options(windows=8, service_policy="spothedge-2"))
    written = write_report(found, tmp_path / "out", datetime.now(UTC))
    assert written.plan is not None
    (tmp_path / "c.yaml").write_text(
        f"state_dir: {tmp_path}/state\n"
        f"provider: {{kind: simulated, simulated: {{market: [{', '.join(map(str, markets))}]}}}}\n"
    )
    words = ["controller", "run", "--plan", str(written.plan), "--config", str(tmp_path / "c.yaml")]
    done = CliRunner().invoke(app, [*words, "--mode", "apply", "--ticks", "432", "--json"])
    assert done.exit_code == 0, done.output
    status = json.loads(done.stdout)
    assert status["saved_usd"] > 0
    for one in status["workloads"]:
        if one["kind"] == "deadline":
            assert one["state"] == "done"
        else:
            assert one["availability"] > 0.9
