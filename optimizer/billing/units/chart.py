"""A page with the unit cost of every workload over time."""

from __future__ import annotations

import html
from pathlib import Path

from optimizer.billing.units.cost import UnitCosts
from simulator.errors import InputError


def write_chart(found: UnitCosts, path: Path) -> None:
    """Write a self-contained HTML page: one line per workload and currency; it loads nothing from outside.

    Raises:
        InputError: The folder does not exist.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for workload, currency in dict.fromkeys((p.workload, p.currency) for p in found.points):
        points = [p for p in found.points if (p.workload, p.currency) == (workload, currency)]
        figure.add_scatter(
            x=[p.start for p in points],
            y=[p.unit_cost for p in points],
            name=html.escape(f"{workload} ({currency})"),
            mode="lines+markers",
        )
    figure.update_layout(
        title=f"Cost per {html.escape(found.unit)}, per {found.per}",
        yaxis={"title": f"cost per {html.escape(found.unit)}", "rangemode": "tozero"},
        template="plotly_white",
    )
    if not path.parent.is_dir():
        raise InputError(f"{path}: no folder {path.parent}; make it first")
    figure.write_html(path, include_plotlyjs=True, full_html=True)
