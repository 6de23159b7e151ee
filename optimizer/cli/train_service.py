"""`spotwise train --workload service`: a network on top of the look-ahead planner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from training.service.train import ServiceProgress, ServiceTrained
    from training.service.train_config import ServiceTrainingConfig


def service_settings(path: Path, eval_freq: int | None, total_steps: int | None) -> ServiceTrainingConfig:
    """The configuration with what the command line says instead.

    Raises:
        InputError: A setting is unknown or out of range.
    """
    from optimizer.presets import find_config
    from training.service.train_config import load_service_config

    settings = load_service_config(find_config(path))
    if eval_freq is not None:
        evaluation = settings.evaluation.model_copy(update={"every_steps": eval_freq})
        settings = settings.model_copy(update={"evaluation": evaluation})
    if total_steps is not None:
        ppo = settings.ppo.model_copy(update={"total_steps": total_steps})
        settings = settings.model_copy(update={"ppo": ppo})
    return settings


def service_now(state: ServiceProgress) -> list[str]:
    """What the progress bar says beside the speed."""
    now = [f"gain {state.metrics['rollout/gain']:+.4f}"]
    return now + ([f"held out {state.best.gain:+.4f}"] if state.best else [])


def report_service(trained: ServiceTrained, as_json: bool) -> None:
    """Print the outcome."""
    score = trained.score
    if as_json:
        result = {
            "bundle": str(trained.bundle),
            "sha256": trained.sha256,
            "steps": trained.steps,
            "gain_over_planner": score.gain,
            "standard_error": score.error,
            "corrected_share": score.corrected,
            "episodes": score.episodes,
            "run": trained.run,
        }
        typer.echo(json.dumps(result, indent=2))
        return
    typer.echo(f"{trained.bundle}")
    typer.echo(
        f"held-out episodes: reward per tick {score.gain:+.5f} ± {score.error:.5f} above the planner's over "
        f"{score.episodes} episodes, {score.corrected:.1%} of its choices corrected"
    )
