"""`spotwise demo`: the whole loop on embedded data, ending with an HTML report."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from simulator.errors import InputError

app = typer.Typer()


@app.command("demo")
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for report.html and the trained policy.")
    ] = Path("demo-report"),
    seed: Annotated[int, typer.Option(min=0, help="Of the training and the intervals.")] = 0,
    steps: Annotated[
        int, typer.Option(min=0, help="Environment steps of the training; 0 trains nothing.")
    ] = 4_000_000,
    progress: Annotated[bool, typer.Option("--progress/--no-progress", "-P", help="Show progress.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a small policy on sample markets and judge it beside everything else on windows it has not seen.

    Then judge the shipped policies for a service that needs instances at every minute, and take a sample bill
    through the ledger to a recommendation (DIR/bill).

    Needs no data and no account. Writes DIR/report.html, one self-contained page, and prints its tables.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from optimizer.demo.bill import recommend_on_a_sample_bill
    from optimizer.demo.page import render, summary_in_words, write_page
    from optimizer.demo.run import can_train, run_demo

    _make_folder(out)
    why_not = ""
    if steps and not can_train():
        steps, why_not = 0, "the training extra is missing; pip install 'spotwise[train]' brings it."
    elif not steps:
        why_not = "--steps 0 was given."
    errors = Console(stderr=True)
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, disable=not progress) as bar:
        task = bar.add_task("starting", total=1.0)
        found = run_demo(
            out,
            seed=seed,
            steps=steps,
            watch=lambda text, share: bar.update(task, description=text, completed=share),
        )
        bill = recommend_on_a_sample_bill(
            out / "bill",
            seed,
            watch=lambda text, share: bar.update(task, description=f"bill: {text}", completed=share),
        )
        bar.update(task, description="writing the report")
        page = out / "report.html"
        told = f"A sample bill, through the ledger (bill/recommendation/report.html): {bill.headline}"
        write_page(render(found, why_not, told), page)
        bar.update(task, description="done", completed=1.0)
    if as_json:
        scenarios = {result.scenario.title: result.summary for result in found.results}
        printed = {"report": str(page), "seed": seed, "steps": steps, "jobs": scenarios}
        described = {"report": str(bill.report), "headline": bill.headline}
        typer.echo(json.dumps({**printed, "service": found.service.figures(), "bill": described}, indent=2))
        return
    from optimizer.cli.evaluate_jobs import summary_table
    from optimizer.cli.evaluate_service import service_table
    from optimizer.demo.service_part import TITLE

    console = Console()
    for result in found.results:
        console.print(f"\n48 h of work, {result.scenario.title}", highlight=False)
        console.print(summary_table(result.summary))
    console.print(f"\n{TITLE}", highlight=False)
    console.print(service_table(found.service.summary))
    console.print(
        "ready: minutes with every instance ready; below: points of the on-demand cost cheaper than "
        "spothedge-1; launched, lost: per week; met: weeks that met the target\n",
        highlight=False,
    )
    console.print(summary_in_words(found), highlight=False)
    console.print(f"\n{told}", highlight=False, markup=False)
    if why_not:
        console.print(f"No policy was trained: {why_not}", highlight=False, markup=False)
    typer.echo(f"\n{page} ({time.monotonic() - began:.0f} s)")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # now, rather than after minutes of training
            pass
    except OSError as error:
        raise InputError(f"--out {path}: not a folder that can be written ({error.strerror})") from error
