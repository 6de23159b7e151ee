"""A month of 1,000 workloads in accelerated time: memory stays flat and the journal stays small."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from optimizer.controller.config import ControllerSettings
from optimizer.controller.daemon import Daemon
from optimizer.controller.journal import Journal
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.controller.report import Report
from tests.optimizer.controller.scene import job, market, plan, service

HOURS = 720


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_month_of_a_thousand_workloads(state_root: Path) -> None:
    rng = np.random.default_rng(0)
    of = market(rng.integers(0, 6, (2, HOURS + 2)), tick_seconds=3600, spot=[[1.0], [1.1]])
    jobs = [
        job(
            of,
            f"job-{k}",
            policy="uniform-progress",
            begins=int(rng.integers(0, HOURS - 60)),
            work_hours=24.0,
            deadline_hours=40.0,
        )
        for k in range(900)
    ]
    services = [service(of, f"web-{k}", policy="spothedge-1", cold_start_minutes=60.0) for k in range(100)]
    the_plan = plan(of, *jobs, *services)
    settings = ControllerSettings.model_validate(
        {
            "state_dir": state_root,
            "mode": "apply",
            "endpoint": {"enabled": False},
            "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
            "journal": {"retention_days": 5.0, "backup_hours": 24.0},
        }
    )
    memory, sizes = [], []

    def watch(report: Report) -> None:
        if report.tick % 24 == 23:
            memory.append(resident_bytes())
            sizes.append((state_root / "journal.sqlite").stat().st_size)

    with Journal(state_root / "journal.sqlite") as journal:
        daemon = Daemon(the_plan, settings, SimulatedCloud(of, the_plan).provider(), journal, lambda *_: None)
        daemon.run(HOURS, watch)
    fleet, _ = daemon.controller.jobs[0]
    assert fleet.done.all()
    assert not fleet.missed.any()
    quarter = len(memory) // 4
    assert max(memory[quarter:]) <= 1.05 * memory[quarter]
    assert sizes[-1] <= 1.1 * max(sizes[: len(sizes) // 2])
