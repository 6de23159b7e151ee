"""What the demo's page says about the service; every figure comes from the evaluation."""

from __future__ import annotations

from typing import Any

from optimizer.demo.charts import html_of
from optimizer.demo.service import (
    AFTER_SECONDS,
    BEFORE_SECONDS,
    CHAMPION,
    COLD_START_SECONDS,
    DEMAND,
    SPOT_ONLY,
    TARGET,
    ServiceResult,
)
from optimizer.demo.service_charts import storm_chart
from optimizer.demo.table import table_row

TITLE = (
    f"Service: {DEMAND} instances, all ready {TARGET:.1%} of the time, cold start {COLD_START_SECONDS:g} s"
)
BOUND = "clairvoyant bound"
HEADINGS = (
    "policy",
    "availability",
    "worst week",
    "weeks met",
    "of on-demand",
    "saving",
    "launches",
    "interruptions",
)


def part(result: ServiceResult) -> dict[str, object]:
    """What the template shows of the service."""
    policies, bound = result.summary["policies"], _bound(result)
    storm = result.storm
    champion, spot_only = (storm.courses[label] for label in (CHAMPION, SPOT_ONLY))
    return {
        "title": TITLE,
        "words": (
            f"{_count(result.summary['episodes'], 'week')} in {len(storm.pools)} pools of "
            f"{len({pool.region for pool in result.market.pools})} regions. {_cheapest(result)} "
            + (
                f"With all capacity known beforehand, {_share(bound['cost_relative_to_on_demand'])} of the "
                "on-demand cost would have been enough."
                if bound["cost_relative_to_on_demand"] is not None
                else "Even with all capacity known beforehand, the target could not be reached in any week."
            )
        ),
        "headings": HEADINGS,
        "rows": [
            *(_row(label, policies[label]) for label in result.evaluation.labels),
            _bound_row(result),
        ],
        "storm": (
            f"The hour in which {CHAMPION} was interrupted most, with {BEFORE_SECONDS / 3600:g} h before its "
            f"end and {AFTER_SECONDS / 3600:g} h after; below, {SPOT_ONLY} at the same time. Areas are ready "
            "instances by pool; red marks are interruptions, larger for more instances at once; red bands "
            f"are times with less than the demand ready. In these hours {CHAMPION} lost "
            f"{_count(int(champion.lost.sum()), 'instance')} and was short for "
            f"{storm.short_minutes(CHAMPION):g} min, {SPOT_ONLY} lost {int(spot_only.lost.sum())} and was "
            f"short for {storm.short_minutes(SPOT_ONLY):g} min."
        ),
        "chart": html_of(storm_chart(storm)),
    }


def in_words(result: ServiceResult) -> str:
    """One or two sentences; honest whatever the result is."""
    champion = result.summary["policies"][CHAMPION]
    mean, cost = champion["availability"]["mean"], champion["cost_relative_to_on_demand"]["mean"]
    met, weeks = champion["target_met_windows"], result.summary["episodes"]
    return (
        f"A service of {DEMAND} instances with an availability target of {TARGET:.1%} "
        + (f"costs {1 - cost:.0%} less" if cost < 1 else f"costs {cost - 1:.0%} more")
        + " with the shipped champion than on on-demand capacity. All of its instances were ready "
        f"{mean:.2%} of the time, and the target was met in {met} of {_count(weeks, 'week')}."
    )


def numbers(result: ServiceResult) -> list[dict[str, str]]:
    """The service's share of the figures at the top."""
    champion = result.summary["policies"][CHAMPION]
    return [
        {
            "value": f"{1 - champion['cost_relative_to_on_demand']['mean']:.0%}",
            "label": "saved on the service, shipped champion",
        },
        {
            "value": f"{champion['availability']['mean']:.2%}",
            "label": f"of the time all instances were ready; the target is {TARGET:.1%}",
        },
        {
            "value": f"{champion['target_met_windows']} of {result.summary['episodes']}",
            "label": "weeks that met the service's target, shipped champion",
        },
    ]


def _cheapest(result: ServiceResult) -> str:
    """Which policy is the cheapest of those that met the target in every week."""
    policies, weeks = result.summary["policies"], result.summary["episodes"]
    met = [label for label in result.evaluation.labels if policies[label]["target_met_windows"] == weeks]
    if not met:
        return "No policy met the target in every week."
    best = min(met, key=lambda label: float(policies[label]["cost_relative_to_on_demand"]["mean"]))
    relative = policies[best]["cost_relative_to_on_demand"]["mean"]
    return (
        f"Cheapest that met the target in every week: {best} with {_share(relative)} of the on-demand cost."
    )


def _row(label: str, row: dict[str, Any]) -> dict[str, object]:
    available, cost = row["availability"], row["cost_relative_to_on_demand"]["mean"]
    cells = [
        (label, label),
        (available["mean"], f"{available['mean']:.2%}"),
        (available["min"], f"{available['min']:.2%}"),
        (row["target_met_windows"], str(row["target_met_windows"])),
        (cost, _share(cost)),
        (1 - cost, _share(1 - cost)),
        (row["launches"], f"{row['launches']:.0f}"),
        (row["interruptions"], f"{row['interruptions']:.0f}"),
    ]
    return table_row(cells, "trained" if label == CHAMPION else "")


def _bound_row(result: ServiceResult) -> dict[str, object]:
    """The bound is asked for the target, not for more: its availability is the target."""
    bound = _bound(result)
    cost, reached = bound["cost_relative_to_on_demand"], bound["reachable_windows"]
    cells: list[tuple[Any, str]] = [
        (BOUND, BOUND),
        (TARGET, f"{TARGET:.2%}"),
        (TARGET, f"{TARGET:.2%}"),
        (reached, str(reached)),
        (9.0 if cost is None else cost, "–" if cost is None else _share(cost)),
        (-9.0 if cost is None else 1 - cost, "–" if cost is None else _share(1 - cost)),
        (-1, "–"),
        (-1, "–"),
    ]
    return table_row(cells, "bound")


def _bound(result: ServiceResult) -> dict[str, Any]:
    bound: dict[str, Any] = result.summary["clairvoyant_optimum"][f"{TARGET:g}"]
    return bound


def _share(value: float) -> str:
    return f"{abs(value) if abs(value) < 5e-4 else value:.1%}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
