"""GCP list prices as a list of changes: spot and on-demand per machine type and region.

A change is dated by when it was first seen. A blank or zero price means that it was not known yet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError
from simulator.market.market import Pool
from simulator.market.readers.records import PriceHistory
from simulator.market.readers.tables import by_pool, read_table

COLUMNS = ("committime", "machinetype", "region", "ondemandprice", "spotprice")


def read_gcp_changes(file: str, data: bytes) -> list[PriceHistory]:
    """Read a change list; prices are regional, so the zone of a pool is its region.

    Raises:
        InputError: A column is missing, a value is out of range, time runs backwards, or no row has both
            prices.
    """
    table = read_table(file, data, needed=COLUMNS)
    times = table.times_ms("committime")
    spot, on_demand = (
        _known(table.prices(column, missing=("",))) for column in ("spotprice", "ondemandprice")
    )
    machine, region = table.text("machinetype"), table.text("region")
    end = int(times.max())
    whole = ~(np.isnan(spot) | np.isnan(on_demand))
    histories = []
    for rows in by_pool(table, (machine, region), times, spot, ordered=True):
        known = rows[whole[rows]]
        if known.size:
            row = int(known[0])
            pool = Pool("gcp", region[row], region[row], machine[row])
            histories.append(PriceHistory(file, pool, "", times[known], spot[known], on_demand[known], end))
    if not histories:
        raise InputError(f"{file}: no row has a spot and an on-demand price; accepted: at least one such row")
    return histories


def _known(prices: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(prices == 0, np.nan, prices)
