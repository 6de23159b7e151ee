"""`spotwise workloads`: what ran, hour by hour, from a ledger to a file to review."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Ledger → workloads.yaml to review.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `derive` a subcommand although it is the only one."""


@app.command()
def derive(
    ledger: Annotated[Path, typer.Option("--ledger", help="The ledger file.")] = Path("ledger.duckdb"),
    by: Annotated[
        str,
        typer.Option(
            help="Dimensions that tell workloads apart, comma-separated, as in `ledger query --by` without"
            " times."
        ),
    ] = "tag:app,account,region",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write; the hourly demand goes beside it.")
    ] = Path("workloads.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Derive hourly demand, purchase mix, commitment coverage and a guess of kind for every workload."""
    from optimizer.billing.workloads import derive as run
    from optimizer.billing.workloads import write_workloads

    found = run(ledger, by)
    write_workloads(found, out)
    if as_json:
        typer.echo(
            json.dumps(
                {"out": str(out), **found.model_dump(mode="json", include={"span", "by", "workloads"})},
                indent=2,
            )
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{out}: {found.span.hours} hours from {found.span.start:%Y-%m-%d %H:%M} UTC")
    table.add_column("workload", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("kind")
    for name in ("mean / peak", "od/spot/cud %", "a month", "gaps"):
        table.add_column(name, justify="right")
    for w in found.workloads:
        facts, mix = w.demand_facts, w.purchase_mix
        gaps = f"{facts.missing_hours} h" + (" *" if facts.imputed_hours else "")
        table.add_row(
            w.name,
            w.instance_type,
            "job" if w.kind == "deadline-job" else w.kind,
            f"{facts.mean:.1f} / {facts.peak:g}",
            " ".join(f"{100 * share:.0f}" for share in (mix.on_demand, mix.spot, mix.committed)),
            f"{w.monthly_cost:,.0f} {w.currency}",
            gaps,
        )
    Console().print(table)
    if any(w.demand_facts.imputed_hours for w in found.workloads):
        typer.echo("* hours shared out of rows of several hours")
    typer.echo("Review it: what `confirm` lists per workload are guesses.")
