"""`spotwise controller`: the daemon that applies placements, and what talks to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.errors import InputError, SpotwiseError

if TYPE_CHECKING:
    from optimizer.controller.config import ControllerSettings

app = typer.Typer(help="The daemon: observe, decide, guard, journal, act, confirm.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", "-c", help="Configuration; or a shipped preset's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DEFAULT_CONFIG = Path("configs/controller.yaml")


@app.command()
def run(
    plan: Annotated[Path, typer.Option("--plan", help="Plan file that `spotwise recommend` wrote.")],
    config: Config = DEFAULT_CONFIG,
    mode: Annotated[
        str | None, typer.Option(help="dry-run, shadow, canary or apply. Default: the configuration's.")
    ] = None,
    ticks: Annotated[int | None, typer.Option(min=1, help="Stop after so many ticks.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the controller until the plan is done or it is told to stop. Logs go to standard error, as JSON.

    The default mode is `dry-run`: it journals and logs what it would do, and does nothing.
    """
    import sys
    from typing import get_args

    from optimizer.controller.config import Mode
    from optimizer.controller.daemon import Daemon, make_provider
    from optimizer.controller.journal.choice import open_journal
    from optimizer.controller.lock import Lock
    from optimizer.controller.logs import JsonLog
    from optimizer.plan import read_plan

    if mode is not None and mode not in get_args(Mode):
        raise InputError(f"--mode {mode}; accepted: {', '.join(get_args(Mode))}")
    settings = _settings(config)
    chosen = read_plan(plan)
    provider = make_provider(settings, chosen)
    log = JsonLog(sys.stderr, controller=settings.name, mode=mode or settings.mode)
    with Lock(settings.state_dir), open_journal(settings) as journal:
        daemon = Daemon(chosen, settings, provider, journal, log, mode)  # type: ignore[arg-type]  # checked above
        if daemon.endpoint is not None:
            log("info", "endpoint", f"{daemon.endpoint.url} (token in {settings.state_dir / 'token'})")
        daemon.stop_on_signals()
        daemon.run(ticks)
        status = daemon.status()
    if as_json:
        typer.echo(json.dumps(status, indent=2))
    else:
        _show(status)


