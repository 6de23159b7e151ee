"""`spotwise ledger`: billing exports in, one FOCUS ledger out, and what it says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from optimizer.cli.output import print_json, print_table, short
from simulator.errors import InputError

app = typer.Typer(
    help="Billing exports → one FOCUS 1.2 ledger; queries and checks on it.", no_args_is_help=True
)

LedgerPath = Annotated[Path, typer.Option("--ledger", help="The ledger file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
AsCsv = Annotated[
    bool, typer.Option("--csv", help="Print CSV; texts that a spreadsheet would run are quoted.")
]

DEFAULT_LEDGER = Path("ledger.duckdb")


@app.command()
def ingest(
    paths: Annotated[
        list[str], typer.Argument(help="Files, globs, folders or s3://bucket/prefix, all of a bill together.")
    ],
    ledger: LedgerPath = DEFAULT_LEDGER,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format", help="aws-cur, aws-cur-legacy, gcp, azure or focus; default: found out per file."
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace a bill even by files that hold much less of it than before."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read billing exports into a ledger; a bill that is there already is replaced whole. All or nothing."""
    from optimizer.billing.ingest import ingest as run

    with _progress() as (say, percent):
        report = run(paths, ledger, format=format_name, replace=replace, progress=say, percent=percent)
    if as_json:
        print_json(
            {
                "ledger": str(ledger),
                "unchanged": report.unchanged,
                "files": [{"name": name, "format": kind} for name, kind in report.files],
                "rows": report.rows,
                "rejected": report.rejected,
                "bills": [asdict(bill) for bill in report.bills],
                "replaced": [
                    {
                        "provider": r.bill.provider,
                        "account": r.bill.account,
                        "period": r.bill.month,
                        "currency": r.currency,
                        "billed_before": r.before,
                        "billed_after": r.after,
                    }
                    for r in report.replaced
                ],
                "warnings": report.warnings,
            }
        )
        return
    if report.unchanged:
        typer.echo(f"{ledger} already holds these files; nothing to do")
        return
    typer.echo(
        f"{report.rows} rows from {len(report.files)} file{'s' if len(report.files) > 1 else ''} in {ledger}"
    )
    for bill in report.bills:
        period = bill.period.strftime("%Y-%m") if bill.period else "?"
        shared = f" + shares of commitments {bill.cost_shared:.2f}" if bill.cost_shared else ""
        typer.echo(
            f"  {bill.provider} {bill.account} {period} {bill.invoice or ''}: export {bill.cost_in:.2f} ="
            f" ledger {bill.cost_out:.2f} + rejected {bill.cost_rejected:.2f}{shared} {bill.currency}"
        )
    for r in report.replaced:
        typer.echo(f"  replaced {r.bill}: billed {r.before:.2f} before, {r.after:.2f} {r.currency} now")
    for reason, count in report.rejected.items():
        typer.secho(f"  rejected {count}: {reason}", fg=typer.colors.YELLOW)
    if report.rejected:
        typer.echo(f"  see table rejected_rows with: spotwise ledger sql --ledger {ledger}")
    for warning in report.warnings:
        typer.secho(f"  note: {warning}", fg=typer.colors.YELLOW)


