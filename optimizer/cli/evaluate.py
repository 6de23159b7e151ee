"""`spotwise evaluate`: any policies on any markets and workloads, with intervals, against the optimum."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulator.errors import InputError

app = typer.Typer()

JOBS, SERVICES = "Deadline jobs", "Services"


@app.command("evaluate")
def evaluate(
    ctx: typer.Context,
    market: Annotated[list[Path], typer.Option("--market", "-m", help="Market file; repeatable.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-p",
            help="Name or path of a .policy file; repeatable. Default: all heuristics and the planner.",
        ),
    ] = None,
    workload: Annotated[str, typer.Option(help="`deadline` or `service`.")] = "deadline",
    pools: Annotated[
        str | None,
        typer.Option(
            help="`each`: every pool alone; `all`: all pools of a market. Default: each for deadline jobs, "
            "all for services."
        ),
    ] = None,
    work_hours: Annotated[float, typer.Option(help="Work of the job.", rich_help_panel=JOBS)] = 48.0,
    deadline_hours: Annotated[
        float, typer.Option(help="Time from its start by which it is due.", rich_help_panel=JOBS)
    ] = 52.0,
    restart_overhead_minutes: Annotated[
        float, typer.Option(help="Paid by every launch.", rich_help_panel=JOBS)
    ] = 12.0,
    checkpoint_interval_minutes: Annotated[
        float,
        typer.Option(help="Work between checkpoints; 0 = an interruption loses none.", rich_help_panel=JOBS),
    ] = 0.0,
    checkpoint_cost_minutes: Annotated[
        float, typer.Option(help="Time to write a checkpoint.", rich_help_panel=JOBS)
    ] = 0.0,
    nodes: Annotated[int, typer.Option(help="Instances the job holds together.", rich_help_panel=JOBS)] = 1,
    due_hours: Annotated[
        float | None,
        typer.Option(
            help="Time from its start after which lateness costs; the deadline is still kept.",
            rich_help_panel=JOBS,
        ),
    ] = None,
    lateness_usd_per_hour: Annotated[
        float, typer.Option(help="Cost of being done after --due-hours.", rich_help_panel=JOBS)
    ] = 0.0,
    throughput: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FACTOR, work per hour of a pool, an instance type or `on-demand`; 1 if not given. "
            "Repeatable.",
            rich_help_panel=JOBS,
        ),
    ] = None,
    move: Annotated[
        list[str] | None,
        typer.Option(
            help="FROM:TO=MINUTES,USD of a launch away from the data, between two regions; repeatable.",
            rich_help_panel=JOBS,
        ),
    ] = None,
    move_minutes: Annotated[
        float, typer.Option(help="Of a move between any other two regions.", rich_help_panel=JOBS)
    ] = 0.0,
    move_usd: Annotated[
        float, typer.Option(help="Of a move between any other two regions.", rich_help_panel=JOBS)
    ] = 0.0,
    data_gb: Annotated[
        float, typer.Option(help="Data that such a move copies too.", rich_help_panel=JOBS)
    ] = 0.0,
    egress_usd_per_gb: Annotated[float, typer.Option(help="Their price.", rich_help_panel=JOBS)] = 0.02,
    copy_mb_per_second: Annotated[float, typer.Option(help="Their speed.", rich_help_panel=JOBS)] = 100.0,
    data_region: Annotated[
        str | None,
        typer.Option(
            help="Region of the data at the begin. Default: wherever it is launched first.",
            rich_help_panel=JOBS,
        ),
    ] = None,
    observability: Annotated[
        str,
        typer.Option(
            help="Pools whose availability a job knows: `full`, `occupied` or `probed`.",
            rich_help_panel=JOBS,
        ),
    ] = "full",
    demand: Annotated[
        str,
        typer.Option(
            help="Instances needed: a number, or a file with a series from the market's begin on.",
            rich_help_panel=SERVICES,
        ),
    ] = "3",
    demand_where: Annotated[
        list[str] | None,
        typer.Option(
            help="COLUMN=VALUE that rows of the demand file must have; repeatable.", rich_help_panel=SERVICES
        ),
    ] = None,
    demand_scale: Annotated[
        float, typer.Option(help="Factor on the demand file's values.", rich_help_panel=SERVICES)
    ] = 1.0,
    demand_round_up: Annotated[
        bool,
        typer.Option("--demand-round-up", help="Round fractional demand up.", rich_help_panel=SERVICES),
    ] = False,
    availability: Annotated[
        float, typer.Option(help="Share of ticks at which all is ready.", rich_help_panel=SERVICES)
    ] = 0.995,
    cold_start_seconds: Annotated[
        float, typer.Option(help="Paid before a new instance is ready.", rich_help_panel=SERVICES)
    ] = 120.0,
    committed: Annotated[int, typer.Option(help="On-demand instances paid for anyway.")] = 0,
    minimum_billed_seconds: Annotated[
        float,
        typer.Option(help="Billed for every launched instance at least.", rich_help_panel=SERVICES),
    ] = 0.0,
    window_hours: Annotated[float, typer.Option(help="Length of a window.", rich_help_panel=SERVICES)] = 24.0,
    repeat_market: Annotated[
        bool,
        typer.Option(
            "--repeat-market",
            help="Replay a market that is shorter than the demand.",
            rich_help_panel=SERVICES,
        ),
    ] = False,
    bound: Annotated[
        bool,
        typer.Option("--bound/--no-bound", help="Solve for the clairvoyant bound.", rich_help_panel=SERVICES),
    ] = True,
    window_stride: Annotated[
        int | None, typer.Option(help="Ticks between window starts. Default: windows that do not overlap.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Policy to compare with; replayed too. Default: uniform-progress, spothedge-1 for services."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write one row per episode to this CSV file.")] = None,
    progress: Annotated[bool, typer.Option("--progress/--no-progress", "-P", help="Show progress.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay policies over every window of the markets and compare them with the clairvoyant optimum.

    Intervals are 95 % percentile bootstrap intervals, episodes resampled within each pool (deadline jobs) or
    market (services). The gap closed is 0 at Uniform Progress and 1 at the optimum.
    """
    if workload not in ("deadline", "service"):
        raise InputError(f"--workload {workload!r}; accepted: deadline, service")
    _refuse_options_of_others(ctx, workload)
    _refuse_copies(market)
    if workload == "service":
        from optimizer.cli.evaluate_service import ServiceOptions, evaluate_service

        evaluate_service(
            market,
            policy,
            ServiceOptions(
                demand, tuple(demand_where or ()), demand_scale, demand_round_up, availability,
                cold_start_seconds, committed, minimum_billed_seconds, window_hours, window_stride,
                repeat_market, bound, pools or "all", reference or "spothedge-1", seed,
            ),
            out=out, progress=progress, as_json=as_json,
        )  # fmt: skip
        return
    from optimizer.cli.evaluate_jobs import JobOptions, evaluate_jobs

    evaluate_jobs(
        market,
        policy,
        JobOptions(
            work_hours, deadline_hours, restart_overhead_minutes, checkpoint_interval_minutes,
            checkpoint_cost_minutes, nodes, due_hours, lateness_usd_per_hour, committed,
            tuple(throughput or ()), tuple(move or ()), move_minutes, move_usd, data_gb, egress_usd_per_gb,
            copy_mb_per_second, data_region, observability, window_stride, pools or "each",
            reference or "uniform-progress", seed,
        ),
        out=out, progress=progress, as_json=as_json,
    )  # fmt: skip


def _refuse_options_of_others(ctx: typer.Context, workload: str) -> None:
    """Refuse options of the other kind of workload, which would be ignored."""
    panel, whose, other = (JOBS, "deadline jobs", "deadline")
    if workload == "deadline":
        panel, whose, other = (SERVICES, "services", "service")
    given = [
        option.opts[0]
        for option in ctx.command.params
        if getattr(option, "rich_help_panel", None) == panel
        and (source := ctx.get_parameter_source(str(option.name))) is not None
        and source.name != "DEFAULT"
    ]
    if given:
        raise InputError(
            f"{', '.join(given)} with --workload {workload}: for {whose} only; leave it out, or give "
            f"--workload {other}"
        )


def _refuse_copies(market: list[Path]) -> None:
    """Refuse a market that is given twice: its windows would count twice, and intervals be too narrow."""
    from training.tracking import sha256_of

    seen: dict[str, Path] = {}
    for path in market:
        if path.is_file() and (other := seen.setdefault(sha256_of(path), path)) is not path:
            raise InputError(f"{path}: the same market as {other}; give each market once")
