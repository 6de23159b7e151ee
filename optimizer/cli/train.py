"""`spotwise train`: a configuration and market files become a policy bundle."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer

from simulator.errors import InputError

if TYPE_CHECKING:
    from training.config import TrainingConfig
    from training.data import Data
    from training.held_out import Score
    from training.progress import Progress, Trained
    from training.service.train import ServiceProgress
    from training.service.train_config import ServiceTrainingConfig
    from training.tracking import Tracker

_State = TypeVar("_State", bound="Progress[Score] | ServiceProgress")
_Done = TypeVar("_Done", covariant=True)


class _Trains(Protocol[_State, _Done]):
    """What the trainers of both workloads have in common."""

    watch: Callable[[_State], None]

    @property
    def config(self) -> TrainingConfig | ServiceTrainingConfig: ...

    @property
    def checkpoint_path(self) -> Path: ...

    def run(self, *, resume: bool = False) -> _Done: ...


app = typer.Typer()


@app.command("train")
def train(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="YAML configuration, or the name of a shipped one.")
    ],
    market: Annotated[
        list[Path], typer.Option("--market", "-m", help="Market file to train on; repeatable.")
    ],
    eval_market: Annotated[
        list[Path] | None,
        typer.Option(
            help="Market file to evaluate on; repeatable. Default: the held-out end of each --market."
        ),
    ] = None,
    workload: Annotated[str, typer.Option(help="`deadline` or `service`.")] = "deadline",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seeds weights, updates and episodes.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of checkpoint and bundle. Default: runs/NAME-seedSEED."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out, as if never interrupted.")
    ] = False,
    eval_freq: Annotated[
        int | None, typer.Option(min=1, help="Steps between evaluations, in place of the configuration's.")
    ] = None,
    total_steps: Annotated[
        int | None, typer.Option(min=1, help="Environment steps, in place of the configuration's.")
    ] = None,
    tracking_uri: Annotated[
        str, typer.Option(help="MLflow server or database; `none` tracks nothing.")
    ] = "sqlite:///mlflow.db",
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", "-P", help="Show a progress bar.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Train a policy with PPO, evaluated on held-out windows and tracked in MLflow.

    For services it is a network on top of the look-ahead planner. With `features: deadline-pools` in the
    configuration it is one for jobs that use all pools of a market, on top of the planner.
    """
    if workload not in ("deadline", "service"):
        raise InputError(f"--workload {workload!r}; accepted: deadline, service")
    shown = progress and not as_json
    if workload == "service":
        from optimizer.cli.train_service import report_service, service_now, service_settings

        asked = service_settings(config, eval_freq, total_steps)
        data, folder = market_data(market, eval_market), out or Path("runs") / f"{asked.name}-seed{seed}"
        from training.service.train import ServiceTrainer  # late: torch and stable-baselines3 take seconds

        service = ServiceTrainer(asked, data, folder, seed=seed, tracker=tracker_of(tracking_uri, asked))
        report_service(_to_end(service, service_now, resume, shown), as_json)
        return
    settings = _settings(config, eval_freq, total_steps)
    data, folder = market_data(market, eval_market), out or Path("runs") / f"{settings.name}-seed{seed}"
    from training.config import POOL_FEATURES
    from training.pools.trainer import PoolsTrainer  # late, as above
    from training.trainer import Trainer

    chosen = PoolsTrainer if settings.features == POOL_FEATURES else Trainer
    trainer = chosen(settings, data, folder, seed=seed, tracker=tracker_of(tracking_uri, settings))
    _report(_to_end(trainer, _now, resume, shown), as_json)


def _settings(path: Path, eval_freq: int | None, total_steps: int | None) -> TrainingConfig:
    from optimizer.presets import find_config
    from training.config import load_config

    settings = load_config(find_config(path))
    if eval_freq is not None:
        evaluation = settings.evaluation.model_copy(update={"every_steps": eval_freq})
        settings = settings.model_copy(update={"evaluation": evaluation})
    if total_steps is not None:
        ppo = settings.ppo.model_copy(update={"total_steps": total_steps})
        settings = settings.model_copy(update={"ppo": ppo})
    return settings


def market_data(files: list[Path], evaluation_files: list[Path] | None) -> Data:
    """Markets and hashes of the files to train and to evaluate on.

    Raises:
        InputError: A file is no market, or two have the same name.
    """
    from simulator.market import Market
    from training.data import Data
    from training.tracking import sha256_of

    every = [*files, *(evaluation_files or [])]
    names = [file.name for file in every]
    if len(set(names)) != len(names):
        raise InputError(f"two market files have the same name ({', '.join(sorted(names))}); rename one")
    markets = [Market.load(file) for file in every]
    held_out = markets[len(files) :] if evaluation_files else None
    return Data(markets[: len(files)], {file.name: sha256_of(file) for file in every}, held_out)


def tracker_of(tracking_uri: str, settings: TrainingConfig | ServiceTrainingConfig) -> Tracker:
    """Where runs are noted: an MLflow tracker, or nowhere for `none`."""
    from training.tracking import MLflowTracker, NoTracker

    if tracking_uri == "none":
        return NoTracker()
    return MLflowTracker(tracking_uri, settings.tracking.experiment)


def _to_end(
    trainer: _Trains[_State, _Done], now: Callable[[_State], list[str]], resume: bool, shown: bool
) -> _Done:
    """Run, with a progress bar if it is to be shown; Ctrl-C says how to go on."""
    try:
        return _with_bar(trainer, now, resume) if shown else trainer.run(resume=resume)
    except KeyboardInterrupt as interruption:
        there = trainer.checkpoint_path
        hint = f"{there}; go on with the same command and --resume --out {there.parent}"
        typer.secho(f"interrupted: {hint if there.is_file() else 'nothing was written yet'}", err=True)
        raise typer.Exit(128 + (interruption.args or (signal.SIGINT,))[0]) from interruption


def _with_bar(trainer: _Trains[_State, _Done], now: Callable[[_State], list[str]], resume: bool) -> _Done:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} steps"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("train", total=trainer.config.ppo.total_steps, now="")

        def watch(state: _State) -> None:
            speed = f"{state.metrics['time/steps_per_second'] / 1000:.0f} k/s"
            done = min(state.steps, state.total_steps)
            bar.update(task, completed=done, now=", ".join([speed, *now(state)]))

        trainer.watch = watch
        return trainer.run(resume=resume)


def _now(state: Progress[Score]) -> list[str]:
    cost = state.metrics.get("rollout/relative_cost_mean")
    now = [f"cost {cost:.3f}"] if cost is not None else []
    return now + ([f"held out {state.best.relative_cost:.4f}"] if state.best else [])


def _report(trained: Trained[Score], as_json: bool) -> None:
    if as_json:
        result = {
            "bundle": str(trained.bundle),
            "sha256": trained.sha256,
            "steps": trained.steps,
            "relative_to_on_demand": trained.score.relative_cost,
            "missed_deadlines": trained.score.missed,
            "episodes": trained.score.episodes,
            "run": trained.run,
        }
        typer.echo(json.dumps(result, indent=2))
        return
    score = trained.score
    typer.echo(f"{trained.bundle}")
    typer.echo(
        f"held-out windows: cost {score.relative_cost:.4f} of on-demand, {score.missed} of {score.episodes} "
        "deadlines missed"
    )
