"""The demo's service: demand against ready capacity by pool, for two policies one above the other."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from optimizer.demo.charts import INK, ON_DEMAND, laid_out, runs
from optimizer.demo.service import CHAMPION, SPOT_ONLY, Course, Storm
from simulator.deadline.observation import FloatArray

POOL_COLOURS = ("#1f7d72", "#3fb5a5", "#2f6690", "#6aa5cf", "#6d5a9e", "#a595cf", "#4d7c3a", "#8fb97a")
"""Two shades for each region."""
LOST, SHORT = "#d62839", "rgba(214,40,57,0.22)"
NEEDED, CASING = "#17202a", "#ffffff"
"""A dark line in a white one is seen on every area and on both papers."""
ROWS = (CHAMPION, SPOT_ONLY)


def storm_chart(storm: Storm) -> go.Figure:
    """Ready instances by pool and on-demand through the storm, the demand, and every interruption."""
    titles = [
        f"{label}: {int(storm.courses[label].lost.sum())} interruptions, "
        f"short for {storm.short_minutes(label):g} min"
        for label in ROWS
    ]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.13, subplot_titles=titles)
    figure.update_annotations(x=0, xanchor="left", font={"size": 13, "color": INK})
    hours = np.arange(len(storm.demand) + 1) * storm.tick_seconds / 3600.0
    top = max(int(course.ready.sum(axis=0).max()) for course in storm.courses.values())
    for row, label in enumerate(ROWS, 1):
        course = storm.courses[label]
        _stack(figure, row, hours, storm, course)
        _marks(figure, row, hours, storm, course, top + 0.6)
        for first, last in runs(course.short(storm.demand)):
            figure.add_vrect(
                x0=hours[first], x1=hours[last], fillcolor=SHORT, line_width=0, layer="below", row=row, col=1
            )
    figure.add_trace(  # for the legend alone, in a colour that is seen on both papers
        go.Scatter(
            name="demand", x=[None], y=[None], mode="lines", line={"width": 3, "color": INK}, hoverinfo="skip"
        )
    )
    figure.update_yaxes(range=[0, top + 1.4], title="instances ready", title_font={"size": 12}, dtick=2)
    figure.update_xaxes(range=[0, hours[-1]], dtick=1)
    figure.update_xaxes(title="hours shown", row=2, col=1)
    figure = laid_out(figure, height=600, hovermode="x unified")
    figure.update_layout(legend={"y": 1.09}, margin={"t": 84})
    return figure


def _stack(figure: go.Figure, row: int, hours: FloatArray, storm: Storm, course: Course) -> None:
    names = [*storm.pools, "on-demand"]
    colours = [*(POOL_COLOURS[place % len(POOL_COLOURS)] for place in range(len(storm.pools))), ON_DEMAND]
    for name, colour, ready in zip(names, colours, course.ready, strict=True):
        figure.add_trace(
            go.Scatter(
                name=name,
                x=hours,
                y=np.append(ready, ready[-1]),
                stackgroup=f"row {row}",
                mode="lines",
                line={"shape": "hv", "width": 0},
                fillcolor=colour,
                legendgroup=name,
                showlegend=row == 1,
                hovertemplate="%{y}",
            ),
            row=row,
            col=1,
        )
    for colour, width, hover in ((CASING, 4.5, "skip"), (NEEDED, 2.0, "all")):
        figure.add_trace(
            go.Scatter(
                name="demand",
                x=hours,
                y=np.append(storm.demand, storm.demand[-1]),
                mode="lines",
                line={"shape": "hv", "width": width, "color": colour},
                legendgroup="demand",
                showlegend=False,
                hoverinfo=hover,
            ),
            row=row,
            col=1,
        )


def _marks(
    figure: go.Figure, row: int, hours: FloatArray, storm: Storm, course: Course, height: float
) -> None:
    ticks = np.flatnonzero(course.lost.any(axis=0))
    words = [
        ", ".join(
            f"{course.lost[pool, tick]} in {storm.pools[pool]}"
            for pool in np.flatnonzero(course.lost[:, tick])
        )
        for tick in ticks
    ]
    figure.add_trace(
        go.Scatter(
            name="interrupted",
            x=hours[ticks],
            y=np.full(len(ticks), height),
            mode="markers",
            marker={
                "symbol": "triangle-down",
                "size": 8 + 1.5 * course.lost[:, ticks].sum(axis=0),
                "color": LOST,
                "opacity": 1.0,
                "line": {"width": 0},
            },
            cliponaxis=False,
            text=words,
            legendgroup="interrupted",
            showlegend=row == 1,
            hovertemplate="%{text}",
        ),
        row=row,
        col=1,
    )
