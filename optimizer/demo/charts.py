"""The charts of the demo's report, as plotly figures that suit a light and a dark page."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from optimizer.demo.run import OPTIMUM, Result

SPOT, ON_DEMAND, IDLE, AWAY = "#2a9d8f", "#e76f51", "#b8bfc6", "#8d99ae"
ACCENT, MUTED = "#457b9d", "#8d99ae"
INK = "#7d8794"
"""Readable on white and on near-black."""
GRID = "rgba(128,138,150,0.22)"


def laid_out(figure: go.Figure, *, height: int, **layout: object) -> go.Figure:
    """The same figure in the page's style."""
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 16, "t": 8, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        bargap=0.28,
        **layout,
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True, ticklabelstandoff=6)
    figure.update_xaxes(title_font={"size": 12})
    return figure


def timeline(result: Result) -> go.Figure:
    """Bands of spot, on-demand and idle for every policy, over the availability of the pool."""
    window = result.timeline
    hours = result.tick_hours
    lanes = [*(label for label in window.placements if label != OPTIMUM), OPTIMUM]
    names = [f"{label}  {window.cost_usd[label]:.0f} USD" for label in lanes]
    figure = go.Figure()
    spans: dict[str, list[tuple[str, float, float]]] = {"spot": [], "on-demand": [], "idle": []}
    for label, name in zip(lanes, names, strict=True):
        for code, kind in ((2, "spot"), (1, "on-demand"), (0, "idle")):
            for first, last in runs(window.placements[label] == code):
                spans[kind].append((name, first * hours, (last - first) * hours))
    sky = [
        ("spot available", first * hours, (last - first) * hours) for first, last in runs(window.available)
    ]
    for kind, colour, bars in (
        ("spot", SPOT, spans["spot"]),
        ("on-demand", ON_DEMAND, spans["on-demand"]),
        ("idle", IDLE, spans["idle"]),
        ("pool has spot", AWAY, sky),
    ):
        figure.add_trace(
            go.Bar(
                name=kind,
                orientation="h",
                y=[bar[0] for bar in bars],
                base=[bar[1] for bar in bars],
                x=[bar[2] for bar in bars],
                marker={"color": colour, "line": {"width": 0}},
                hovertemplate="%{y}<br>" + kind + " from hour %{base:.1f} for %{x:.1f} h<extra></extra>",
            )
        )
    figure.update_yaxes(categoryorder="array", categoryarray=["spot available", *reversed(names)])
    figure.update_xaxes(title="hours since the job began", range=[0, len(window.available) * hours])
    return laid_out(figure, height=96 + 34 * (len(lanes) + 1), barmode="overlay")


def mean_costs(result: Result) -> go.Figure:
    """Mean cost with its 95 % interval, cheapest below, the optimum as a line."""
    rows = sorted(result.summary["policies"].items(), key=lambda item: -item[1]["cost_usd"]["mean"])
    means = [row["cost_usd"]["mean"] for _, row in rows]
    figure = go.Figure(
        go.Bar(
            orientation="h",
            y=[label for label, _ in rows],
            x=means,
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [row["cost_usd"]["ci95"][1] - row["cost_usd"]["mean"] for _, row in rows],
                "arrayminus": [row["cost_usd"]["mean"] - row["cost_usd"]["ci95"][0] for _, row in rows],
                "color": INK,
                "thickness": 1.4,
            },
            marker={"color": ACCENT, "line": {"width": 0}},
            text=[f"{mean:.1f}" for mean in means],
            textposition="inside",
            insidetextanchor="start",
            textfont={"color": "white"},
            hovertemplate="%{y}: %{x:.2f} USD<extra></extra>",
        )
    )
    optimum = result.summary["clairvoyant_optimum"]["cost_usd"]["mean"]
    figure.add_vline(x=optimum, line={"color": SPOT, "width": 2, "dash": "dot"})
    figure.add_annotation(
        x=optimum, y=1.0, yref="paper", text=f"optimum {optimum:.1f}", showarrow=False, yanchor="bottom",
        font={"color": SPOT},
    )  # fmt: skip
    figure.update_xaxes(title="mean cost of a job, USD", rangemode="tozero")
    figure = laid_out(figure, height=70 + 36 * len(rows), showlegend=False)
    figure.update_layout(margin={"t": 26})
    return figure


def gaps(result: Result) -> go.Figure:
    """How far each policy gets from Uniform Progress (0 %) to the optimum (100 %)."""
    rows = [
        (label, row["gap_closed"])
        for label, row in result.summary["policies"].items()
        if label not in ("on-demand", "uniform-progress") and row["gap_closed"] is not None
    ]
    rows.sort(key=lambda row: row[1])
    figure = go.Figure(
        go.Bar(
            orientation="h",
            y=[label for label, _ in rows],
            x=[100 * gap for _, gap in rows],
            marker={
                "color": [SPOT if gap >= 0 else ON_DEMAND for _, gap in rows],
                "line": {"width": 0},
            },
            text=[f"{100 * gap:.0f} %" for _, gap in rows],
            textposition="auto",
            insidetextfont={"color": "white"},
            hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        )
    )
    lowest = min([0.0, *(100 * gap for _, gap in rows)])
    figure.update_xaxes(title="% of the way from Uniform Progress", range=[max(lowest * 1.1, -150), 105])
    return laid_out(figure, height=70 + 36 * len(rows), showlegend=False)


def distributions(result: Result) -> go.Figure:
    """Cost of every episode, one box per policy."""
    figure = go.Figure()
    labels = sorted(
        result.summary["policies"], key=lambda label: -result.summary["policies"][label]["cost_usd"]["mean"]
    )
    for label in labels:
        figure.add_trace(
            go.Box(
                name=label,
                x=result.evaluation.of(label)["cost_usd"],
                orientation="h",
                boxpoints="all",
                jitter=0.5,
                pointpos=0,
                marker={"size": 3, "opacity": 0.7, "color": ACCENT},
                line={"width": 1.3, "color": ACCENT},
                fillcolor="rgba(69,123,157,0.15)",
                hoverinfo="x+name",
            )
        )
    figure.add_trace(
        go.Box(
            name=OPTIMUM,
            x=result.evaluation.of(labels[0])["optimum_usd"],
            orientation="h",
            boxpoints="all",
            jitter=0.5,
            pointpos=0,
            marker={"size": 3, "opacity": 0.7, "color": SPOT},
            line={"width": 1.3, "color": SPOT},
            fillcolor="rgba(42,157,143,0.15)",
            hoverinfo="x+name",
        )
    )
    figure.update_xaxes(title="cost of a job, USD")
    return laid_out(figure, height=70 + 42 * (len(labels) + 1), showlegend=False)


def runs(wanted: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """First tick and the tick after the last of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def html_of(figure: go.Figure) -> str:
    """The figure as a part of the page."""
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        config={"displaylogo": False, "responsive": True, "displayModeBar": False},
    )
    return html
