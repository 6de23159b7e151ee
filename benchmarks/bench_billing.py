"""Billing ledger: parquet to ledger to hourly demand, and whether 20 million rows fit in the same memory.

Each measurement runs in a process of its own, so that its peak memory is its own.
`SPOTWISE_BENCH_LARGE_ROWS=0` leaves the large one out.
"""

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

ROWS = 1_075_000
"""Asked of the generator, which writes a little less: above a million."""

LARGE_ROWS = int(os.environ.get("SPOTWISE_BENCH_LARGE_ROWS", "20000000"))
HOURS = 8760
WORKLOADS = 12

INGEST = """
import json, resource, sys, time
began = time.perf_counter()
from pathlib import Path
from optimizer.billing.ingest import ingest
report = ingest([sys.argv[1]], Path(sys.argv[2]))
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
lost = sum(abs(b.cost_in - b.cost_out) for b in report.bills)
facts = {"seconds": round(seconds, 2), "peak_mb": round(peak), "rows": report.rows, "lost": float(lost)}
print(json.dumps(facts))
"""
DERIVE = """
import json, resource, sys, time
began = time.perf_counter()
from pathlib import Path
from optimizer.billing.workloads import derive
found = derive(Path(sys.argv[1]))
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": round(seconds, 2), "peak_mb": round(peak), "workloads": len(found.workloads)}))
"""
CHECK = """
import json, sys, time
from pathlib import Path
from optimizer.billing.checks import check_ledger
from optimizer.billing.ledger import Ledger
began = time.perf_counter()
with Ledger.open(Path(sys.argv[1])) as ledger:
    report = check_ledger(ledger)
seconds = time.perf_counter() - began
print(json.dumps({"seconds": round(seconds, 2), "checks": report.checks, "ok": report.ok}))
"""


def measure(code: str, *arguments: object) -> dict[str, object]:
    """Run `code` in a process of its own and return the JSON object it prints."""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    result: dict[str, object] = json.loads(done.stdout)
    return result


def write_year(folder: Path, rows: int) -> int:
    """Write a year of a synthetic report with about `rows` lines; returns how many there are."""
    from optimizer.billing.sample import PlantedWorkload, Scenario, place, write_cur

    rng = np.random.default_rng(0)
    level = rows / HOURS / WORKLOADS / 1.1
    clock = np.arange(HOURS)
    planted = []
    for number in range(WORKLOADS):
        noise = rng.normal(0, 0.3, HOURS)
        demand = np.maximum(np.rint(level * (1 + 0.4 * np.sin(clock / 24 * 2 * np.pi)) + noise), 0).astype(
            np.int64
        )
        bought = int(np.percentile(demand, 25)) if number % 3 == 0 else 0
        on_demand, spot, committed = place(demand, bought=bought, seed=number)
        planted.append(
            PlantedWorkload(
                name=f"app-{number}",
                account=f"{number % 4:012d}",
                region="us-east-1",
                zone=f"us-east-1{'abc'[number % 3]}",
                instance_type=("m5.large", "c5.2xlarge", "r5.xlarge")[number % 3],
                vcpus=4,
                memory_gib=16.0,
                on_demand_price=0.2,
                spot_price=0.07,
                on_demand=on_demand,
                spot=spot,
                committed=committed,
                bought=bought,
                commitment="reserved" if number % 6 == 3 else "savings-plan",
            )
        )
    truth = write_cur(Scenario(datetime(2023, 1, 1, tzinfo=UTC), HOURS, tuple(planted)), folder)
    return sum(len(lines) for lines in truth.lines.values())


def multiply(export: Path, folder: Path, copies: int) -> None:
    """Write every file of an export `copies` times, each time of another payer: equal files count once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    for file in export.rglob("*.parquet"):
        table = pq.read_table(file)
        place = table.column_names.index("bill_payer_account_id")
        for copy in range(copies):
            payer = pa.array([f"{copy:012d}"] * table.num_rows)
            pq.write_table(
                table.set_column(place, "bill_payer_account_id", payer), folder / f"{copy:03d}-{file.name}"
            )


def run() -> dict[str, object]:
    """Return the figures; targets: 10 s and 1 GB to ingest a million rows, 2 s to hourly demand."""
    with tempfile.TemporaryDirectory(prefix="spotwise-bench-") as scratch:
        folder = Path(scratch)
        written = write_year(folder / "export", ROWS)
        figures: dict[str, object] = {
            "export_rows": written,
            "ingest": measure(INGEST, folder / "export", folder / "ledger.duckdb"),
            "hourly_demand": measure(DERIVE, folder / "ledger.duckdb"),
            "check": measure(CHECK, folder / "ledger.duckdb"),
        }
        copies = LARGE_ROWS // written
        if copies:
            multiply(folder / "export", folder / "large", copies)
            figures["large_export_rows"] = written * copies
            figures["large_ingest"] = measure(INGEST, folder / "large", folder / "large.duckdb")
    return figures
