"""`spotwise tags`: is the spend tagged as the policy asks, and does a Terraform plan keep to it?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from simulator.errors import InputError

app = typer.Typer(
    help="Tag governance: compliance by spend, and a gate for Terraform plans.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """Keep `check` a subcommand although it is the only one."""


@app.command()
def check(
    ledger: Annotated[Path | None, typer.Option("--ledger", help="Judge the spend in this ledger.")] = None,
    terraform_plan: Annotated[
        Path | None,
        typer.Option("--terraform-plan", help="Judge this plan: terraform show -json PLAN > plan.json."),
    ] = None,
    policy: Annotated[Path, typer.Option("--policy", help="The tag policy.")] = Path("configs/tags.yaml"),
    top: Annotated[int, typer.Option(min=0, help="How many of the dearest offenders to list.")] = 10,
    min_compliance: Annotated[
        float | None,
        typer.Option(help="Exit with 1 when a key's share of the spend is below this, 0 to 1, such as 0.95."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check tags. With a plan the exit code is 1 when a resource lacks one."""
    from optimizer.billing.tags import load_policy
    from optimizer.presets import find_config

    if (ledger is None) == (terraform_plan is None):
        raise InputError("give --ledger LEDGER or --terraform-plan PLAN.json, one of them")
    if min_compliance is not None and not 0 <= min_compliance <= 1:
        percent = (
            f"; for {min_compliance:g} % give {min_compliance / 100:g}" if 1 < min_compliance <= 100 else ""
        )
        raise InputError(f"--min-compliance {min_compliance:g}; accepted: a share, 0 to 1{percent}")
    if min_compliance is not None and ledger is None:
        raise InputError("--min-compliance is for --ledger; a plan must keep to the policy whole")
    rules = load_policy(find_config(policy))
    if terraform_plan is not None:
        from optimizer.billing.tags import check_plan

        judged, violations = check_plan(terraform_plan, rules)
        if as_json:
            found = [{"address": v.address, "key": v.key, "problem": v.problem} for v in violations]
            typer.echo(json.dumps({"judged": judged, "violations": found}, indent=2))
        else:
            for v in violations:
                typer.secho(f"{v.address}: {v.key}: {v.problem}", fg=typer.colors.RED)
            bad = len({v.address for v in violations})
            typer.echo(f"{judged} planned resources judged, {bad} without the tags they must carry")
        if violations:
            raise typer.Exit(1)
        return
    assert ledger is not None  # noqa: S101 (told apart above; for the type checker)
    _spend(ledger, rules_path=policy, top=top, min_compliance=min_compliance, as_json=as_json)


def _spend(ledger: Path, *, rules_path: Path, top: int, min_compliance: float | None, as_json: bool) -> None:
    from optimizer.billing.ledger import Ledger
    from optimizer.billing.tags import check_spend, load_policy
    from optimizer.presets import find_config

    with Ledger.open(ledger) as opened:
        found = check_spend(opened, load_policy(find_config(rules_path)))
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "taggable": found.taggable,
                    "untaggable": found.untaggable,
                    "keys": [
                        {
                            "key": k.key,
                            "currency": k.currency,
                            "valid": k.valid,
                            "inferred": k.inferred,
                            "invalid": k.invalid,
                            "missing": k.missing,
                            "compliance": k.share,
                            "compliance_with_inferred": k.share_with_inferred,
                        }
                        for k in found.keys
                    ],
                    "offenders": [
                        {
                            "resource": o.resource,
                            "kind": o.kind,
                            "account": o.account,
                            "owner": o.owner,
                            "cost": o.cost,
                            "currency": o.currency,
                            "problems": o.problems,
                        }
                        for o in found.offenders[:top]
                    ],
                    "offenders_total": len(found.offenders),
                },
                indent=2,
            )
        )
    else:
        for k in found.keys:
            typer.echo(
                f"{k.key}: {100 * k.share:.1f} % of the {k.currency} spend carries it,"
                f" {100 * k.share_with_inferred:.1f} % with what can be inferred;"
                f" missing {k.missing:,.2f}, invalid {k.invalid:,.2f}"
            )
        if found.offenders:
            typer.echo(f"dearest of {len(found.offenders)} resources without their tags:")
        for o in found.offenders[:top]:
            problems = "; ".join(f"{key} {problem}" for key, problem in o.problems.items())
            typer.echo(f"  {o.cost:,.2f} {o.currency}  {o.resource}  owner {o.owner}: {problems}")
    if min_compliance is not None and found.lowest_share < min_compliance:
        below = ", ".join(f"{k.key} {100 * k.share:.1f} %" for k in found.keys if k.share < min_compliance)
        typer.secho(f"below {100 * min_compliance:g} %: {below}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1)
