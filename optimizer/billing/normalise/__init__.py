"""Maps what each export says to FOCUS 1.2, as Ibis expressions that any SQL engine can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimizer.billing.normalise.aws import normalise_aws
from optimizer.billing.normalise.azure import normalise_azure
from optimizer.billing.normalise.focus import normalise_focus
from optimizer.billing.normalise.gcp import normalise_gcp
from optimizer.billing.normalise.row import Normalised, on_demand_equivalents

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from optimizer.billing.sources import Format

__all__ = ["Normalised", "normalise", "on_demand_equivalents"]


def normalise(raw: ir.Table, credit_lines: ir.Table | None, source_format: Format) -> Normalised:
    """Return the FOCUS rows of `raw`.

    Args:
        raw: Rows with the columns of `optimizer.billing.sources.fields` for that format.
        credit_lines: Google's credits, one row each; None otherwise.
        source_format: Format that `raw` has.
    """
    if source_format == "gcp":
        return normalise_gcp(raw, credit_lines)
    if source_format == "azure":
        return normalise_azure(raw)
    if source_format == "focus":
        return normalise_focus(raw)
    return normalise_aws(raw, source_format)
