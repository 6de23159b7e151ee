"""How a normaliser writes a row: which columns a ledger row has, and the small expressions they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis

from optimizer.billing.focus import LEDGER_SCHEMA, MONEY

if TYPE_CHECKING:
    import ibis.expr.types as ir

WRITTEN: dict[str, str] = {name: kind for name, kind in LEDGER_SCHEMA.items() if name != "x_IngestId"}
"""Columns of the ledger that a normaliser fills, with their types."""


@dataclass(frozen=True)
class Normalised:
    """The FOCUS rows of one batch of files.

    Attributes:
        rows: One row per row of the export, with the columns `WRITTEN` and: `reject_reason` (text, or null
            for a good
            row), `dropped` (true for a row that has no place in FOCUS and whose cost others carry),
            `source_cost` (what the export invoices on this row, exact; null where it is not a number), and
            of some formats `shared_cost` (what the row says beside that of another charge, such as the share
            of a commitment that an amortised set without its actual one has).
        derived: More rows, with the columns `WRITTEN`: what one row of the export says about a second charge,
            such as
            the unused part of a commitment on its fee.
    """

    rows: ir.Table
    derived: tuple[ir.Table, ...] = ()

    @property
    def accepted(self) -> ir.Table:
        """The good rows, with the columns `WRITTEN` alone."""
        good = self.rows.filter(self.rows.reject_reason.isnull() & ~self.rows.dropped)
        return good.select(*WRITTEN)

    @property
    def unpriced_spot(self) -> ir.Table:
        """The lines of spot rows without an on-demand price in the export."""
        rows = self.accepted
        unknown = (rows.PricingCategory == "Dynamic") & rows.x_OnDemandEquivalentCost.isnull()
        return rows.filter(unknown).select(rows.x_SourceLine)

    @property
    def rejected(self) -> ir.Table:
        """The bad rows."""
        return self.rows.filter(self.rows.reject_reason.notnull())


def money(value: Any) -> ir.DecimalValue:
    """Return `value` as an exact amount."""
    return ibis.literal(value).cast(MONEY) if isinstance(value, (int, float, str)) else value.cast(MONEY)


def product(left: ir.NumericValue, right: ir.NumericValue) -> ir.DecimalValue:
    """Return left × right; in double precision, since decimal products differ between engines."""
    return (left.cast("float64") * right.cast("float64")).cast(MONEY)


def quotient(left: ir.NumericValue, right: ir.NumericValue) -> ir.DecimalValue:
    """Return left ÷ right, null where right is zero or null."""
    return (left.cast("float64") / right.nullif(money(0)).cast("float64")).cast(MONEY)


def when(condition: ir.BooleanValue, value: Any) -> ir.Value:
    """Return `value` where `condition` holds, null elsewhere."""
    return ibis.cases((condition, value), else_=None)


def first_reason(*pairs: tuple[ir.BooleanValue, Any]) -> ir.StringValue:
    """Return the text of the first condition that holds, or null."""
    return ibis.cases(*pairs, else_=ibis.null("string"))


def joined_flags(*pairs: tuple[ir.BooleanValue, str]) -> ir.StringValue:
    """Return the names of all conditions that hold, separated by commas, or null."""
    text: Any = ibis.literal("")
    for condition, name in pairs:
        text = text + ibis.cases((condition, ibis.literal(name + ",")), else_=ibis.literal(""))
    return text.re_replace(",$", "").nullif("")


def span_hours(begin: ir.TimestampValue, end: ir.TimestampValue) -> ir.FloatingValue:
    """Return the length of a charge period in hours."""
    return (end.epoch_seconds() - begin.epoch_seconds()) / 3600.0


def json_text(value: ir.StringValue) -> ir.StringValue:
    """Return `value` as the inside of a JSON string: quotes and backslashes escaped."""
    return value.replace("\\", "\\\\").replace('"', '\\"')


def sku_details(
    instance_type: ir.StringValue, cores: ir.StringValue | None = None, system: ir.StringValue | None = None
) -> ir.StringValue:
    """Return SkuPriceDetails of an instance as JSON text with FOCUS's own keys, null without a type."""
    text: Any = ibis.literal('{"InstanceType": "') + json_text(instance_type) + '"'
    if cores is not None:
        is_number = cores.re_search(r"^[0-9]+$")
        text = text + ibis.cases((is_number, ibis.literal(', "CoreCount": ') + cores), else_=ibis.literal(""))
    if system is not None:
        named = ibis.literal(', "OperatingSystem": "') + json_text(system) + '"'
        text = text + ibis.cases((system.notnull(), named), else_=ibis.literal(""))
    return when(instance_type.notnull(), text + "}")


def assemble(raw: ir.Table, values: Mapping[str, Any], **more: Any) -> ir.Table:
    """Return `raw` as a table of the columns `WRITTEN`, then `more`.

    A column that `values` does not name is null. Unknown names are a mistake of ours and raise `KeyError`.
    """
    unknown = set(values) - set(WRITTEN)
    if unknown:
        raise KeyError(f"no ledger columns: {sorted(unknown)}")
    columns = {}
    for name, kind in WRITTEN.items():
        value = values.get(name)
        columns[name] = ibis.null(kind) if value is None else _typed(value, kind)
    return raw.select(**columns, **more)


def _typed(value: Any, kind: str) -> Any:
    if isinstance(value, (str, int, float)):
        return ibis.literal(value).cast(kind)
    return value if value.type() == ibis.dtype(kind) else value.cast(kind)


_SPOT_WORDS = (
    ("SpotUsage", "BoxUsage"),
    ("Spot Preemptible ", ""),
    ("Preemptible ", ""),
    ("Spot Instance", "Instance"),
    (" Low Priority", ""),
    (" Spot", ""),
)
"""How the meters of spot differ from those of on-demand capacity, on any of the clouds."""


def on_demand_equivalents(rows: ir.Table) -> ir.Table:
    """Return `rows` with `x_OnDemandEquivalentCost` filled where a twin on-demand meter shows the price.

    Spot rows carry no on-demand price in many exports. Where the same batch bills the same meter in the same
    region on demand, its highest list price per unit is the price: commitments and free tiers only lower it.
    """
    meter: Any = ibis.coalesce(rows.SkuMeter, rows.x_InstanceType)
    for spot, plain in _SPOT_WORDS:
        meter = meter.replace(spot, plain)
    keyed = rows.mutate(od_meter=meter)
    billed = keyed.filter(
        keyed.PricingCategory.isin(["Standard", "Committed"])
        & (keyed.ChargeCategory == "Usage")
        & (keyed.PricingQuantity > money(0))
        & (keyed.ListCost > money(0))
    )
    per_unit = billed.ListCost.cast("float64") / billed.PricingQuantity.cast("float64")
    keys = {"od_provider": billed.ProviderName, "od_region": billed.RegionId, "od_key": billed.od_meter}
    rates = billed.group_by(**keys).agg(od_rate=per_unit.max())
    joined = keyed.left_join(
        rates,
        (keyed.PricingCategory == "Dynamic")
        & (keyed.ProviderName == rates.od_provider)
        & (keyed.RegionId == rates.od_region)
        & (keyed.od_meter == rates.od_key),
    )
    at_rate = (joined.od_rate * joined.PricingQuantity.cast("float64")).cast(MONEY)
    twin = when(joined.PricingCategory == "Dynamic", at_rate)
    filled = ibis.coalesce(joined.x_OnDemandEquivalentCost, twin)
    return joined.mutate(x_OnDemandEquivalentCost=filled).select(*rows.columns)
