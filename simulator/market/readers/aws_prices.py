"""AWS spot price history: raw CLI JSON, CSV of events, and TSV without a header.

All three list events of a step function: the price holds until the pool's next event.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.errors import InputError
from simulator.market.market import Pool
from simulator.market.readers.files import json_of
from simulator.market.readers.records import PriceHistory
from simulator.market.readers.tables import Table, by_pool, normalised, read_table
from simulator.market.readers.zones import provider_and_region

CLI_FIELDS = ("Timestamp", "AvailabilityZone", "InstanceType", "ProductDescription", "SpotPrice")
COLUMNS = ("timestamp", "availabilityzone", "instancetype", "productdescription", "spotprice")
TSV_COLUMNS = ("availabilityzone", "instancetype", "productdescription", "spotprice", "timestamp")


def is_cli_json(content: object) -> bool:
    """Whether parsed JSON looks like the answer of `aws ec2 describe-spot-price-history`."""
    return isinstance(content, dict) and "SpotPriceHistory" in content


def read_cli_json(file: str, data: bytes) -> list[PriceHistory]:
    """Read what `aws ec2 describe-spot-price-history` prints: newest first, prices as text.

    Raises:
        InputError: An entry lacks a field, has a value out of range, or contradicts another.
    """
    content = json_of(file, data)
    entries = content.get("SpotPriceHistory") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputError(
            f"{file}: `SpotPriceHistory` is missing, empty or no list; "
            "accepted: the JSON that `aws ec2 describe-spot-price-history` prints"
        )
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{file}, SpotPriceHistory entry {index}: no object; accepted: {{...}}")
        for field in CLI_FIELDS:
            # AWS writes prices as text; programs that rewrite the file make numbers of them.
            kinds = (str, int, float) if field == "SpotPrice" else (str,)
            if type(entry.get(field)) not in kinds:
                raise InputError(
                    f"{file}, SpotPriceHistory entry {index}: `{field}` is missing or of the wrong type; "
                    f"accepted: {'a price' if field == 'SpotPrice' else 'text'}"
                )
    frame = pd.DataFrame(
        {normalised(field): [_text(entry[field]) for entry in entries] for field in CLI_FIELDS}, dtype=object
    )
    return _histories(Table(file, frame, "SpotPriceHistory entry", 0), ordered=False)


def read_csv_events(file: str, data: bytes) -> list[PriceHistory]:
    """Read a CSV of events, oldest first, with or without a column `ondemand_price`.

    Raises:
        InputError: A column is missing, a value is out of range, or time runs backwards within a pool.
    """
    return _histories(read_table(file, data, needed=COLUMNS), ordered=True)


def read_tsv_events(file: str, data: bytes) -> list[PriceHistory]:
    """Read a TSV without a header: zone ID, instance type, product, price, time; oldest first.

    Raises:
        InputError: A value is out of range, or time runs backwards within a pool.
    """
    return _histories(
        read_table(file, data, needed=TSV_COLUMNS, separator="\t", names=TSV_COLUMNS), ordered=True
    )


def _text(value: object) -> str:
    # A number of thousands of digits cannot be written out: it is no price in any case.
    return "out of range" if isinstance(value, int) and abs(value) > 10**18 else str(value)


def _histories(table: Table, *, ordered: bool) -> list[PriceHistory]:
    times = table.times_ms("timestamp")
    spot = table.prices("spotprice")
    on_demand: NDArray[np.float64] | None = None
    if "ondemandprice" in table.frame.columns:
        on_demand = table.prices("ondemandprice")
    zone, instance, product = (table.text(column) for column in COLUMNS[1:4])
    end = int(times.max())
    histories = []
    for rows in by_pool(table, (zone, instance, product), times, spot, ordered=ordered):
        row = int(rows[0])
        found = provider_and_region(zone[row])
        if found is None or found[0] != "aws":
            raise InputError(
                f"{table.at(row)}: {zone[row]!r} is no AWS zone; "
                "accepted: names such as us-east-1a or use1-az1"
            )
        histories.append(
            PriceHistory(
                table.file,
                Pool("aws", found[1], zone[row], instance[row]),
                product[row],
                times[rows],
                spot[rows],
                None if on_demand is None else on_demand[rows],
                end,
            )
        )
    return histories
