"""`spotwise market`: price history and availability traces become a market file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.errors import InputError

if TYPE_CHECKING:
    from simulator.market.market import Market
    from simulator.market.summary import MarketSummary, PriceSummary

app = typer.Typer(help="Price history and availability traces → market files.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Market file to write (.npz).")]
Start = Annotated[
    str | None,
    typer.Option(
        help="Begin here (ISO 8601, UTC). Also the first sample of traces in a folder without a date."
    ),
]
End = Annotated[str | None, typer.Option(help="End here (ISO 8601, UTC).")]
InstanceTypes = Annotated[
    list[str] | None, typer.Option("--instance-type", help="Only this instance type; repeatable.")
]
Zones = Annotated[list[str] | None, typer.Option("--zone", help="Only this zone; repeatable.")]


@app.command()
def build(
    files: Annotated[
        list[Path], typer.Argument(help="Traces and price histories; gzip and zstandard are unpacked.")
    ],
    out: Out,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="skypilot, aws-json, aws-csv, aws-tsv, spotlake or gcp, for all files; default: found out.",
        ),
    ] = None,
    tick_seconds: Annotated[int, typer.Option(help="Length of a tick in seconds.")] = 600,
    spot_price: Annotated[
        float | None, typer.Option(help="Spot price of every pool, USD/h, whatever the files say.")
    ] = None,
    fill_spot_price: Annotated[
        float | None, typer.Option(help="Spot price of pools whose files have none, USD/h.")
    ] = None,
    on_demand_price: Annotated[
        float | None, typer.Option(help="On-demand price of every pool, USD/h, whatever the files say.")
    ] = None,
    on_demand_prices: Annotated[
        Path | None, typer.Option(help="CSV of on-demand prices: region, instance_type, ondemand_price.")
    ] = None,
    instance_type: InstanceTypes = None,
    zone: Zones = None,
    region: Annotated[list[str] | None, typer.Option(help="Only this region; repeatable.")] = None,
    product: Annotated[
        str | None, typer.Option(help="Product of AWS histories; default Linux/UNIX where there are several.")
    ] = None,
    start: Start = None,
    end: End = None,
    common_span: Annotated[
        bool, typer.Option(help="Cut traces of different gap, length or start to the span they share.")
    ] = False,
    drop_incomplete: Annotated[
        bool, typer.Option(help="Leave out pools without data from --start to --end.")
    ] = False,
    unit_capacity: Annotated[
        str,
        typer.Option(
            help="Instances that 1 in a trace stands for; `unlimited` reads 0/1 as none or as many as asked."
        ),
    ] = "1",
    advisor: Annotated[
        Path | None,
        typer.Option(
            help="Interruption bands (AWS spot advisor JSON, SpotLake CSV): make up availability for pools "
            "without a trace. An assumption, and marked as one."
        ),
    ] = None,
    advisor_system: Annotated[str, typer.Option(help="Operating system in the spot advisor.")] = "Linux",
    outage_hours: Annotated[float, typer.Option(help="Mean outage assumed with --advisor.")] = 2.0,
    seed: Annotated[int, typer.Option(help="Seed of what --advisor makes up.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Build a market from traces and price histories.

    Traces give capacity: each tick takes the sample floor(i · tick / gap). Histories give prices: the last
    one is carried forward. All pools are put on one clock.
    """
    from simulator.market.build import BuildOptions, build_market
    from simulator.market.readers import FORMATS, read_on_demand_prices
    from simulator.market.readers.advisor import read_interruption_bands

    if format_name is not None and format_name not in FORMATS:
        raise InputError(f"--format {format_name!r} is unknown; accepted: {', '.join(FORMATS)}")
    options = BuildOptions(
        tick_seconds=tick_seconds,
        start=_moment("--start", start),
        end=_moment("--end", end),
        spot_price=spot_price,
        fill_spot_price=fill_spot_price,
        on_demand_price=on_demand_price,
        on_demand_prices=read_on_demand_prices(on_demand_prices) if on_demand_prices else None,
        instance_types=tuple(instance_type or ()),
        zones=tuple(zone or ()),
        regions=tuple(region or ()),
        product=product,
        unit_capacity=_unit_capacity(unit_capacity),
        common_span=common_span,
        drop_incomplete=drop_incomplete,
        bands=read_interruption_bands(advisor, operating_system=advisor_system) if advisor else None,
        outage_hours=outage_hours,
        seed=_seed(seed),
    )
    with _progress("reading", len(files)) as advance:
        warnings: list[str] = []
        market = build_market(
            files,
            options,
            format_name=format_name,
            on_file=lambda _: advance(),
            on_warning=warnings.append,
        )
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    _finish(market, out, as_json)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="Market file.")],
    as_json: AsJson = False,
) -> None:
    """Show the pools, span, availability and prices of a market."""
    from simulator.market.market import Market
    from simulator.market.summary import summarise

    summary = summarise(Market.load(file))
    if as_json:
        _print_json(file, summary)
    else:
        _print_table(file, summary)


