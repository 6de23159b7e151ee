"""What a synthetic export is known to contain, so that a test can compare and not only look."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optimizer.billing.sample.scenario import OPTIONS, Scenario

TRUTH_FILE = "_truth.json"
"""Beside the export; what begins with an underscore is not read as a part of it."""


@dataclass
class Truth:
    """The planted facts of one export.

    Attributes:
        files: Files written, in order.
        billed: Σ of what is invoiced, per (invoice or billing period, currency).
        effective: Σ of the amortised cost of everything.
        unused: Σ of the cost of unused commitments.
        lines: Per file name, the purchase option of every data line that is instance time, else "".
        instance_hours: Instance-hours per purchase option.
    """

    files: list[Path] = field(default_factory=list)
    billed: dict[tuple[str, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    effective: Decimal = Decimal(0)
    unused: Decimal = Decimal(0)
    lines: dict[str, list[str]] = field(default_factory=dict)
    instance_hours: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OPTIONS, 0))

    def count(self, options: NDArray[np.int64]) -> None:
        """Add instance-hours given as indices into `OPTIONS`."""
        for index, name in enumerate(OPTIONS):
            self.instance_hours[name] += int((options == index).sum())


def write_truth(truth: Truth, scenario: Scenario, folder: Path) -> Path:
    """Write what was planted, as JSON, into the folder of the export; returns the file.

    `lines` has, per file, the numbers of its data lines (from 1, without the header) that are instance time,
    by purchase option; `workloads` the instances per hour, of which the export lacks the `missing_hours`.
    """
    facts = {
        "synthetic": True,
        "start": scenario.start.isoformat(),
        "hours": scenario.hours,
        "missing_hours": sorted(scenario.missing),
        "billed": [
            {"invoice": invoice, "currency": currency, "total": str(total)}
            for (invoice, currency), total in truth.billed.items()
        ],
        "effective": str(truth.effective),
        "unused_commitment": str(truth.unused),
        "instance_hours": truth.instance_hours,
        "anomalies": [
            {"workload": scenario.workloads[a.workload].name, "hour": a.hour, "cost": a.cost}
            for a in scenario.anomalies
        ],
        "workloads": [
            {
                "name": w.name,
                "account": w.account,
                "region": w.region,
                "zone": w.zone,
                "instance_type": w.instance_type,
                "tags": w.tags,
                "on_demand_price": w.on_demand_price,
                "spot_price": w.spot_price,
                "committed_price": w.committed_price,
                "bought": w.bought,
                "commitment": w.commitment if w.bought else None,
                "on_demand": w.on_demand.tolist(),
                "spot": w.spot.tolist(),
                "committed": w.committed.tolist(),
            }
            for w in scenario.workloads
        ],
        "lines": {
            Path(name).name: {
                wanted: [line for line, option in enumerate(options, start=1) if option == wanted]
                for wanted in OPTIONS
            }
            for name, options in truth.lines.items()
        },
    }
    path = folder / TRUTH_FILE
    path.write_text(json.dumps(facts), encoding="utf-8")
    return path


def money(values: NDArray[np.float64] | list[float] | float) -> Decimal:
    """Return the exact sum of amounts as they are written (shortest decimal text of each double)."""
    return sum((Decimal(repr(float(v))) for v in np.atleast_1d(values)), Decimal(0))
