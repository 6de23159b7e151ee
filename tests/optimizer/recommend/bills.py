"""Bills of machines written by hand, as FOCUS exports."""

import csv
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from optimizer.billing.ingest import ingest
from optimizer.billing.workloads import derive, write_workloads

MONDAY = datetime(2024, 3, 4, tzinfo=UTC)
WEEKS = 2
METERS = {"Standard": "BoxUsage", "Dynamic": "SpotUsage", "Committed": "BoxUsage"}


def machine_hours(
    app: str,
    hour: int,
    instances: float,
    *,
    pricing: str = "Standard",
    price: float = 0.096,
    listed: float = 0.096,
    instance_type: str = "m5.large",
    provider: str = "AWS",
    currency: str = "USD",
    hours: int = 1,
) -> dict[str, object]:
    """Return a row: `instances` for `hours` hours from `hour` hours after `MONDAY` on."""
    cost = instances * hours * price
    begin = MONDAY + timedelta(hours=hour)
    committed = pricing == "Committed"
    return {
        "BilledCost": 0 if committed else cost,
        "EffectiveCost": cost,
        "ListCost": instances * hours * listed,
        "ListUnitPrice": listed,
        "BillingAccountId": "999900001111" if currency == "USD" else "999900002222",
        "BillingCurrency": currency,
        "BillingPeriodStart": "2024-03-01T00:00:00Z",
        "BillingPeriodEnd": "2024-04-01T00:00:00Z",
        "ChargeCategory": "Usage",
        "ChargeDescription": "machine time",
        "ChargePeriodStart": f"{begin:%Y-%m-%dT%H:%M:%SZ}",
        "ChargePeriodEnd": f"{begin + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}",
        "CommitmentDiscountId": "plan-1" if committed else "",
        "CommitmentDiscountStatus": "Used" if committed else "",
        "ConsumedQuantity": instances * hours,
        "ConsumedUnit": "Hours",
        "PricingCategory": pricing,
        "PricingQuantity": instances * hours,
        "PricingUnit": "Hours",
        "ProviderName": provider,
        "RegionId": "us-east-1",
        "ResourceId": f"i-{app[:20]}-{pricing}-{hour}",
        "ServiceCategory": "Compute",
        "ServiceName": "Amazon Elastic Compute Cloud",
        "SkuMeter": f"{METERS[pricing]}:{instance_type}",
        "SubAccountId": "111122223333",
        "Tags": json.dumps({"app": app}),
    }


def charge(category: str, cost: float, *, app: str = "") -> dict[str, object]:
    """Return a row that is no machine time: a tax, a credit, an adjustment."""
    row = machine_hours(app, 0, 1.0, price=cost, listed=cost)
    bare = (
        "ConsumedQuantity",
        "ConsumedUnit",
        "PricingQuantity",
        "PricingUnit",
        "PricingCategory",
        "SkuMeter",
    )
    return row | dict.fromkeys((*bare, "ListUnitPrice"), "") | {"ChargeCategory": category}


def write_bill(folder: Path, rows: Sequence[dict[str, object]], name: str = "bill") -> tuple[Path, Path]:
    """Write an export, its ledger and its workloads; returns the last two."""
    export = folder / f"{name}.csv"
    with export.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    ledger, workloads = folder / f"{name}.duckdb", folder / f"{name}.yaml"
    ingest([str(export)], ledger)
    write_workloads(derive(ledger), workloads)
    return ledger, workloads