@app.command()
def synth(
    out: Out,
    days: Annotated[float, typer.Option(help="Length of the market.")] = 45.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same market.")] = 0,
    zone: Annotated[
        list[str] | None,
        typer.Option("--zone", help="A zone; repeatable. All but its last letter names its region."),
    ] = None,
    instance_type: Annotated[str, typer.Option(help="Instance type of all pools.")] = "v100",
    provider: Annotated[
        str, typer.Option(help="Provider in the pools' names: aws to rehearse on the fake AWS.")
    ] = "synthetic",
    correlation: Annotated[
        float, typer.Option(help="Correlation of availability of two zones in one region, 0 to 1.")
    ] = 0.35,
    cross_region_correlation: Annotated[
        float, typer.Option(help="The same for two regions, 0 to --correlation.")
    ] = 0.1,
    spot_price: Annotated[float, typer.Option(help="Level of the spot price, USD/h.")] = 0.9731,
    on_demand_price: Annotated[float, typer.Option(help="On-demand price, USD/h.")] = 3.06,
    price_variation: Annotated[
        float, typer.Option(help="Coefficient of variation of the spot price over time; 0 = constant.")
    ] = 0.0,
    capacity: Annotated[int, typer.Option(help="Spot instances of a pool that is up.")] = 1,
    model: Annotated[
        Path | None,
        typer.Option(help="Fit of `python -m simulator.synthetic.fit`; default: the shipped one."),
    ] = None,
    start: Annotated[str, typer.Option(help="Time of the first tick (ISO 8601, UTC).")] = "2023-01-01",
    as_json: AsJson = False,
) -> None:
    """Draw a synthetic market from the availability model fitted to real traces.

    Whatever its pools are named after, the file says that it is synthetic, and so does what is made from it.
    """
    from simulator.market.market import Pool
    from simulator.sample_data import ZONES
    from simulator.synthetic import load_model, synthetic_market

    fitted = load_model(model)
    begin = _moment("--start", start)
    if begin is None or not 0 < days <= 36_525:
        raise InputError(f"--days {days}; accepted: more than 0, at most 36525")
    if not (0 <= spot_price < 1e6 and 0 < on_demand_price < 1e6):
        raise InputError(
            f"prices {spot_price} and {on_demand_price}; accepted: USD per hour, on-demand above 0"
        )
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", provider):
        raise InputError(f"--provider {provider!r}; accepted: a lower-case word such as aws")
    market = synthetic_market(
        fitted,
        [Pool(provider, name[:-1] or name, name, instance_type) for name in zone or ZONES],
        ticks=round(days * 86_400 / fitted.tick_seconds),
        seed=_seed(seed),
        correlation=correlation,
        cross_region_correlation=min(cross_region_correlation, correlation),
        spot_price=spot_price,
        on_demand_price=on_demand_price,
        price_variation=price_variation,
        capacity=capacity,
        start=begin,
    )
    _finish(market, out, as_json)


