"""`spotwise recommend`: what one's own bill would have been, and a plan; nothing in a cloud is touched."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from optimizer.recommend.result import Decision

app = typer.Typer()


@app.command("recommend")
def recommend(
    ledger: Annotated[Path, typer.Option(help="Ledger that `spotwise ledger ingest` wrote.")],
    workloads: Annotated[Path, typer.Option(help="File that `spotwise workloads derive` wrote, reviewed.")],
    market: Annotated[list[Path], typer.Option("--market", "-m", help="Market file; repeatable.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the report and the plan.")],
    advisor: Annotated[
        Path | None,
        typer.Option(
            help="Interruption bands (spot advisor JSON or SpotLake CSV) for pools without a trace."
        ),
    ] = None,
    outage_hours: Annotated[float, typer.Option(help="Mean outage assumed with --advisor.")] = 2.0,
    windows: Annotated[int, typer.Option(min=4, max=5000, help="Most market windows per workload.")] = 200,
    window_hours: Annotated[
        int | None, typer.Option(min=1, help="Length of a window. Default: so that 8 fit side by side.")
    ] = None,
    service_policy: Annotated[
        str | None, typer.Option(help="Champion of services: a name or a .policy file.")
    ] = None,
    deadline_policy: Annotated[
        str, typer.Option(help="Champion of deadline jobs: a name or a .policy file.")
    ] = "deadline-champion",
    metric: Annotated[
        Path | None, typer.Option(help="CSV of time, workload, value: what workloads did, for unit costs.")
    ] = None,
    unit: Annotated[str, typer.Option(help="What --metric counts.")] = "unit",
    seed: Annotated[int, typer.Option(min=0, help="Of windows and assumed interruptions.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Batches replayed at a time.")] = 2,
    progress: Annotated[bool, typer.Option("--progress/--no-progress", "-P", help="Show progress.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print recommendation.json.")] = False,
) -> None:
    """Replay your bill under every policy and recommend what to move, with its SLA and a 90 % interval.

    Writes DIR/report.html, report.md, recommendation.json and, if something is to be moved, plan.yaml for
    `spotwise controller run --plan`. Reads files only: no cloud is called.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from optimizer.recommend.run import Options
    from optimizer.recommend.run import recommend as compute
    from optimizer.recommend.write import write_report

    options = Options(
        seed=seed,
        windows=windows,
        window_hours=window_hours,
        advisor=advisor,
        outage_hours=outage_hours,
        service_policy=service_policy,
        deadline_policy=deadline_policy,
        metric=metric,
        unit=unit,
        workers=workers,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task("starting", total=1.0)
        found = compute(
            ledger,
            workloads,
            market,
            options,
            watch=lambda text, share: bar.update(task, description=text, completed=share),
        )
        written = write_report(found, out, datetime.now(UTC))
        bar.update(task, description="done", completed=1.0)
    for note in written.notes:
        typer.secho(note, err=True)
    if as_json:
        typer.echo(found.report.to_json(), nl=False)
        return
    _show(found.report.headline, [(w.name, w.decision) for w in found.report.workloads])
    plan = written.plan or "no plan.yaml: nothing is to be moved"
    typer.echo(f"{written.report}, {written.markdown.name}, {written.recommendation.name}; {plan}")


def _show(headline: str, decisions: list[tuple[str, Decision]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text(headline, style="bold"))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("workload", "do", "saving a month", "why"):
        table.add_column(heading, justify="right" if heading.startswith("saving") else "left")
    for name, decision in decisions:
        moved = decision.action == "move"
        # As text, so that brackets in a name are not taken for markup.
        table.add_row(
            Text(name),
            "move" if moved else "change nothing",
            f"{decision.saving_usd:,.2f} USD" if moved else "",
            Text(decision.reasons[0]),
        )
    console.print(table)
