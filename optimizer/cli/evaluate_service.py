"""`spotwise evaluate --workload service`: availability against cost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from simulator.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from rich.table import Table

DEFAULT_POLICIES = (
    "on-demand",
    "spot-only",
    "static-mix-50",
    "spothedge-0",
    "spothedge-1",
    "spothedge-2",
    "service-champion",
)


@dataclass(frozen=True)
class ServiceOptions:
    """Options of the command, by their names there."""

    demand: str
    demand_where: tuple[str, ...]
    demand_scale: float
    demand_round_up: bool
    availability: float
    cold_start_seconds: float
    committed: int
    minimum_billed_seconds: float
    window_hours: float
    window_stride: int | None
    repeat_market: bool
    bound: bool
    pools: str
    reference: str
    seed: int


def evaluate_service(
    paths: Sequence[Path],
    policies: Sequence[str] | None,
    options: ServiceOptions,
    *,
    out: Path | None,
    progress: bool,
    as_json: bool,
) -> None:
    """Replay service policies and print the frontier.

    Raises:
        InputError: An option, a file or a policy cannot be used.
    """
    from rich.console import Console

    from optimizer.cli.output import write_text
    from simulator.market import Market, ticks_for
    from training.service.evaluation import evaluate_services, windows_and_services

    markets = [(str(path), Market.load(path)) for path in paths]
    tick = markets[0][1].tick_seconds
    if not math.isfinite(options.window_hours) or options.window_hours <= 0:
        raise InputError(f"windows of {options.window_hours:g} h; accepted: hours above 0, such as 24")
    windows, service = windows_and_services(
        markets,
        _demand(options, tick),
        {
            "availability_target": options.availability,
            "cold_start_seconds": options.cold_start_seconds,
            "committed": options.committed,
            "minimum_billed_seconds": options.minimum_billed_seconds,
        },
        window_ticks=ticks_for(options.window_hours * 3600.0, tick),
        stride=options.window_stride,
        pools=options.pools,
        repeat_market=options.repeat_market,
    )
    with Console(stderr=True).status("") as status:
        if not progress:
            status.stop()
        evaluation = evaluate_services(
            list(policies or DEFAULT_POLICIES),
            windows,
            service,
            reference=options.reference,
            with_bound=options.bound,
            seed=options.seed,
            watch=lambda label: status.update(f"{len(windows.start)} windows: {label}"),
        )
    summary = evaluation.summary(options.reference)
    if out is not None:
        write_text(out, evaluation.table.to_csv(index=False))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    console = Console()
    console.print(service_table(summary))
    console.print(
        f"{summary['episodes']} windows of {options.window_hours:g} h of {', '.join(map(str, paths))}; "
        f"demand {options.demand}, cold start {options.cold_start_seconds:g} s, "
        f"target {options.availability:.2%}; "
        "ready = ticks with all of the demand ready; cost and below (points cheaper than "
        f"{options.reference}) as shares of on-demand; met = windows that reach the target",
        highlight=False,
    )


def _demand(options: ServiceOptions, tick_seconds: int) -> ArrayLike:
    """The number, or the series of the file."""
    from simulator.service.demand import read_demand

    try:
        number = float(options.demand)
    except ValueError:
        where = dict(_pair(text) for text in options.demand_where)
        return read_demand(
            Path(options.demand),
            tick_seconds,
            where=where,
            scale=options.demand_scale,
            round_up=options.demand_round_up,
        ).demand
    if options.demand_where or options.demand_scale != 1.0:
        raise InputError("--demand-where and --demand-scale are for a demand file; --demand is a number")
    if options.demand_round_up:
        return math.ceil(number) if math.isfinite(number) else number
    return number


def _pair(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals or not column:
        raise InputError(f"--demand-where {text!r}; accepted: COLUMN=VALUE")
    return column, value


def service_table(summary: dict[str, Any]) -> Table:
    """The summary of a `ServiceEvaluation` as a table of at most 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("policy", no_wrap=True)
    for heading in ("ready", "cost", "95 %", "below", "launched", "lost", "met"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, row in summary["policies"].items():
        cost, availability = row["cost_relative_to_on_demand"], row["availability"]
        saved = row["against_reference"]["cost"]["mean"]
        table.add_row(
            label if len(label) <= 20 else f"…{label[-19:]}",
            f"{availability['mean']:.2%}",
            "-" if cost["mean"] is None else f"{cost['mean']:.1%}",
            "-" if cost["ci95"] is None else f"{100 * cost['ci95'][0]:.0f}-{100 * cost['ci95'][1]:.0f}",
            "-" if saved is None else f"{0.0 - 100.0 * saved:+.1f}",  # 0.0 - x is not -0.0 for the reference
            f"{row['launches']:.0f}",
            f"{row['interruptions']:.0f}",
            str(row["target_met_windows"]),
        )
    if summary["clairvoyant_optimum"]:
        table.add_section()
    for level, bound in summary["clairvoyant_optimum"].items():
        relative = bound["cost_relative_to_on_demand"]
        table.add_row(
            "clairvoyant",
            f"{float(level):.2%}",
            "-" if relative is None else f"{relative:.1%}",
            "",
            "",
            "",
            "",
            str(bound["reachable_windows"]),
        )
    return table
