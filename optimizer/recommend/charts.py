"""The charts of the report, as plotly figures that suit a light and a dark page."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from optimizer.demo.charts import ACCENT, GRID, INK, ON_DEMAND, SPOT
from optimizer.recommend.details import Detail, Timeline
from optimizer.recommend.result import TITLES, Role, Scenario

POOLS = ("#2a9d8f", "#457b9d", "#8ab17d", "#6d6fb0", "#4fb3bf", "#9aa94a", "#7a8fa6", "#b08bbf")
LEVELS: tuple[Role, ...] = ("as-billed", "on-demand", "static-mix", "heuristic", "champion", "bound")


def waterfall(scenarios: Sequence[Scenario], recommended: Role) -> go.Figure:
    """From the bill to the clairvoyant bound, step by step; the step that is recommended is told."""
    by_role = {one.role: one for one in scenarios}
    roles = [role for role in LEVELS if role in by_role]
    costs = [by_role[role].monthly_usd for role in roles]
    steps = [costs[0], *np.diff(costs)]
    names = [
        TITLES[role].replace(" ", "<br>") + ("<br>✓" if role == recommended != "as-billed" else "")
        for role in roles
    ]
    figure = go.Figure(
        go.Waterfall(
            x=[*names, "least<br>possible"],
            y=[*steps, 0.0],
            measure=["absolute", *["relative"] * (len(steps) - 1), "total"],
            text=[_money(costs[0]), *(f"{step:+,.0f}" for step in steps[1:]), _money(costs[-1])],
            textposition="outside",
            cliponaxis=False,
            connector={"line": {"color": GRID, "width": 1}},
            increasing={"marker": {"color": ON_DEMAND}},
            decreasing={"marker": {"color": SPOT}},
            totals={"marker": {"color": ACCENT}},
            hovertemplate="%{x}: %{y:,.2f} USD<extra></extra>",
        )
    )
    figure.update_xaxes(tickangle=0, tickfont={"size": 11})
    figure.update_yaxes(title="USD a month", rangemode="tozero")
    return _laid_out(figure, height=320, showlegend=False)


def distributions(detail: Detail, billed: float) -> go.Figure:
    """A month's cost as each window has it, one box per policy; the bill as a line."""
    figure = go.Figure()
    for role in reversed([role for role in LEVELS if role in detail.monthly]):
        colour = SPOT if role == "bound" else ACCENT
        figure.add_trace(
            go.Box(
                name=TITLES[role],
                x=np.round(detail.monthly[role], 2),
                orientation="h",
                boxpoints="outliers",
                marker={"size": 3, "opacity": 0.7, "color": colour},
                line={"width": 1.3, "color": colour},
                fillcolor="rgba(69,123,157,0.15)",
                hoverinfo="x+name",
            )
        )
    figure.add_vline(x=billed, line={"color": ON_DEMAND, "width": 2, "dash": "dot"})
    figure.add_annotation(
        x=billed, y=1.0, yref="paper", text=f"billed {billed:,.0f}", showarrow=False, yanchor="bottom",
        font={"color": ON_DEMAND},
    )  # fmt: skip
    figure.update_xaxes(title="USD a month, one value per window")
    figure = _laid_out(figure, height=90 + 44 * len(detail.monthly), showlegend=False)
    figure.update_layout(margin={"t": 26})
    return figure


def timeline(seen: Timeline) -> go.Figure:
    """What was held in every place, stacked, under the demand, with interruptions."""
    hours = np.arange(len(seen.demand)) * seen.tick_hours
    figure = go.Figure()
    for row, place in enumerate(seen.places):
        if not seen.held[row].any():
            continue
        last = row == len(seen.places) - 1
        figure.add_trace(
            go.Scatter(
                name=html.escape(place if last else f"spot {place}"),
                x=hours,
                y=seen.held[row],
                stackgroup="held",
                line={"shape": "hv", "width": 0},
                fillcolor=ON_DEMAND if last else POOLS[row % len(POOLS)],
                hovertemplate="hour %{x:.1f}: %{y}<extra>%{fullData.name}</extra>",
            )
        )
    figure.add_trace(
        go.Scatter(
            name="demand",
            x=hours,
            y=seen.demand,
            line={"shape": "hv", "width": 2, "color": INK},
            hovertemplate="hour %{x:.1f}: %{y} needed<extra></extra>",
        )
    )
    broken = np.flatnonzero(seen.interrupted)
    figure.add_trace(
        go.Scatter(
            name="interruption",
            mode="markers",
            x=hours[broken],
            y=np.full(
                len(broken),
                float(max(seen.held.sum(axis=0).max(initial=0), seen.demand.max(initial=0))) + 0.6,
            ),
            marker={"symbol": "x", "size": 8, "color": ON_DEMAND},
            customdata=seen.interrupted[broken],
            hovertemplate="hour %{x:.1f}: %{customdata} taken back<extra></extra>",
        )
    )
    figure.update_xaxes(title="hours", range=[0, len(seen.demand) * seen.tick_hours])
    figure.update_yaxes(title="instances", rangemode="tozero")
    return _laid_out(figure, height=300)


def overview(scenarios: Sequence[Scenario]) -> go.Figure:
    """A month's cost of all workloads together, with 90 % intervals."""
    rows = list(reversed([one for one in scenarios if one.role != "recommended"]))
    best = next(one for one in scenarios if one.role == "recommended")
    rows.insert(len(rows) - 1, best)
    means = [one.monthly_usd for one in rows]
    spans = [one.monthly_interval_usd or (one.monthly_usd, one.monthly_usd) for one in rows]
    colours = {"as-billed": ON_DEMAND, "recommended": SPOT}
    figure = go.Figure(
        go.Bar(
            orientation="h",
            y=[TITLES[one.role] for one in rows],
            x=means,
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [max(high - mean, 0.0) for mean, (_, high) in zip(means, spans, strict=True)],
                "arrayminus": [max(mean - low, 0.0) for mean, (low, _) in zip(means, spans, strict=True)],
                "color": INK,
                "thickness": 1.4,
            },
            marker={"color": [colours.get(one.role, ACCENT) for one in rows], "line": {"width": 0}},
            text=[_money(mean) for mean in means],
            textposition="inside",
            insidetextanchor="start",
            textfont={"color": "white"},
            hovertemplate="%{y}: %{x:,.2f} USD<extra></extra>",
        )
    )
    figure.update_xaxes(title="USD a month", rangemode="tozero")
    return _laid_out(figure, height=70 + 36 * len(rows), showlegend=False)


def _laid_out(figure: go.Figure, *, height: int, **layout: object) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 16, "t": 14, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        bargap=0.28,
        **layout,
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, automargin=True, title_font={"size": 12})
    figure.update_yaxes(
        gridcolor=GRID, zeroline=False, automargin=True, ticklabelstandoff=6, title_font={"size": 12}
    )
    return figure


def _money(amount: float) -> str:
    return f"{amount:,.0f}"
