"""`spotwise promote`: the gate between a trained policy and the default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.errors import InputError, SpotwiseError

if TYPE_CHECKING:
    from training.gate import Verdict

app = typer.Typer()


@app.command("promote")
def promote(
    bundle: Annotated[Path, typer.Argument(help="The .policy file to judge.")],
    market: Annotated[
        list[Path], typer.Option("--market", "-m", help="Held-out market file; repeatable. Never trained on.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the promoted bundle here. Default: NAME.policy.")
    ] = None,
    workload: Annotated[str, typer.Option(help="`deadline` or `service`.")] = "deadline",
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the promoted policy and registered model. Default: deadline-champion or "
            "service-champion."
        ),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(
            help="YAML with what the gate asks for. Default: configs/gate.yaml or configs/service-gate.yaml."
        ),
    ] = None,
    tracking_uri: Annotated[
        str, typer.Option(help="MLflow server or database; `none` registers nothing.")
    ] = "sqlite:///mlflow.db",
    progress: Annotated[bool, typer.Option("--progress/--no-progress", "-P", help="Show progress.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Judge a policy on held-out windows; exit code 1 and no bundle unless it passes every check.

    A deadline policy must miss no deadline, save over the best heuristic with its whole 95 % interval (paired
    bootstrap over pools and windows), lose little in its worst variant, and decide fast. A service policy
    must cost less than SpotHedge at SpotHedge's availability, and keep its target over weeks. Its
    version in the MLflow registry gets the alias `champion`, or `challenger` if it does not pass.
    """
    from rich.console import Console

    from optimizer.presets import find_config
    from policies.bundle import read_bundle
    from policies.registry import policy_of, service_policy_of
    from simulator.market import Market
    from training.configuration import read_configuration
    from training.gate import GateSettings, judge
    from training.service.gate import ServiceGateSettings, judge_service
    from training.tracking import sha256_of

    if workload not in ("deadline", "service"):
        raise InputError(f"--workload {workload!r}; accepted: deadline, service")
    service = workload == "service"
    name = name or f"{workload}-champion"
    content = read_bundle(bundle, "service" if service else "deadline")
    preset = find_config(gate or Path("service-gate.yaml" if service else "gate.yaml"))
    for path in market:
        if path.is_file() and sha256_of(path) in content.manifest.data_sha256.values():
            raise InputError(
                f"{path}: {bundle} was trained on this file; accepted: markets that it never saw"
            )
    markets = [(str(path), Market.load(path)) for path in market]
    with Console(stderr=True).status("") as status:
        if not progress:
            status.stop()
        if service:
            asked = read_configuration(preset, ServiceGateSettings, prefix="SPOTWISE_SERVICE_GATE")
            verdict = judge_service(service_policy_of(content, str(bundle)), markets, asked, status.update)
        else:
            settings = read_configuration(preset, GateSettings, prefix="SPOTWISE_GATE")
            verdict = judge(policy_of(content, str(bundle)), markets, settings, watch=status.update)
    target = out or Path(f"{name}.policy")
    version = ""
    if verdict.passed:
        from training.promotion import write_promoted

        write_promoted(target, content, verdict, name)
    if tracking_uri != "none":
        from training.promotion import register

        version = register(target if verdict.passed else bundle, verdict, name, tracking_uri)
    report = {
        "passed": verdict.passed,
        "checks": [{"name": c.name, "passed": c.passed, "found": c.found} for c in verdict.checks],
        "saving": {"over": verdict.baseline, "mean": verdict.saving, "ci95": list(verdict.interval)},
        "variants": [dict(row) for row in verdict.rows],
        "bundle": str(target) if verdict.passed else None,
        "model_version": version or None,
    }
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _print(verdict, target)
    if not verdict.passed:
        raise SpotwiseError(f"{bundle}: not promoted; see the failed checks")


def _print(verdict: Verdict, target: Path) -> None:
    for check in verdict.checks:
        typer.echo(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {check.found}")
    for row in verdict.rows:
        typer.echo(f"      {_row_text(row)}")
    if verdict.passed:
        typer.echo(f"promoted: {target}")


def _row_text(row: Mapping[str, Any]) -> str:
    if "cost_usd" in row:
        return (
            f"{row['variant']}: {row['cost_usd']:.2f} USD, {row['relative_to_on_demand']:.1%} of on-demand, "
            f"gap closed {row['gap_closed']}"
        )
    return (
        f"{row['variant']} ({row['availability']:.2%}): {row['cost_relative_to_on_demand']:.1%} of "
        f"on-demand, {row['saving_low']:.1%} to {row['saving_high']:.1%} below it"
    )