@app.command()
def query(
    by: Annotated[
        str,
        typer.Option(
            help="Dimensions, comma-separated: service, account, region, zone, tag:KEY, purchase-option,"
            " workload,"
            " instance-type, resource, hour, day, month, …"
        ),
    ] = "service",
    ledger: LedgerPath = DEFAULT_LEDGER,
    cost: Annotated[
        str, typer.Option(help="amortized (EffectiveCost) or unblended (BilledCost).")
    ] = "amortized",
    start: Annotated[str | None, typer.Option(help="Only charges from here on (ISO 8601, UTC).")] = None,
    end: Annotated[str | None, typer.Option(help="Only charges before this (ISO 8601, UTC).")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only rows with this value, as DIMENSION=VALUE; repeatable.")
    ] = None,
    allocated: Annotated[
        bool, typer.Option(help="Of the allocated ledger, which also has the dimension allocated-to.")
    ] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show cost by dimensions, per currency."""
    from optimizer.billing.dimensions import parse
    from optimizer.billing.ledger import Ledger
    from optimizer.billing.views import cost_by

    conditions = []
    for text in where or []:
        name, sign, value = text.partition("=")
        if not sign:
            raise InputError(f"--where {text}; accepted: DIMENSION=VALUE")
        conditions.append((name, value))
    with Ledger.open(ledger) as opened:
        table = cost_by(
            opened.allocated if allocated else opened.table,
            parse(by),
            cost,
            start=_moment("--start", start),
            end=_moment("--end", end),
            where=conditions,
        )
        found = opened.arrow(table)
    print_table(found, as_json=as_json, as_csv=as_csv, title=f"{cost} cost by {by}")


@app.command()
def sql(
    text: Annotated[
        str,
        typer.Argument(
            help="A SELECT; tables: ledger, focus, allocated_ledger, rejected_rows, bills, ingests."
        ),
    ],
    ledger: LedgerPath = DEFAULT_LEDGER,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Run SQL on the ledger, read only and without access to files."""
    from optimizer.billing.ledger import Ledger
    from optimizer.billing.views import run_sql

    with Ledger.open(ledger) as opened:
        found = run_sql(opened, text)
    print_table(found, as_json=as_json, as_csv=as_csv, title=str(ledger))


@app.command()
def check(
    ledger: LedgerPath = DEFAULT_LEDGER,
    examples: Annotated[int, typer.Option(min=0, help="Broken rows to show per check.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Check every row; exit code 1 when an error is found, warnings are only shown."""
    from optimizer.billing.checks import check_ledger
    from optimizer.billing.ledger import Ledger

    with Ledger.open(ledger) as opened:
        report = check_ledger(opened, examples=examples)
    if as_json:
        print_json(
            {
                "rows": report.rows,
                "checks": report.checks,
                "ok": report.ok,
                "findings": [asdict(finding) for finding in report.findings],
            }
        )
    else:
        for finding in report.findings:
            colour = typer.colors.RED if finding.severity == "error" else typer.colors.YELLOW
            typer.secho(
                f"{finding.severity}: {finding.check}: {finding.count} × not: {finding.about}", fg=colour
            )
            for example in finding.examples:
                typer.echo("    " + ", ".join(f"{k} {short(v)}" for k, v in example.items() if v is not None))
        errors = sum(f.severity == "error" for f in report.findings)
        warnings = len(report.findings) - errors
        typer.echo(f"{report.rows} rows, {report.checks} checks: {errors} broken, {warnings} with a warning")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def allocate(
    rules: Annotated[Path, typer.Option("--rules", help="The allocation rules (YAML).")],
    ledger: LedgerPath = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Split shared cost by rules: Kubernetes, proportional, even, fixed, waste. Query it with --allocated."""
    from optimizer.billing.allocation import allocate as run

    report = run(ledger, rules)
    if as_json:
        print_json(
            {
                "rows": report.rows,
                "untouched_rules": report.untouched,
                "allocated": [asdict(a) for a in report.allocated],
            }
        )
        return
    for a in report.allocated:
        team = f" (can act: {a.team})" if a.team else ""
        typer.echo(f"{a.rule}: {a.target}{team}: {a.cost:,.2f} {a.currency}")
    for name in report.untouched:
        typer.secho(f"note: rule {name} selected no row", fg=typer.colors.YELLOW)
    typer.echo(f"{report.rows} rows split")


@app.command("unit-cost")
def unit_cost(
    metric: Annotated[
        Path | None, typer.Option(help="CSV or parquet with time, workload, value: what was done per hour.")
    ] = None,
    prometheus: Annotated[str | None, typer.Option(help="Address of a Prometheus server instead.")] = None,
    promql: Annotated[
        str | None, typer.Option("--query", help="Such as: sum by (app) (increase(http_requests_total[1h])).")
    ] = None,
    label: Annotated[str, typer.Option(help="Label of the result that names the workload.")] = "app",
    by: Annotated[str, typer.Option(help="Dimension of the ledger that names the workload.")] = "tag:app",
    unit: Annotated[str, typer.Option(help="What is counted: request, user, job, …")] = "request",
    per: Annotated[str, typer.Option(help="hour, day, week or month.")] = "day",
    chart: Annotated[Path | None, typer.Option(help="Write a page with a chart.")] = None,
    ledger: LedgerPath = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Show cost per request, user or job over time, and why it changed."""
    from optimizer.billing.ledger import Ledger
    from optimizer.billing.units import read_metric, read_prometheus, unit_costs

    if (metric is None) == (prometheus is None) or (prometheus is None) != (promql is None):
        raise InputError("give --metric FILE, or --prometheus URL and --query PROMQL")
    with Ledger.open(ledger) as opened:
        if metric is not None:
            amounts = read_metric(metric)
        else:
            span = opened.rows("SELECT min(ChargePeriodStart), max(ChargePeriodEnd) FROM ledger")[0]
            amounts = read_prometheus(prometheus or "", promql or "", label=label, start=span[0], end=span[1])
        found = unit_costs(opened, amounts, by=by, unit=unit, per=per)
    if chart is not None:
        from optimizer.billing.units.chart import write_chart

        write_chart(found, chart)
    if as_json:
        print_json(
            {
                "unit": found.unit,
                "per": found.per,
                "points": [asdict(p) | {"unit_cost": p.unit_cost} for p in found.points],
                "changes": [asdict(change) for change in found.changes],
                "without_cost": found.without_cost,
            }
        )
        return
    for p in found.points:
        cost = f"{p.unit_cost:.6g} {p.currency} per {unit}" if p.unit_cost is not None else f"no {unit}"
        rest = f" ({p.unmatched_cost:,.2f} in hours without a count)" if p.unmatched_cost else ""
        typer.echo(f"{p.start:%Y-%m-%d %H:%M}  {p.workload}: {p.cost:,.2f} / {p.units:,.6g} = {cost}{rest}")
    for c in found.changes:
        typer.echo(
            f"{c.workload}, {c.first:%Y-%m-%d} to {c.second:%Y-%m-%d}: {c.after - c.before:+,.2f}"
            f" {c.currency} ="
            f" volume {c.volume:+,.2f}, hours per {unit} {c.usage:+,.2f}, mix {c.mix:+,.2f},"
            f" price {c.price:+,.2f}, other {c.other:+,.2f}"
        )
    for name in found.without_cost:
        typer.secho(f"note: no cost under {by} {name}", fg=typer.colors.YELLOW)


@app.command()
def sample(
    provider: Annotated[str, typer.Argument(help="aws, gcp, azure or focus.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write into.")],
    days: Annotated[int, typer.Option(help="Length of the bill.")] = 14,
    seed: Annotated[int, typer.Option(help="Seed of demand and placement.")] = 0,
    demand: Annotated[
        Path | None,
        typer.Option(help="Snowflake's hourly demand (parquet or CSV) instead of the made-up one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a synthetic export, every row tagged `synthetic`, and what is planted in it (_truth.json)."""
    from optimizer.billing.sample import (
        demo_scenario,
        snowflake_scenario,
        write_azure,
        write_cur,
        write_focus,
        write_gcp,
        write_truth,
    )

    writers: dict[str, Callable[..., Any]] = {
        "aws": write_cur,
        "gcp": write_gcp,
        "azure": write_azure,
        "focus": write_focus,
    }
    if provider not in writers:
        raise InputError(f"provider {provider!r}; accepted: {', '.join(writers)}")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: a file; accepted: a folder, which is made where it does not exist")
    cloud = "aws" if provider == "focus" else provider
    scenario = (
        demo_scenario(cloud, days=days, seed=seed)
        if demand is None
        else snowflake_scenario(demand, provider=cloud, days=days)
    )
    truth = writers[provider](scenario, out)
    told = write_truth(truth, scenario, out)
    facts = {
        "truth": str(told),
        "files": [str(file) for file in truth.files],
        "workloads": len(scenario.workloads),
        "billed": {f"{invoice} {currency}": total for (invoice, currency), total in truth.billed.items()},
        "effective": truth.effective,
        "unused_commitment": truth.unused,
        "instance_hours": truth.instance_hours,
    }
    if as_json:
        print_json(facts)
        return
    for file in truth.files:
        typer.echo(f"wrote {file}")
    typer.echo(f"wrote {told}: what is planted in it")
    for invoice, total in truth.billed.items():
        typer.echo(f"  billed {total:.2f} {invoice[1]} on {invoice[0]}")


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str], None], Callable[[float], None] | None]]:
    """Show what is going on, and how far it is, while it goes on; on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda stage: None, None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def say(stage: str) -> None:
            bar.update(task, description=stage, total=None, completed=0)

        yield say, lambda done: bar.update(task, total=100, completed=done)


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{option} {text}; accepted: ISO 8601, such as 2024-03-01 or 2024-03-01T06:00"
        ) from error
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
