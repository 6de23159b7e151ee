"""`spotwise tune`: search for training settings."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.errors import InputError

if TYPE_CHECKING:
    from training.tune.backend import Backend
    from training.tune.search import Found, Search, State

app = typer.Typer()


@app.command("tune")
def tune(
    market: Annotated[
        list[Path], typer.Option("--market", "-m", help="Market file to train on; repeatable.")
    ],
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Training configuration whose settings are searched.")
    ] = Path("configs/deadline.yaml"),
    space: Annotated[
        Path, typer.Option(help="Search space: a YAML file, or the name of a shipped one.")
    ] = Path("configs/tune.yaml"),
    eval_market: Annotated[
        list[Path] | None,
        typer.Option(help="Market file to score on; repeatable. Default: the held-out end of each --market."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials of the whole study, in place of the search space's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of each trial, in place of the search space's.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Trials at the same time.")] = 1,
    backend: Annotated[
        str, typer.Option(help="`local`: processes of this machine; `ray`: a Ray cluster.")
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(help="Of the Ray cluster, `auto` for the running one. Default: start one here."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seeds proposals and training.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the study. Default: runs/NAME-tune.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the study in --out, or add trials to it.")
    ] = False,
    tracking_uri: Annotated[
        str, typer.Option(help="MLflow server or database; `none` tracks nothing.")
    ] = "sqlite:///mlflow.db",
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", "-P", help="Show a progress bar.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Search for training settings with Optuna and write the best as a configuration for `spotwise train`.

    Each trial trains a little and is scored on held-out windows by the share of the way from Uniform Progress
    to the clairvoyant optimum; a missed deadline gives the worst score. Trials below the median of the others
    at the same point are ended early. Ctrl-C leaves a study that --resume goes on with.
    """
    if backend not in ("local", "ray"):
        raise InputError(f"--backend {backend!r}; accepted: local, ray")
    if ray_address is not None and backend != "ray":
        raise InputError("--ray-address without --backend ray; give both, or none")
    search = _search(config, space, trials, steps, market, eval_market, seed, out, tracking_uri)
    try:
        begin = _backend(search, backend, jobs, ray_address)
        found = _with_bar(search, begin, resume, show=progress and not as_json)
    except KeyboardInterrupt as interruption:
        typer.secho(
            f"interrupted: go on with the same command and --resume --out {search.out}; the best so far, if "
            f"any, is {search.out / 'best.yaml'}",
            err=True,
        )
        raise typer.Exit(128 + (interruption.args or (signal.SIGINT,))[0]) from interruption
    _report(found, as_json)


def _search(
    config: Path,
    space: Path,
    trials: int | None,
    steps: int | None,
    market: list[Path],
    eval_market: list[Path] | None,
    seed: int,
    out: Path | None,
    tracking_uri: str,
) -> Search:
    from optimizer.cli.train import market_data, tracker_of
    from optimizer.presets import find_config
    from training.config import load_config
    from training.tune.search import Search
    from training.tune.space import SearchSpace, load_space

    base = load_config(find_config(config))
    wanted = {"trials": trials, "steps": steps}
    settings = load_space(find_config(space))
    settings = SearchSpace.model_validate(
        {**settings.model_dump(by_alias=True), **{k: v for k, v in wanted.items() if v is not None}}
    )
    settings.check(base, str(space))
    return Search(
        settings,
        base,
        market_data(market, eval_market),
        out or Path("runs") / f"{base.name}-tune",
        seed,
        lambda: tracker_of(tracking_uri, base),
    )


def _backend(search: Search, name: str, jobs: int, ray_address: str | None) -> Callable[[], Backend]:
    if name == "ray":
        from training.tune.ray_cluster import RayBackend

        return lambda: RayBackend(search.data, jobs, ray_address)
    from training.tune.local import LocalBackend

    return lambda: LocalBackend(search.data, jobs)


def _with_bar(search: Search, begin: Callable[[], Backend], resume: bool, *, show: bool) -> Found:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[now]}"))
    with Bar(*columns, console=console, disable=not show) as bar:
        task = bar.add_task("tune", total=search.space.trials, now="")

        def watch(state: State) -> None:
            now = f"best closes {state.best:.1%} of the gap" if state.best is not None else ""
            bar.update(task, completed=state.finished, now=now)
            if state.news:
                console.print(state.news, highlight=False, markup=False)

        search.watch = watch
        return search.run(begin, resume=resume)


def _report(found: Found, as_json: bool) -> None:
    if as_json:
        content = {**asdict(found), "study": str(found.study), "configuration": str(found.configuration)}
        typer.echo(json.dumps(content, indent=2))
        return
    base = "" if found.base_score is None else f"; as given: {found.base_score:.1%}"
    typer.echo(f"{found.configuration}")
    typer.echo(f"trial {found.number}: {found.score:.1%} of the gap closed on held-out windows{base}")
    for name, value in found.parameters.items():
        typer.echo(f"  {name}: {value:.6g}" if isinstance(value, float) else f"  {name}: {value}")
    typer.echo(f"{found.complete} trials finished, {found.pruned} ended early, {found.failed} failed")