@app.command()
def fetch(
    region: Annotated[str, typer.Option(help="AWS region.")],
    instance_type: Annotated[list[str], typer.Option("--instance-type", help="Instance type; repeatable.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON file to write; `market build` reads it.")],
    zone: Zones = None,
    product: Annotated[list[str] | None, typer.Option(help="Product; repeatable.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Begin here (ISO 8601, UTC); default: 90 days before the end.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="End here (ISO 8601, UTC); default: now.")] = None,
    profile: Annotated[str | None, typer.Option(help="AWS profile.")] = None,
) -> None:
    """Fetch AWS spot price history with your own credentials (read only: ec2:DescribeSpotPriceHistory).

    AWS keeps 90 days. The file is what `aws ec2 describe-spot-price-history` prints.
    """
    from optimizer.spot_price_history import ec2_client, fetch_history, write_history

    until = _moment("--end", end) or datetime.now(UTC)
    since = _moment("--start", start) or until - timedelta(days=90)
    if since >= until:
        raise InputError(f"--start {since} is not before --end {until}; accepted: an earlier start")
    with _progress("fetching", None) as advance:
        events = fetch_history(
            ec2_client(region, profile),
            instance_types=instance_type,
            zones=zone or [],
            products=product or ["Linux/UNIX"],
            start=since,
            end=until,
            on_page=advance,
        )
    write_history(events, out)
    typer.echo(f"{out}: {len(events)} price events of {', '.join(instance_type)} in {region}")


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(
            f"{option} {text!r} is no time; accepted: 2023-02-15 or 2023-02-15T12:00:00Z"
        ) from None


def _unit_capacity(text: str) -> int:
    from simulator.market.market import UNLIMITED_CAPACITY

    if text == "unlimited":
        return UNLIMITED_CAPACITY
    if text.isascii() and text.isdecimal() and 0 < len(text) < 7 and int(text) > 0:
        return int(text)
    raise InputError(f"--unit-capacity {text!r}; accepted: a whole number from 1 to 999999, or unlimited")


def _seed(seed: int) -> int:
    if seed < 0:
        raise InputError(f"--seed {seed}; accepted: 0 or more")
    return seed


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, on a terminal only."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _finish(market: Market, out: Path, as_json: bool) -> None:
    from simulator.market.summary import summarise

    if out.suffix != ".npz":
        raise InputError(f"--out {out}: market files end in .npz; accepted: e.g. {out.with_suffix('.npz')}")
    market.save(out)
    if as_json:
        _print_json(out, summarise(market))
        return
    typer.echo(
        f"{out}: {len(market.pools)} pools, {market.ticks} ticks of {market.tick_seconds} s, "
        f"{market.start:%Y-%m-%d %H:%M} to {market.end:%Y-%m-%d %H:%M} UTC"
    )
    typer.echo(f"source: {market.source}")


def _print_json(file: Path, summary: MarketSummary) -> None:
    typer.echo(json.dumps({"file": str(file), **summary.as_dict()}, indent=2))


def _print_table(file: Path, summary: MarketSummary) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=160)
    table = Table(
        title=Text(f"{file}: {summary.days:.1f} days, {summary.ticks} ticks of {summary.tick_seconds} s")
    )
    table.add_column("pool", overflow="fold")
    for column in (
        "available %",
        "interruptions",
        "mean up h",
        "mean down h",
        "capacity",
        "spot USD/h min / median / max",
        "on-demand USD/h",
        "spot / on-demand",
    ):
        table.add_column(column, justify="right")
    for pool in summary.pools:
        table.add_row(
            Text(pool.name),
            f"{100 * pool.availability:.1f}",
            str(pool.interruptions),
            _hours(pool.mean_up_hours),
            _hours(pool.mean_down_hours),
            "unlimited" if pool.highest_capacity is None else str(pool.highest_capacity),
            f"{pool.spot_price.min:.4g} / {pool.spot_price.median:.4g} / {pool.spot_price.max:.4g}",
            _price_range(pool.on_demand_price),
            f"{pool.spot_to_on_demand:.3f}",
        )
    console.print(table)
    console.print(Text(f"span: {summary.start} to {summary.end}"))
    console.print(Text(f"source: {summary.source}"))


def _hours(hours: float | None) -> str:
    return "–" if hours is None else f"{hours:.1f}"


def _price_range(price: PriceSummary) -> str:
    return f"{price.min:.4g}" if price.min == price.max else f"{price.min:.4g} – {price.max:.4g}"
