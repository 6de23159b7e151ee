"""Finds files of one ingest that hold the same charges: they would count twice.

A file may be there twice in another order or another container, and exports that tell of a month to date hold
again what the day before held. Their bytes differ, so their rows are compared.
"""

from __future__ import annotations

from collections import defaultdict

from optimizer.billing.ledger import Ledger
from simulator.errors import InputError

_IDENTITY = (
    "BillingAccountId",
    "BilledCost",
    "EffectiveCost",
    "ChargeCategory",
    "ChargeDescription",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "PricingQuantity",
    "ResourceId",
    "SkuMeter",
    "SubAccountId",
    "InvoiceId",
    "BillingPeriodStart",
)
"""Charges that agree in all of these are the same charge, if it is not free."""

_SAMPLE = 200_000
"""About so many charges are compared; which ones depends on what they say, so the same ones of every file."""

OVERLAP = 0.5
"""From this share of the smaller file on, charges that two files have in common are no coincidence."""


def find_copies(ledger: Ledger, ingest_id: int, source_format: str) -> dict[str, str]:
    """Return the files of an ingest whose charges are all and only those of another: copy → original.

    Args:
        ledger: The ledger, with the rows of the ingest in it.
        ingest_id: The ingest.
        source_format: Only files of this format are compared.

    Raises:
        InputError: Two files have much in common, but not everything.
    """
    charged = "x_IngestId = ? AND x_SourceFormat = ? AND x_SourceFile IS NOT NULL"
    charged += " AND (BilledCost <> 0 OR EffectiveCost <> 0)"
    sizes: dict[str, int] = dict(
        ledger.rows(
            f"SELECT x_SourceFile, count(*) FROM ledger WHERE {charged} GROUP BY 1",
            [ingest_id, source_format],
        )
    )
    if len(sizes) < 2:
        return {}
    every = max(sum(sizes.values()) // _SAMPLE, 1)
    charge = f"hash({', '.join(_IDENTITY)})"
    seen = (
        f"SELECT x_SourceFile AS file, {charge} AS charge, count(*) AS times FROM ledger"
        f" WHERE {charged} AND {charge} % {every} = 0 GROUP BY ALL"
    )
    common = ledger.rows(
        f"WITH seen AS MATERIALIZED ({seen}), size AS (SELECT file, sum(times) AS size FROM seen GROUP BY 1)"
        " SELECT a.file, b.file, sum(least(a.times, b.times)), any_value(x.size), any_value(y.size)"
        " FROM seen AS a JOIN seen AS b ON a.charge = b.charge AND a.file < b.file"
        " JOIN size AS x ON x.file = a.file JOIN size AS y ON y.file = b.file GROUP BY 1, 2 ORDER BY 1, 2",
        [ingest_id, source_format],
    )
    copies: dict[str, str] = {}
    overlaps: dict[tuple[str, str], float] = defaultdict(float)
    for one, other, both, size, other_size in common:
        if both == size == other_size and sizes[one] == sizes[other]:
            copies.setdefault(other, copies.get(one, one))
        elif both >= OVERLAP * min(size, other_size):
            overlaps[one, other] = both / min(size, other_size)
    for (one, other), share in overlaps.items():
        if one not in copies and other not in copies:
            raise InputError(
                f"{one} and {other}: {100 * share:.0f} % of the charges of the smaller one are in the other"
                " too and would count twice; accepted: each charge in one file, such as the latest export of"
                " a month alone"
            )
    return copies
