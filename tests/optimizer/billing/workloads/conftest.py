"""A workloads file with one job."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from optimizer.billing.ingest import ingest
from optimizer.billing.workloads import derive, write_workloads

CurCsv = Callable[..., Path]

JOB = """\
    nodes: 4
    work_hours: 6.0
    deadline_hours: 12.0
    due_hours: 8.0
    lateness_usd_per_hour: 2.5
    restart_overhead_minutes: 12.0
    checkpoint_interval_minutes: 90.0
    checkpoint_cost_minutes: 3.0
    committed: 1
"""


@pytest.fixture
def job_file(tmp_path: Path, cur_csv: CurCsv) -> Path:
    """A workloads file with one job that has all terms."""
    ingest([str(cur_csv({}))], tmp_path / "l.duckdb")
    path = tmp_path / "w.yaml"
    write_workloads(derive(tmp_path / "l.duckdb"), path)
    text = re.sub(r"  service:\n(    .*\n)+", f"  job:\n{JOB}", path.read_text())
    path.write_text(text.replace("kind: service", "kind: deadline-job"))
    return path
