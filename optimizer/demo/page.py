"""The demo's report: one self-contained HTML page. Every figure in it comes from the evaluation."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from optimizer.demo import charts, service_part
from optimizer.demo.run import (
    HEURISTICS,
    JUDGING_MARKET,
    OPTIMUM,
    TRAINED_LABEL,
    TRAINING_MARKET,
    WORK_HOURS,
    Demo,
    Result,
)
from optimizer.demo.service import MARKET
from optimizer.demo.table import table_row
from simulator.market import Market
from simulator.whole_file import write_whole

HEADINGS = (
    "policy",
    "mean USD",
    "95 % interval",
    "of on-demand",
    "gap closed",
    "launches",
    "interruptions",
    "missed",
)
PACKAGES = ("spotwise", "numpy", "numba", "torch", "sb3-contrib", "plotly")


def render(demo: Demo, why_not: str = "", bill: str = "") -> str:
    """The page as HTML text.

    Args:
        demo: What was found.
        why_not: Why no policy was trained, if none was.
        bill: What came of the sample bill, in words.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("optimizer.demo", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html.j2").render(
        version=version("spotwise"),
        episodes=sum(result.evaluation.episodes for result in demo.results),
        summary=[text for text in (_jobs_in_words(demo), service_part.in_words(demo.service), bill) if text],
        numbers=_numbers(demo),
        trained=demo.trained is not None,
        why_not=why_not,
        headings=HEADINGS,
        parts=[_part(result) for result in demo.results],
        service=service_part.part(demo.service),
        weeks=demo.service.summary["episodes"],
        provenance=_provenance(demo),
        commands=(
            f"spotwise demo --seed {demo.seed} --steps {demo.steps} --out demo-report",
            "spotwise market build FILES... --tick-seconds 600 --out market.npz    # your own traces",
            "spotwise evaluate --market market.npz --work-hours 48 --deadline-hours 52",
            "spotwise evaluate --workload service --market market.npz --demand 5 --availability 0.995"
            "    # build it with --tick-seconds 60 or less",
        ),
        plotly_js=get_plotlyjs(),
    )


