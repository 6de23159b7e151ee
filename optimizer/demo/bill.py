"""The demo's last part: a synthetic bill, through the ledger, to a recommendation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from optimizer.billing.ingest import ingest
from optimizer.billing.sample import demo_scenario, write_cur, write_truth
from optimizer.billing.workloads import derive, write_workloads
from optimizer.recommend.run import Options, recommend
from optimizer.recommend.write import write_report
from simulator.market import Pool
from simulator.synthetic import load_model, synthetic_market

WINDOWS = 40
MARKET_DAYS = 40
DAYS_BEFORE_THE_BILL = 15
SPOT_SHARE = 0.4
"""Spot price of the synthetic pools, as a share of on-demand."""
CAPACITY = 20


@dataclass(frozen=True)
class BillPart:
    """What came of the sample bill.

    Attributes:
        report: The recommendation page.
        headline: Its first sentence.
    """

    report: Path
    headline: str


def recommend_on_a_sample_bill(folder: Path, seed: int, watch: Callable[[str, float], None]) -> BillPart:
    """Write a sample AWS export, take it into a ledger, derive its workloads and recommend.

    Everything is written below `folder`: `export/`, `ledger.duckdb`, `workloads.yaml`, a synthetic market per
    instance type, and `recommendation/`. What was there is replaced.

    Args:
        folder: Made where it does not exist.
        seed: Of the bill, the markets and the windows.
        watch: Told what is being done and which share of it is done.

    Raises:
        InputError: The folder cannot be written.
    """
    watch("a sample bill", 0.0)
    scenario = demo_scenario("aws", seed=seed)
    write_truth(write_cur(scenario, folder / "export"), scenario, folder / "export")
    ledger, workloads = folder / "ledger.duckdb", folder / "workloads.yaml"
    ledger.unlink(missing_ok=True)
    ingest([str(folder / "export")], ledger)
    found = derive(ledger, "tag:app")
    write_workloads(found, workloads)
    markets = []
    for number, kind in enumerate(sorted({one.instance_type for one in found.workloads})):
        price = max(one.on_demand_price or 0.0 for one in found.workloads if one.instance_type == kind)
        market = synthetic_market(
            load_model(),
            [Pool("synthetic", "us-east-1", f"us-east-1{zone}", kind) for zone in "abc"],
            ticks=MARKET_DAYS * 144,
            seed=seed * 100 + number,
            spot_price=round(SPOT_SHARE * price, 6),
            on_demand_price=price,
            capacity=CAPACITY,
            start=found.span.start - timedelta(days=DAYS_BEFORE_THE_BILL),
        )
        markets.append(folder / f"market-{kind}.npz")
        market.save(markets[-1])
    result = recommend(ledger, workloads, markets, Options(seed=seed, windows=WINDOWS), watch=watch)
    written = write_report(result, folder / "recommendation", datetime.now(UTC))
    return BillPart(written.report, result.report.headline)
