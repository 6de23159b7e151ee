"""`spotwise evaluate` of deadline jobs: cost against the clairvoyant optimum."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from simulator.deadline import DeadlineJob

LABEL_WIDTH = 20
"""Longest label in the table; of a longer one the end is shown, where paths differ."""
DEFAULT_POLICIES = ("on-demand", "spot-when-available", "greedy", "uniform-progress", "planner")


@dataclass(frozen=True)
class JobOptions:
    """Options of the command, by their names there."""

    work_hours: float
    deadline_hours: float
    restart_overhead_minutes: float
    checkpoint_interval_minutes: float
    checkpoint_cost_minutes: float
    nodes: int
    due_hours: float | None
    lateness_usd_per_hour: float
    committed: int
    throughput: tuple[str, ...]
    move: tuple[str, ...]
    move_minutes: float
    move_usd: float
    data_gb: float
    egress_usd_per_gb: float
    copy_mb_per_second: float
    data_region: str | None
    observability: str
    window_stride: int | None
    pools: str
    reference: str
    seed: int

    def job(self) -> DeadlineJob:
        """The job that they describe.

        Raises:
            InputError: A value is out of range.
        """
        from optimizer.cli.terms import pool_terms
        from simulator.deadline import DeadlineJob

        terms = pool_terms(
            self.throughput,
            self.move,
            self.move_minutes,
            self.move_usd,
            self.data_gb,
            self.egress_usd_per_gb,
            self.copy_mb_per_second,
            self.data_region,
        )
        return replace(
            DeadlineJob.with_checkpoint_cost(
                self.work_hours * 3600.0,
                self.deadline_hours * 3600.0,
                self.restart_overhead_minutes * 60.0,
                self.checkpoint_interval_minutes * 60.0,
                self.checkpoint_cost_minutes * 60.0,
                self.nodes,
                terms,
            ),
            due_seconds=None if self.due_hours is None else self.due_hours * 3600.0,
            lateness_usd_per_hour=self.lateness_usd_per_hour,
            committed=self.committed,
        )


def evaluate_jobs(
    paths: Sequence[Path],
    policies: Sequence[str] | None,
    options: JobOptions,
    *,
    out: Path | None,
    progress: bool,
    as_json: bool,
) -> None:
    """Replay deadline policies and print what they cost.

    Raises:
        InputError: An option, a file or a policy cannot be used.
    """
    from rich.console import Console

    from optimizer.cli.output import write_text
    from simulator.deadline.observability import check_observability
    from simulator.market import Market, ticks_for
    from training.evaluation import evaluate, windows_of

    job = options.job()
    markets = [(str(path), Market.load(path)) for path in paths]
    stride = options.window_stride
    if stride is None:
        stride = ticks_for(job.deadline_seconds, markets[0][1].tick_seconds)
    windows = windows_of(markets, job, stride, options.pools)
    with Console(stderr=True).status("") as status:
        if not progress:
            status.stop()
        evaluation = evaluate(
            policies or list(DEFAULT_POLICIES),
            windows,
            job,
            reference=options.reference,
            observability=check_observability(options.observability),
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
    console.print(summary_table(summary))
    soft = (
        ""
        if options.due_hours is None
        else f"({options.lateness_usd_per_hour:g} USD/h from {options.due_hours:g} h on), "
    )
    console.print(
        f"{summary['episodes']} windows of {', '.join(map(str, paths))}; "
        f"{options.work_hours:g} h of work due in {options.deadline_hours:g} h, {soft}"
        f"restart overhead {options.restart_overhead_minutes:g} min; "
        f"gap closed: 0 % = uniform-progress, 100 % = clairvoyant optimum",
        highlight=False,
    )


def summary_table(summary: dict[str, Any]) -> Table:
    """The summary of `training.evaluation.Evaluation` as a table of at most 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("policy", no_wrap=True)
    for heading in ("USD", "95 %", "of on-demand", "gap closed", "late"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, row in summary["policies"].items():
        cost, gap = row["cost_usd"], row["gap_closed"]
        table.add_row(
            label if len(label) <= LABEL_WIDTH else f"…{label[1 - LABEL_WIDTH :]}",
            f"{cost['mean']:.2f}",
            f"{cost['ci95'][0]:.1f}-{cost['ci95'][1]:.1f}",
            f"{row['relative_to_on_demand']:.1%}",
            "-" if gap is None else f"{gap:.1%}",
            str(row["missed_deadlines"]),
        )
    optimum = summary["clairvoyant_optimum"]
    cost = optimum["cost_usd"]
    table.add_section()
    table.add_row(
        "clairvoyant optimum",
        f"{cost['mean']:.2f}",
        f"{cost['ci95'][0]:.1f}-{cost['ci95'][1]:.1f}",
        f"{optimum['relative_to_on_demand']:.1%}",
        "100.0%",
        "0",
    )
    return table
