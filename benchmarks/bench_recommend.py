"""The recommendation report of 100 workloads with 90 days of hourly demand over a hourly market of 90 days.

Five policies over 200 windows each (static mix, heuristic, champion, on-demand, the bound), the choice of mix
and heuristic and the sensitivities on top. Windows are as long as `spotwise recommend` makes them by itself;
`SPOTWISE_BENCH_WINDOW_HOURS` asks for others, up to the 2160 of the whole span. Four of them must fit side by
side into the market, which is `SPOTWISE_BENCH_MARKET_DAYS` long. `SPOTWISE_BENCH_WINDOWS` and
`SPOTWISE_BENCH_WORKERS` say how many windows and threads. It runs in a process of its own, so that its peak
memory is its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from simulator.market import Market, Pool
from simulator.synthetic import load_model, synthetic_market

COPIES = 20
"""Of the five workloads of the sample bill."""
DAYS = 90
MARKET_DAYS = int(os.environ.get("SPOTWISE_BENCH_MARKET_DAYS", DAYS))
WINDOWS = os.environ.get("SPOTWISE_BENCH_WINDOWS", "200")
WINDOW_HOURS = os.environ.get("SPOTWISE_BENCH_WINDOW_HOURS", "")
WORKERS = os.environ.get("SPOTWISE_BENCH_WORKERS", "2")
TYPES = {"m5.large": (0.0361, 0.096), "c5.2xlarge": (0.1399, 0.34), "r5.xlarge": (0.0908, 0.252)}

RUN = """
import json, resource, sys, time
began = time.perf_counter()
from datetime import UTC, datetime
from pathlib import Path
from optimizer.recommend.run import Options, recommend
from optimizer.recommend.write import write_report
folder = Path(sys.argv[1])
windows, workers = int(sys.argv[2]), int(sys.argv[3])
hours = int(sys.argv[4]) if sys.argv[4] else None
stages, last = {}, ["importing", began]
def watch(text, share):
    now = time.perf_counter()
    stages[last[0]] = round(stages.get(last[0], 0.0) + now - last[1], 2)
    last[:] = [text, now]
found = recommend(folder / "ledger.duckdb", folder / "workloads.yaml", sorted(folder.glob("*.npz")),
                  Options(windows=windows, window_hours=hours, workers=workers), watch)
write_report(found, folder / "out", datetime(2026, 1, 1, tzinfo=UTC))
watch("", 1.0)
seconds = time.perf_counter() - began
usage = resource.getrusage(resource.RUSAGE_SELF)
processor = usage.ru_utime + usage.ru_stime
# Not ru_maxrss: a process begins with that of its parent.
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
uses = [w.market for w in found.report.workloads if w.market]
print(json.dumps({"seconds": round(seconds, 2), "cpu_seconds": round(processor, 2), "peak_mb": round(peak),
                  "workloads": len(found.report.workloads), "workers": workers,
                  "windows": uses[0].windows, "window_hours": uses[0].window_hours, "stages": stages}))
"""


def make_files(folder: Path) -> None:
    """Write a ledger of 100 workloads, the workloads derived from it, and three markets."""
    from optimizer.billing.ingest import ingest
    from optimizer.billing.ledger import Ledger
    from optimizer.billing.sample import demo_scenario, write_cur
    from optimizer.billing.workloads import derive, write_workloads

    write_cur(demo_scenario("aws", days=DAYS), folder / "export")
    ledger = folder / "ledger.duckdb"
    ingest([str(folder / "export")], ledger)
    with Ledger.open(ledger, write=True) as opened:
        opened.connection.execute("CREATE TEMP TABLE own AS SELECT * FROM ledger")
        for copy in range(1, COPIES):
            opened.connection.execute(
                "INSERT INTO ledger SELECT * REPLACE (SubAccountId || ? AS SubAccountId, "
                "ResourceId || ? AS ResourceId) FROM own",
                [f"-{copy}", f"-{copy}"],
            )
    write_workloads(derive(ledger), folder / "workloads.yaml")
    for seed, (name, (spot, on_demand)) in enumerate(TYPES.items()):
        _market(name, spot, on_demand, seed).save(folder / f"{name}.npz")


def _market(name: str, spot: float, on_demand: float, seed: int) -> Market:
    pools = [Pool("aws", "us-east-1", f"us-east-1{zone}", name) for zone in "abc"]
    fine = synthetic_market(
        load_model(),
        pools,
        ticks=MARKET_DAYS * 144,
        seed=seed,
        spot_price=spot,
        on_demand_price=on_demand,
        capacity=20,
    )
    return Market.build(
        pools,
        tick_seconds=3600,
        start=datetime(2024, 1, 1, tzinfo=UTC),
        spot_price=spot,
        spot_capacity=np.array(fine.spot_capacity[:, ::6]),
        on_demand_price=on_demand,
        source="every sixth tick of a drawn market",
    )


def run() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        done = subprocess.run(
            [sys.executable, "-c", RUN, name, WINDOWS, WORKERS, WINDOW_HOURS],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    figures: dict[str, object] = json.loads(done.stdout)
    return {**figures, "target_seconds": 60, "target_peak_mb": 2048}
