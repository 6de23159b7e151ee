"""`spotwise fake-aws`: a stateful EC2, Auto Scaling and SQS on this machine, with a market's pools."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from simulator.errors import InputError

app = typer.Typer()


class ClockKind(StrEnum):
    """Where the fake's time comes from."""

    real = "real"
    manual = "manual"


@app.command("fake-aws")
def fake_aws(
    market: Annotated[Path, typer.Option("--market", "-m", help="Market file: pools, capacity and prices.")],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="TCP port; 0 takes a free one.")] = 4570,
    host: Annotated[str, typer.Option(help="Loopback address; others are refused.")] = "127.0.0.1",
    speed: Annotated[float, typer.Option(help="Seconds of the fake per real second.")] = 1.0,
    clock: Annotated[
        ClockKind, typer.Option(help="real, or manual: POST /_fake/advance moves it.")
    ] = ClockKind.real,
    start_tick: Annotated[int, typer.Option(min=0, help="Tick of the market that is now.")] = 0,
    instant: Annotated[
        bool, typer.Option("--instant/--like-aws", help="No delays, rate limits or doubled messages.")
    ] = False,
    template: Annotated[
        str, typer.Option(help="Launch template that is there from the start, in every region.")
    ] = "spotwise",
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON objects, one per line.")] = False,
) -> None:
    """Run a fake AWS on this machine until it is stopped (Ctrl-C or SIGTERM).

    Point any AWS client at it: set AWS_ENDPOINT_URL to the address it prints, and any access key. GET
    /_fake/status tells time, cost and what it was asked.
    """
    import signal
    import threading
    from datetime import UTC, datetime, timedelta

    from optimizer.fake_aws import FakeAws, ManualClock, Options, ScaledClock
    from simulator.market import Market

    loaded = Market.load(market)
    if start_tick >= loaded.ticks:
        raise InputError(
            f"--start-tick {start_tick}; accepted: 0 to {loaded.ticks - 1}, the ticks of {market}"
        )
    now = datetime.now(UTC)
    options = Options(seed=seed) if instant else Options.like_aws(seed=seed)
    stop = threading.Event()
    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, lambda *_: stop.set())
    with FakeAws(
        loaded,
        options,
        clock=ManualClock(now) if clock is ClockKind.manual else ScaledClock(now, speed),
        anchor=now - timedelta(seconds=start_tick * loaded.tick_seconds),
        host=host,
        port=port,
        log_limit=100_000,
    ) as fake:
        fake.add_template(template)
        regions = sorted(fake.queue_urls())
        if as_json:
            typer.echo(json.dumps({"endpoint": fake.endpoint, "queue_urls": fake.queue_urls()}))
        else:
            typer.echo(
                f"fake AWS with {len(loaded.pools)} pools in {', '.join(regions)}; point a client at it:"
            )
            typer.echo(f"export AWS_ENDPOINT_URL={fake.endpoint} AWS_REGION={regions[0]}")
            typer.echo("export AWS_ACCESS_KEY_ID=fake AWS_SECRET_ACCESS_KEY=fake")
            typer.echo(f"launch template: {template}; notices: {fake.queue_urls()[regions[0]]}")
        stop.wait()
        cost, launched = fake.bill(), len(fake.bill().instances)
        if as_json:
            typer.echo(json.dumps({"instances": launched, "cost_usd": float(cost.total)}))
        else:
            typer.echo(f"stopped: {launched} instances were launched, for {float(cost.total):.2f} USD")
