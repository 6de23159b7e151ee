"""The report as Markdown that fits a chat message or a pull request."""

from __future__ import annotations

import re

from optimizer.recommend.result import TITLES, Report, Scenario, WorkloadReport, amount, percent, shortened

MOST_WORKLOADS = 20
"""Workloads with a line of their own; the rest is in the page and in recommendation.json."""

MOST_NOTES, LONGEST_NOTE = 10, 400


def render_markdown(report: Report) -> str:
    """The report as Markdown; names from the bill are escaped."""
    lines = [
        "## Spotwise recommendation",
        "",
        f"**{escape(report.headline)}**",
        "",
        "| all workloads | USD a month | 90 % interval | saving |",
        "|---|---:|---:|---:|",
    ]
    for one in report.total:
        lines.append(f"| {TITLES[one.role]} | {one.monthly_usd:,.2f} | {_interval(one)} | {_saving(one)} |")
    lines += [
        "",
        "| workload | billed | recommended | policy | saving | SLA |",
        "|---|---:|---:|---|---:|---|",
    ]
    for workload in report.workloads[:MOST_WORKLOADS]:
        lines.append(_row(workload))
    if len(report.workloads) > MOST_WORKLOADS:
        lines.append(f"| and {len(report.workloads) - MOST_WORKLOADS} more | | | | | |")
    lines.append("")
    for workload in report.workloads[:MOST_WORKLOADS]:
        action = "move" if workload.decision.action == "move" else "change nothing"
        name, why = escape(shortened(workload.name)), escape(" ".join(workload.decision.reasons))
        lines.append(f"- **{name}: {action}.** {why}")
        lines += [f"  - needs: {escape(text)}" for text in workload.decision.missing_data]
    lines += ["", *_reconciled(report)]
    assumed = sorted({text for w in report.workloads if w.market for text in w.market.assumed})
    lines += [f"- ASSUMED: {escape(text)}" for text in assumed]
    lines += [f"- {escape(shortened(text, LONGEST_NOTE))}" for text in report.notes[:MOST_NOTES]]
    if len(report.notes) > MOST_NOTES:
        lines.append(f"- and {len(report.notes) - MOST_NOTES} more notes in the page")
    return "\n".join(lines) + "\n"


def _row(workload: WorkloadReport) -> str:
    decision = workload.decision
    scenario = workload.scenario(decision.role)
    billed = f"{workload.billed.monthly:,.2f} {escape(workload.billed.currency)}"
    if scenario is None or decision.action == "change-nothing":
        return f"| {escape(shortened(workload.name))} | {billed} | change nothing | | | |"
    sla = scenario.sla
    shown = "" if sla is None else f"{sla.value:.4f} of {sla.target:.4g}"
    if sla is not None and sla.measure == "miss-probability":
        late = f", {scenario.extra_words}" if scenario.extra_words else ""
        shown = f"{sla.value:.2%} past the deadline{late}"
    return (
        f"| {escape(shortened(workload.name))} | {billed} | {scenario.monthly_usd:,.2f} | "
        f"{escape(decision.policy or '')} | {_saving(scenario)} | {shown} |"
    )


def _reconciled(report: Report) -> list[str]:
    return [
        f"- Ledger, {escape(one.currency)}: {float(one.effective_cost):,.2f} effective cost = "
        f"{float(one.workloads):,.2f} workloads + {float(one.other_instances):,.2f} other instances + "
        f"{float(one.unused_commitment):,.2f} unused commitments + {float(one.credits):,.2f} credits + "
        f"{float(one.other):,.2f} other."
        for one in report.reconciliation
    ]


def _interval(one: Scenario) -> str:
    if one.monthly_interval_usd is None:
        return ""
    low, high = one.monthly_interval_usd
    return f"{low:,.2f} to {high:,.2f}"


def _saving(one: Scenario) -> str:
    share = "" if one.saving_share is None else f" ({percent(one.saving_share)})"
    return f"{amount(one.saving_usd)}{share}" + (" *assumed*" if one.assumed else "")


def escape(text: str) -> str:
    """Text that Markdown, and HTML within it, shows as it is; on one line."""
    flat = re.sub(r"[\x00-\x1f\x7f\u2028\u2029]+", " ", text)
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Also what renderers make links and mentions of.
    marked = re.sub(r"([\\`*_{}\[\]#|~])", r"\\\1", flat)
    return marked.replace("://", ":\u200b//").replace("@", "@\u200b")
