"""SpotLake: a dense hourly grid with spot and on-demand price per AZ-ID, as CSV or parquet.

Times are written without a zone and mean UTC; a price of -1 is missing; zones are AZ-IDs, which cannot be
joined with names such as us-east-1a. Column `IF` is the interruption band (`advisor.py`).
"""

from __future__ import annotations

import io

import numpy as np

from simulator.errors import InputError
from simulator.market.market import Pool
from simulator.market.readers.files import HIGHEST_BYTES
from simulator.market.readers.records import PriceHistory
from simulator.market.readers.tables import Table, by_pool, normalised, read_table

COLUMNS = ("time", "instancetype", "region", "az", "ondemandprice", "spotprice")
HOUR_MS = 3_600_000


def read_spotlake_csv(file: str, data: bytes) -> list[PriceHistory]:
    """Read SpotLake rows from CSV.

    Raises:
        InputError: A column is missing, a value is out of range, or time runs backwards within a pool.
    """
    return _histories(read_table(file, data, needed=COLUMNS))


def read_spotlake_parquet(file: str, data: bytes) -> list[PriceHistory]:
    """Read SpotLake rows from parquet.

    Raises:
        InputError: As for the CSV, or the file is no parquet file.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        source = parquet.ParquetFile(io.BytesIO(data))
        size = sum(
            source.metadata.row_group(i).total_byte_size for i in range(source.metadata.num_row_groups)
        )
        if size > HIGHEST_BYTES or source.metadata.num_rows > HIGHEST_BYTES // 64:
            raise InputError(f"{file}: {source.metadata.num_rows} rows; accepted: smaller files")
        # Whoever wrote the file may have left pandas notes in it: they say nothing that is needed.
        table = source.read().replace_schema_metadata(None)
        table.validate(full=True)  # finds text that is no UTF-8 here instead of much later
        columns = {normalised(name): name for name in table.column_names}
        frame = table.select([columns[name] for name in COLUMNS if name in columns]).to_pandas()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise InputError(f"{file}: not a whole parquet file ({error}); accepted: SpotLake rows") from error
    lacking = [name for name in COLUMNS if name not in columns]
    if lacking or table.num_rows == 0:
        raise InputError(
            f"{file}: column {', '.join(lacking) or 'values'} missing; "
            f"it has {', '.join(table.column_names)}; accepted: {', '.join(COLUMNS)}"
        )
    frame.columns = list(COLUMNS)
    return _histories(Table(file, frame.astype(str), "row", 0))


def _histories(table: Table) -> list[PriceHistory]:
    spot = table.prices("spotprice", missing_number=-1.0)
    on_demand = table.prices("ondemandprice", missing_number=-1.0)
    whole = ~(np.isnan(spot) | np.isnan(on_demand))
    times = table.times_ms("time")
    zone, instance, region = (table.text(column) for column in ("az", "instancetype", "region"))
    end = int(times.max()) + HOUR_MS
    histories = []
    for rows in by_pool(table, (zone, instance), times, spot, ordered=True):
        known = rows[whole[rows]]
        if known.size:
            row = int(known[0])
            histories.append(
                PriceHistory(
                    table.file,
                    Pool("aws", region[row], zone[row], instance[row]),
                    "",
                    times[known],
                    spot[known],
                    on_demand[known],
                    end,
                )
            )
    if not histories:
        raise InputError(f"{table.file}: every price is missing (-1); accepted: at least one price")
    return histories