@app.command()
def status(
    config: Config = DEFAULT_CONFIG,
    wait: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds to wait for a controller that has run a tick.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Show the running controller's state."""
    import time

    settings, until = _settings(config), time.monotonic() + wait
    found: dict[str, Any] = {}
    while "tick" not in found:
        try:
            found = _call(settings, "GET", "status")
        except SpotwiseError:
            if time.monotonic() >= until:
                raise
        if time.monotonic() >= until:
            break
        if "tick" not in found:
            time.sleep(0.2)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _show(found)


@app.command()
def pause(config: Config = DEFAULT_CONFIG) -> None:
    """Keep observing, launch and terminate nothing. Survives a restart."""
    _tell(config, "pause")


@app.command()
def resume(config: Config = DEFAULT_CONFIG) -> None:
    """End a pause."""
    _tell(config, "resume")


@app.command()
def stop(config: Config = DEFAULT_CONFIG) -> None:
    """End the process after the present tick; what runs stays as it is."""
    _tell(config, "stop")


@app.command()
def kill(
    config: Config = DEFAULT_CONFIG,
    off: Annotated[bool, typer.Option("--off", help="Release the switch.")] = False,
) -> None:
    """Throw the kill switch: nothing is launched or terminated while it is on, whatever runs or restarts.

    Works without a running controller too: the switch is a file named KILL in the state_dir.
    """
    settings = _settings(config)
    switch = settings.state_dir / "KILL"
    try:
        if off:
            switch.unlink(missing_ok=True)
        else:
            settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            switch.touch()
    except OSError as error:
        # a disk that is full or read-only must not keep the switch from working: a controller that runs has
        # it in memory too
        try:
            _call(settings, "POST", "unkill" if off else "kill")
        except SpotwiseError as second:
            raise SpotwiseError(f"{switch} cannot be changed ({error.strerror}), and {second}") from error
    typer.echo(f"kill switch {'off' if off else 'on'} ({switch})")


@app.command()
def journal(
    config: Config = DEFAULT_CONFIG,
    workload: Annotated[str | None, typer.Option(help="Only this workload.")] = None,
    since: Annotated[str | None, typer.Option(help="UTC time, such as 2026-11-24T12:00.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Entries at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show who did what, why, and what it was expected to cost: newest first."""
    from datetime import UTC, datetime

    from optimizer.controller.journal.choice import open_journal

    settings = _settings(config)
    moment = 0.0
    if since is not None:
        try:
            moment = datetime.fromisoformat(since).replace(tzinfo=UTC).timestamp()
        except ValueError as error:
            raise InputError(f"--since {since}; accepted: a time such as 2026-11-24T12:00 (UTC)") from error
    with open_journal(settings, begin=False) as opened:
        entries = opened.audit(since=moment, workload=workload, limit=limit)
    if as_json:
        typer.echo(json.dumps({"entries": entries}, indent=2))
        return
    for one in entries:
        typer.echo(_line(one, datetime.fromtimestamp(one["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")))


@app.command()
def record(
    plan: Annotated[Path, typer.Option("--plan", help="The plan that ran; it knows the on-demand prices.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Market file to write.")],
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Write what the controller saw as a market file: prices, launches that failed, instances taken back.

    The next training and the next recommendation learn from it. A pool that was not tried keeps what was
    known of it last.
    """
    from optimizer.controller.journal.choice import open_journal
    from optimizer.controller.record import recorded_market
    from optimizer.plan import read_plan

    with open_journal(_settings(config), begin=False) as opened:
        market = recorded_market(opened.seen(), read_plan(plan))
    market.save(out)
    facts = {"out": str(out), "pools": len(market.pools), "ticks": market.ticks, "start": str(market.start)}
    typer.echo(json.dumps(facts) if as_json else f"{out}: {facts['pools']} pools, {facts['ticks']} ticks")


def _line(one: dict[str, Any], at: str) -> str:
    if one["entry"] == "event":
        return f"{at}  {one['level']:7}  {one['kind']}: {one['message']}"
    if one["entry"] == "guard":
        return f"{at}  guard    {one['guard']}: {one['workload']} wanted {one['wanted']}, got {one['got']}"
    request = one["request"]
    what = (
        f"{request['count']} {request['option']} {request['pool']}"
        if one["action"] == "launch"
        else ", ".join(request.get("ids", []))
    )
    return (
        f"{at}  {one['state']:7}  {one['action']} {one['workload']}: {what} "
        f"({one['expected_usd_per_hour']:+.4f} USD/h) {one['why']}"
    )


def _settings(path: Path) -> ControllerSettings:
    from optimizer.controller.config import ControllerSettings
    from optimizer.presets import find_config
    from training.configuration import read_configuration

    return read_configuration(find_config(path), ControllerSettings, prefix="SPOTWISE_CONTROLLER")


def _tell(config: Path, command: str) -> None:
    found = _call(_settings(config), "POST", command)
    typer.echo(f"{command}: done ({'paused' if found['paused'] else found.get('state', 'starting')})")


def _call(settings: ControllerSettings, method: str, path: str) -> dict[str, Any]:
    import getpass
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    where = settings.state_dir / "endpoint.json"
    try:
        url = urlsplit(str(json.loads(where.read_text(encoding="utf-8"))["url"]))
        token = (settings.state_dir / "token").read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError) as error:
        raise SpotwiseError(f"no controller is running here ({where}: {error})") from error
    connection = HTTPConnection(url.hostname or "127.0.0.1", url.port, timeout=10)
    headers = {"Authorization": f"Bearer {token}", "X-Spotwise-Who": f"cli {getpass.getuser()}"}
    try:
        connection.request(method, f"/{path}", headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
    except (OSError, HTTPException) as error:
        raise SpotwiseError(f"the controller at {url.netloc} does not answer ({error})") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise SpotwiseError(f"the controller at {url.netloc} says {answer.status}: {body.strip()}")
    found: dict[str, Any] = json.loads(body)
    return found


def _job_left(one: dict[str, Any]) -> str:
    """Work done of all, slack, expected finish; of a job with a cost of lateness, when it is due."""
    from datetime import UTC, datetime

    def at(key: str) -> str:
        return f"{datetime.fromtimestamp(one[key], UTC):%Y-%m-%d %H:%M}"

    total = one["work_done_hours"] + one["work_left_hours"]
    text = f"{one['work_done_hours']:.2f} of {total:.2f} h"
    if "finished_at" in one:
        return f"{text}, finished {at('finished_at')}"
    text += f", slack {one['slack_hours']:.2f} h, finish expected {at('expected_finish')}"
    text += f", checkpoint in {one['data_region']}" if "data_region" in one else ""
    if "due" not in one:
        return text
    return f"{text}, due {at('due')} UTC (lateness {one['expected_lateness_usd']:.2f} USD)"


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if "tick" not in found:
        console.print("no tick yet")
        return
    console.print(
        f"{found['name']}: {found['mode']}, {found['state']}, tick {found['tick']}; "
        f"{found['instances']} instances, "
        f"{found['rate_usd_per_hour']:.4f} USD/h; {found['cost_usd']:.2f} USD so far, "
        f"{found['saved_usd']:.2f} USD saved against on-demand",
        highlight=False,
    )
    if found["mode"] == "shadow":
        console.print(
            f"in the shadow: the placements that the plan found cost {found['present_usd']:.2f} USD in "
            "this time",
            highlight=False,
        )
        if found["assumed_pools"]:
            console.print(
                f"assumed: {found['assumed_saving_usd']:.2f} USD of the saving rest on spot capacity that "
                f"nobody has asked for, in {', '.join(found['assumed_pools'])}",
                highlight=False,
            )
    if found["canary"]:
        console.print(f"canary: {found['canary']}")
    table = Table()
    table.add_column("workload")
    for name in ("state", "placement", "progress / availability", "USD"):
        table.add_column(name)
    for one in found["workloads"][:50]:
        left = (
            _job_left(one)
            if one["kind"] == "deadline"
            else f"{one['availability']:.4f} (target {one['target']:g})"
        )
        table.add_row(one["name"], one["state"], one["placement"], left, f"{one['cost_usd']:.2f}")
    console.print(table)
    hidden = found["workloads_total"] - min(len(found["workloads"]), 50)
    if hidden:
        console.print(f"{hidden} more")