def write_page(text: str, path: Path) -> None:
    """Write the page whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    write_whole(path, text)


def summary_in_words(demo: Demo) -> str:
    """A few sentences that a manager understands; honest whatever the result is."""
    return f"{_jobs_in_words(demo)} {service_part.in_words(demo.service)}"


def _jobs_in_words(demo: Demo) -> str:
    first = demo.results[0].summary["policies"]
    best = _best_heuristic(first)
    sentences = [
        f"A job of {WORK_HOURS:g} h that is due in 52 h costs {_usd(first['on-demand'])} on on-demand "
        "capacity.",
        f"The best heuristic here ({best}) brings it to {_usd(first[best])}, "
        f"the shipped champion to {_usd(first['deadline-champion'])}"
        + (f", the policy trained in this demo to {_usd(first[TRAINED_LABEL])}." if demo.trained else "."),
    ]
    missed = sum(row["missed_deadlines"] for r in demo.results for row in r.summary["policies"].values())
    sentences.append(
        "No deadline was missed by any policy." if missed == 0 else f"{missed} deadlines were missed."
    )
    if demo.trained:
        behind = [
            other
            for other in ("planner", "deadline-champion", *HEURISTICS)
            if any(_mean(r, other) < _mean(r, TRAINED_LABEL) for r in demo.results)
        ]
        sentences.append(
            f"The policy trained here costs more than {_listed(behind)} in at least one of the two jobs."
            if behind
            else "The policy trained here was the cheapest of all in both jobs."
        )
    return " ".join(sentences)


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _mean(result: Result, label: str) -> float:
    return float(result.summary["policies"][label]["cost_usd"]["mean"])


def _best_heuristic(policies: dict[str, Any]) -> str:
    return min(HEURISTICS, key=lambda name: float(policies[name]["cost_usd"]["mean"]))


def _usd(row: dict[str, Any]) -> str:
    return f"{row['cost_usd']['mean']:.0f} USD"


def _numbers(demo: Demo) -> list[dict[str, str]]:
    tight, loose = (result.summary["policies"] for result in demo.results)
    label = TRAINED_LABEL if demo.trained else "deadline-champion"
    who = "policy trained in this demo" if demo.trained else "shipped champion"
    missed = sum(row["missed_deadlines"] for r in demo.results for row in r.summary["policies"].values())
    runs = sum(r.evaluation.episodes * len(r.summary["policies"]) for r in demo.results)
    return [
        {
            "value": f"{1 - tight[label]['relative_to_on_demand']:.0%}",
            "label": f"saved on the tight deadline job, {who}",
        },
        {
            "value": f"{1 - loose[label]['relative_to_on_demand']:.0%}",
            "label": f"saved on the loose deadline job, {who}",
        },
        {"value": f"{missed} of {runs}", "label": "deadlines missed, all policies together"},
        *service_part.numbers(demo.service),
    ]


def _part(result: Result) -> dict[str, object]:
    policies = result.summary["policies"]
    best = min(policies, key=lambda name: float(policies[name]["cost_usd"]["mean"]))
    window, optimum = result.timeline, result.summary["clairvoyant_optimum"]
    return {
        "title": f"Deadline job: {WORK_HOURS:g} h of work, {result.scenario.title}",
        "words": (
            f"Cheapest: {best} with {policies[best]['relative_to_on_demand']:.1%} of the on-demand cost; "
            f"the clairvoyant optimum is {optimum['relative_to_on_demand']:.1%}. "
            f"{result.evaluation.episodes} windows in {len(policies[best]['per_pool'])} pools."
        ),
        "window": (
            f"Pool {window.pool}, from tick {window.start_tick}: the window whose gap between Uniform "
            "Progress and the optimum is the median one."
        ),
        "rows": _rows(result),
        "timeline": charts.html_of(charts.timeline(result)),
        "costs": charts.html_of(charts.mean_costs(result)),
        "gaps": charts.html_of(charts.gaps(result)),
        "distribution": charts.html_of(charts.distributions(result)),
    }


def _rows(result: Result) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for label, row in result.summary["policies"].items():
        low, high = row["cost_usd"]["ci95"]
        gap = row["gap_closed"]
        cells = [
            (label, label),
            (row["cost_usd"]["mean"], f"{row['cost_usd']['mean']:.2f}"),
            (low, f"{low:.1f} – {high:.1f}"),
            (row["relative_to_on_demand"], f"{row['relative_to_on_demand']:.1%}"),
            (-9.0 if gap is None else gap, "–" if gap is None else f"{gap:.1%}"),
            (row["launches"], f"{row['launches']:.1f}"),
            (row["interruptions"], f"{row['interruptions']:.1f}"),
            (row["missed_deadlines"], str(row["missed_deadlines"])),
        ]
        rows.append(table_row(cells, "trained" if label == TRAINED_LABEL else ""))
    optimum = result.summary["clairvoyant_optimum"]
    low, high = optimum["cost_usd"]["ci95"]
    mean, share = optimum["cost_usd"]["mean"], optimum["relative_to_on_demand"]
    cells = [
        (OPTIMUM, OPTIMUM),
        (mean, f"{mean:.2f}"),
        (low, f"{low:.1f} – {high:.1f}"),
        (share, f"{share:.1%}"),
    ]
    cells += [(1.0, "100.0%"), (-1, "–"), (-1, "–"), (0, "0")]
    return [*rows, table_row(cells, "bound")]


def _provenance(demo: Demo) -> list[tuple[str, str]]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except ImportError:
            found.append(f"{package} not installed")
    return [
        ("seed", str(demo.seed)),
        ("training", f"{demo.steps:,} steps on market {TRAINING_MARKET}" if demo.trained else "none"),
        (f"market {TRAINING_MARKET}", demo.training_market.source),
        (f"market {JUDGING_MARKET}", demo.judging_market.source),
        (f"market {MARKET}", demo.service.market.source),
        ("windows, deadline jobs", "side by side, two ticks between them, every pool alone"),
        ("windows, service", "weeks side by side, all pools together"),
        ("prices, deadline jobs", _prices(demo.judging_market)),
        ("prices, service", _prices(demo.service.market)),
        ("versions", ", ".join(found)),
        ("machine", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
    ]


def _prices(market: Market) -> str:
    spot = " to ".join(f"{price:g}" for price in sorted({market.spot_price.min(), market.spot_price.max()}))
    on_demand = " to ".join(f"{price:g}" for price in sorted({*market.on_demand_price.flat}))
    return f"spot {spot}, on-demand {on_demand} USD per hour"
