"""The report as one self-contained HTML page. Every figure in it comes from the report."""

from __future__ import annotations

from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from optimizer.recommend import charts
from optimizer.recommend.result import (
    TITLES,
    Scenario,
    Sensitivity,
    Sla,
    WorkloadReport,
    amount,
    percent,
    shortened,
)
from optimizer.recommend.run import Found

MOST_CHARTED = 20
"""Workloads, dearest first, that have charts of their own; all are in the tables."""
OVERVIEW = ("workload", "type", "billed", "recommended", "saving", "90 % interval", "do", "policy", "SLA")
SCENARIOS = (
    "scenario",
    "policy",
    "USD a month",
    "90 % interval",
    "saving",
    "SLA",
    "interruptions a week",
    "hours on-demand + spot + committed",
)
TOTALS = ("scenario", "USD a month", "90 % interval", "saving")


def render_page(found: Found) -> str:
    """The page as HTML text; whatever the bill holds is shown as text."""
    report = found.report
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("optimizer.recommend", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.j2").render(
        report=report,
        numbers=_numbers(found),
        overview_headings=OVERVIEW,
        overview_rows=[_overview_row(one) for one in report.workloads],
        overview=_html(charts.overview(report.total)),
        total_rows=[[row[0], *row[2:5]] for row in map(_scenario_row, report.total)],
        scenario_headings=SCENARIOS,
        total_headings=TOTALS,
        parts=[_part(found, place, one) for place, one in enumerate(report.workloads)],
        assumed=sorted({text for w in report.workloads if w.market for text in w.market.assumed}),
        plotly_js=get_plotlyjs(),
    )


def _numbers(found: Found) -> list[dict[str, str]]:
    report = found.report
    by_role = {one.role: one for one in report.total}
    billed, best = by_role["as-billed"], by_role["recommended"]
    moved = [one for one in report.workloads if one.decision.action == "move"]
    low, high = best.saving_interval_usd or (best.saving_usd, best.saving_usd)
    unused = sum(one.cost for one in report.unused_commitments if one.currency == "USD")
    factor = 730.0 / report.span.hours
    return [
        {"value": f"{billed.monthly_usd:,.0f}", "label": "USD a month, as billed for these workloads"},
        {
            "value": f"{best.saving_usd:,.0f}",
            "label": f"USD a month saved as recommended; 90 % between {low:,.0f} and {high:,.0f}"
            + (", assumed" if best.assumed else ""),
        },
        {"value": f"{len(moved)} of {len(report.workloads)}", "label": "workloads to move"},
        {"value": f"{unused * factor:,.0f}", "label": "USD a month of commitments that nothing uses"},
    ]


def _overview_row(one: WorkloadReport) -> list[dict[str, object]]:
    decision = one.decision
    scenario = one.scenario(decision.role)
    moved = decision.action == "move" and scenario is not None
    low, high = decision.saving_interval_usd or (0.0, 0.0)
    return _cells(
        [
            (one.name, shortened(one.name)),
            (one.instance_type, one.instance_type),
            (one.billed.monthly, f"{one.billed.monthly:,.2f} {one.billed.currency}"),
            (scenario.monthly_usd, f"{scenario.monthly_usd:,.2f}")
            if moved and scenario
            else (one.billed.monthly, ""),
            (decision.saving_usd, amount(decision.saving_usd) if moved else ""),
            (low, f"{low:,.0f} to {high:,.0f}" if moved else ""),
            (decision.action, "move" if moved else "change nothing"),
            (decision.policy or "", decision.policy or ""),
            _sla(scenario.sla, scenario.extra_words) if moved and scenario else _sla(None),
        ]
    )


def _scenario_row(one: Scenario) -> list[dict[str, object]]:
    low, high = one.monthly_interval_usd or (one.monthly_usd, one.monthly_usd)
    hours = {
        option: sum(h.hours for h in one.hours if h.option == option)
        for option in ("on-demand", "spot", "committed")
    }
    mark = " (assumed)" if one.assumed else ""
    share = "" if one.saving_share is None else f" ({percent(one.saving_share)})"
    return _cells(
        [
            (TITLES[one.role], TITLES[one.role] + mark),
            (one.policy or "", one.policy or ""),
            (one.monthly_usd, f"{one.monthly_usd:,.2f}"),
            (low, f"{low:,.0f} to {high:,.0f}" if one.monthly_interval_usd else ""),
            (one.saving_usd, f"{amount(one.saving_usd)}{share}"),
            _sla(one.sla, one.extra_words),
            (
                -1.0 if one.interruptions_per_week is None else one.interruptions_per_week,
                "" if one.interruptions_per_week is None else f"{one.interruptions_per_week:.1f}",
            ),
            (hours["spot"], " + ".join(f"{each:,.0f}" for each in hours.values()) if one.hours else ""),
        ]
    )


def _sla(sla: Sla | None, lateness: str = "") -> tuple[object, str]:
    if sla is None:
        return "", ""
    mark = "✓" if sla.holds else "✗"
    if sla.measure == "availability":
        return sla.value, f"{mark} {sla.value:.4f} (≥\u00a0{sla.bound:.4f}), target\u00a0{sla.target:.4g}"
    late = f"; {lateness}" if lateness else ""
    return sla.value, f"{mark} {sla.value:.2%} (<\u00a0{sla.bound:.1%}) past the deadline{late}"


def _cells(cells: list[Any]) -> list[dict[str, object]]:
    return [
        {"value": value, "text": text, "words": isinstance(value, str) or text[:1] in ("✓", "✗")}
        for value, text in cells
    ]


def _part(found: Found, place: int, one: WorkloadReport) -> dict[str, object]:
    detail = found.details[one.name]
    charted = place < MOST_CHARTED and bool(detail.monthly)
    seen = detail.timeline if charted else None
    return {
        "workload": one,
        "name": shortened(one.name, 120),
        "moved": one.decision.action == "move",
        "rows": [_scenario_row(scenario) for scenario in one.scenarios],
        "sensitivity": [_sensitivity_row(change) for change in one.sensitivity],
        "places": _places(one),
        "waterfall": _html(charts.waterfall(one.scenarios, one.decision.role)) if charted else "",
        "distribution": _html(charts.distributions(detail, one.billed.monthly)) if charted else "",
        "timeline": _html(charts.timeline(seen)) if seen is not None else "",
        "timeline_title": seen.title if seen is not None else "",
    }


def _places(one: WorkloadReport) -> list[tuple[str, str, str]]:
    """Hours a month by purchase option and pool, now and as recommended or at best."""
    role = one.decision.role if one.decision.action == "move" else "champion"
    scenario = one.scenario(role)
    if scenario is None:
        return []
    return [(hours.option, hours.pool or one.region, f"{hours.hours:,.1f}") for hours in scenario.hours]


def _sensitivity_row(one: Sensitivity) -> list[dict[str, object]]:
    cost = one.monthly_usd
    return _cells(
        [
            (one.change, one.change),
            (cost or 0.0, "" if cost is None else f"{cost:,.2f}"),
            (one.saving_usd or 0.0, "" if one.saving_usd is None else amount(one.saving_usd)),
            _sla(one.sla),
            (one.note, one.note),
        ]
    )


def _html(figure: go.Figure) -> str:
    text: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        config={"displaylogo": False, "responsive": True, "displayModeBar": False},
    )
    return text
