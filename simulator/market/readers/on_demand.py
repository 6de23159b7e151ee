"""On-demand list prices by region and instance type, from CSV."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simulator.errors import InputError
from simulator.market.market import Pool
from simulator.market.readers.files import read_bytes
from simulator.market.readers.tables import normalised, read_table
from simulator.market.readers.zones import sold_as

TYPE_COLUMNS, PRICE_COLUMNS = ("instancetype", "instancecode"), ("ondemandprice", "price")


@dataclass(frozen=True)
class OnDemandPrices:
    """USD per hour by (region, instance type).

    Attributes:
        file: Where they were read.
        prices: All prices of the file.
    """

    file: str
    prices: dict[tuple[str, str], float]

    def price(self, pool: Pool) -> float | None:
        """The price of `pool`, None if the file has none."""
        for instance_type in (pool.instance_type, sold_as(pool)):
            if (pool.region, instance_type) in self.prices:
                return self.prices[pool.region, instance_type]
        return None


def read_on_demand_prices(path: Path) -> OnDemandPrices:
    """Read a CSV with a region, an instance type and a price per row.

    Column names: `region`; `instance_type` or `InstanceCode`; `ondemand_price` or `Price`, in any case.

    Raises:
        InputError: A column is missing, a price is out of range or not above 0, or a type has two prices.
    """
    data = read_bytes(path)
    header = {normalised(name) for name in data.split(b"\n", 1)[0].decode("utf-8", "replace").split(",")}
    type_column = next((name for name in TYPE_COLUMNS if name in header), TYPE_COLUMNS[0])
    price_column = next((name for name in PRICE_COLUMNS if name in header), PRICE_COLUMNS[0])
    table = read_table(str(path), data, needed=("region", type_column, price_column))
    region, instance = table.text("region"), table.text(type_column)
    found: dict[tuple[str, str], float] = {}
    for row, price in enumerate(table.prices(price_column).tolist()):
        key = (region[row], instance[row])
        if price <= 0:
            raise InputError(f"{table.at(row)}: on-demand price {price:g}; accepted: more than 0")
        if found.setdefault(key, price) != price:
            raise InputError(
                f"{table.at(row)}: second price {price:g} for {key[1]} in {key[0]}, "
                f"before it was {found[key]:g}; accepted: one price per region and type"
            )
    return OnDemandPrices(str(path), found)
