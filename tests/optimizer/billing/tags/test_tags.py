"""Tag governance: the policy, the spend, the gate for pull requests."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimizer.billing.ingest import ingest
from optimizer.billing.ledger import Ledger
from optimizer.billing.sample import demo_scenario, write_cur
from optimizer.billing.tags import TagPolicy, check_plan, check_spend, load_policy
from optimizer.billing.tags.policy import Resource, judge
from optimizer.cli import main
from optimizer.presets import presets_dir
from simulator.errors import InputError

POLICY = presets_dir() / "tags.yaml"


def planned(
    kind: str, name: str, after: dict[str, Any], *, actions: tuple[str, ...] = ("create",), **unknown: Any
) -> dict[str, Any]:
    return {
        "address": f"module.x.{kind}.{name}",
        "type": kind,
        "change": {"actions": list(actions), "after": after, "after_unknown": unknown},
    }


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Path]:
    def write(*changes: dict[str, Any]) -> Path:
        path = tmp_path / "plan.json"
        path.write_text(json.dumps({"format_version": "1.2", "resource_changes": list(changes)}))
        return path

    return write


GOOD = {"Owner": "team-web", "Environment": "prod", "ProjectID": "P-1"}


def test_instances_and_buckets_must_carry_owner_environment_and_project(plan: Callable[..., Path]) -> None:
    path = plan(
        planned("aws_instance", "good", {"tags": GOOD}),
        planned("aws_instance", "bare", {"tags": None}),
        planned("aws_s3_bucket", "logs", {"tags": {"Owner": "a", "Environment": "moon", "ProjectID": "P"}}),
        planned("aws_s3_bucket", "near", {"tags": {"owner": "a", "Environment": "dev", "ProjectID": "P"}}),
        planned("aws_sqs_queue", "free", {"tags": {}}),
        planned("aws_instance", "gone", {"tags": {}}, actions=("delete",)),
        planned("aws_instance", "same", {"tags": {}}, actions=("no-op",)),
    )
    judged, violations = check_plan(path, load_policy(POLICY))
    assert judged == 4
    assert [(v.address, v.key, v.problem) for v in violations] == [
        ("module.x.aws_instance.bare", "Owner", "missing"),
        ("module.x.aws_instance.bare", "Environment", "missing"),
        ("module.x.aws_instance.bare", "ProjectID", "missing"),
        (
            "module.x.aws_s3_bucket.logs",
            "Environment",
            "'moon' is not one of prod, production, staging, stage, test, qa, dev, development, sandbox",
        ),
        ("module.x.aws_s3_bucket.near", "Owner", "missing; it has 'owner', wanted is 'Owner'"),
    ]


def test_default_tags_unknown_values_labels_and_blocks_count(plan: Callable[..., Path]) -> None:
    unknown = {"Owner": True}
    blocks = [{"key": k, "value": v, "propagate_at_launch": True} for k, v in GOOD.items()]
    labels = {"owner": "web", "environment": "prod", "projectid": "p"}
    path = plan(
        planned("aws_instance", "defaults", {"tags": {}, "tags_all": GOOD}),
        planned(
            "aws_instance", "later", {"tags": {k: v for k, v in GOOD.items() if k != "Owner"}}, tags=unknown
        ),
        planned("aws_instance", "hidden", {}, tags=True),
        planned("aws_autoscaling_group", "group", {"tag": blocks}),
        planned("google_compute_instance", "vm", {"labels": labels}),
        planned("aws_instance", "changed", {"tags": GOOD}, actions=("delete", "create")),
    )
    assert check_plan(path, load_policy(POLICY)) == (6, ())


@pytest.mark.parametrize(
    "kind",
    [
        "aws_instance",
        "aws_spot_instance_request",
        "google_compute_instance",
        "google_compute_instance_template",
        "azurerm_linux_virtual_machine",
        "azurerm_windows_virtual_machine",
        "azurerm_linux_virtual_machine_scale_set",
        "azurerm_windows_virtual_machine_scale_set",
        "azurerm_orchestrated_virtual_machine_scale_set",
        "aws_launch_template",
        "aws_autoscaling_group",
    ],
)
def test_whatever_makes_instances_is_judged_and_blank_tags_are_none(
    kind: str, plan: Callable[..., Path]
) -> None:
    def with_tags(tags: dict[str, str]) -> dict[str, Any]:
        if kind == "aws_launch_template":
            return {"tag_specifications": [{"resource_type": "instance", "tags": tags}]}
        if kind == "aws_autoscaling_group":
            return {"tag": [{"key": k, "value": v, "propagate_at_launch": True} for k, v in tags.items()]}
        if kind.startswith("google"):
            return {"labels": {k.lower(): v.lower() for k, v in tags.items()}}
        return {"tags": tags}

    rules = load_policy(POLICY)
    assert check_plan(plan(planned(kind, "good", with_tags(GOOD))), rules) == (1, ())
    judged, violations = check_plan(plan(planned(kind, "bare", {})), rules)
    assert (judged, [v.key for v in violations]) == (1, ["Owner", "Environment", "ProjectID"])
    blank = with_tags(GOOD | {"ProjectID": " \t"})
    (violation,) = check_plan(plan(planned(kind, "blank", blank)), rules)[1]
    assert violation.key == "ProjectID"
    assert violation.problem.startswith("missing")


def test_only_tags_that_reach_instances_count(plan: Callable[..., Path]) -> None:
    kept = [{"key": k, "value": v, "propagate_at_launch": False} for k, v in GOOD.items()]
    volume = [{"resource_type": "volume", "tags": GOOD}]
    path = plan(
        planned("aws_launch_template", "own", {"tags": GOOD}),
        planned("aws_launch_template", "disks", {"tags": GOOD, "tag_specifications": volume}),
        planned("aws_autoscaling_group", "kept", {"tag": kept}),
    )
    judged, violations = check_plan(path, load_policy(POLICY))
    assert judged == 3
    assert len(violations) == 9
    assert "the template's own tags do not reach instances" in violations[0].problem
    assert "propagate_at_launch" in violations[-1].problem
    instance = [{"resource_type": "instance", "tags": {"Environment": "prod", "ProjectID": "p"}}]
    later = planned(
        "aws_launch_template",
        "later",
        {"tag_specifications": instance},
        tag_specifications=[{"tags": {"Owner": True}}],
    )
    hidden = planned("aws_launch_template", "hidden", {}, tag_specifications=True)
    assert check_plan(plan(later, hidden), load_policy(POLICY)) == (2, ())


def test_what_is_no_plan_is_refused(tmp_path: Path) -> None:
    for text, message in (
        ("{", "not JSON"),
        ("[]", "no list resource_changes"),
        ('{"resource_changes": 1}', "no list resource_changes"),
        ('{"resource_changes": [1]}', r"resource_changes\[0\]: not an object"),
        ('{"resource_changes": [{"type": "aws_instance"}]}', "no address; a malformed plan"),
        ('{"resource_changes": [{"address": "a.b"}]}', "no type; a malformed plan"),
        (
            '{"resource_changes": [{"address": "aws_instance.b", "type": "aws_instance"}]}',
            r"resource_changes\[0\] \(aws_instance\.b\): no change; a malformed plan; accepted: ",
        ),
        (
            '{"resource_changes": [{"address": "a.b", "type": "aws_instance", "change": {}}]}',
            "no list change.actions; a malformed plan",
        ),
        (
            '{"resource_changes": [{"address": "a.b", "type": "aws_instance", "change":'
            ' {"actions": ["create"], "after": [1]}}]}',
            "change.after is no object",
        ),
    ):
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(InputError, match=message):
            check_plan(tmp_path / "p.json", load_policy(POLICY))
    with pytest.raises(InputError, match="No such file"):
        check_plan(tmp_path / "absent.json", load_policy(POLICY))


def test_compliance_is_weighted_by_spend(tmp_path: Path) -> None:
    write_cur(demo_scenario(days=3), tmp_path / "export")
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    with Ledger.open(tmp_path / "l.duckdb") as ledger:
        found = check_spend(ledger, load_policy(POLICY))
        spend = "sum(EffectiveCost)::DOUBLE FROM ledger WHERE ResourceType = 'instance'"
        total = ledger.rows(f"SELECT {spend}")[0][0]
        tagged = ledger.rows(f"SELECT {spend} AND Tags->>'Owner' IS NOT NULL")[0][0]
        everything = ledger.rows("SELECT sum(EffectiveCost)::DOUBLE FROM ledger")[0][0]
        dearest = ledger.rows(
            f"SELECT ResourceId, {spend} AND Tags->>'Owner' IS NULL GROUP BY 1 ORDER BY 2 DESC LIMIT 1"
        )[0]
    keys = {k.key: k for k in found.keys}
    assert keys["Owner"].share == pytest.approx(tagged / total)
    assert keys["Owner"].valid + keys["Owner"].missing == pytest.approx(total)
    # Nothing of the sample carries ProjectID.
    assert keys["ProjectID"].share == 0.0
    assert found.lowest_share == 0.0
    assert found.taggable["USD"] + found.untaggable["USD"] == pytest.approx(everything)
    # All lack ProjectID; the dearest without an owner is the untagged machine.
    ownerless = next(o for o in found.offenders if "Owner" in o.problems)
    assert ownerless.cost == pytest.approx(dearest[1])
    assert ownerless.owner == "account 3333"
    assert [o.cost for o in found.offenders] == sorted((o.cost for o in found.offenders), reverse=True)


def test_tags_are_inferred_in_order() -> None:
    policy = TagPolicy.model_validate(
        {
            "version": 1,
            "mandatory": [{"key": "Owner", "aliases": ["team"]}, {"key": "Env", "allowed": ["prod", "dev"]}],
            "inferred": [
                {"key": "Owner", "from": "account", "values": {"1": "web"}},
                {"key": "Owner", "from": "tag:cost-centre", "pattern": "cc-(.*)"},
                {"key": "Env", "from": "name", "pattern": ".*-(prod|qa)-.*"},
            ],
        }
    )
    owner, env = policy.mandatory
    assert judge(policy, owner, Resource({"Owner": "a", "team": "b"}, account="1")) == ("valid", "a")
    assert judge(policy, owner, Resource({"team": "b"}, account="1")) == ("inferred", "b")
    assert judge(policy, owner, Resource({}, account="1")) == ("inferred", "web")
    assert judge(policy, owner, Resource({"cost-centre": "cc-7"}, account="2")) == ("inferred", "7")
    assert judge(policy, owner, Resource({}, account="2")) == ("missing", None)
    assert judge(policy, owner, Resource({"Owner": " ", "team": "\t"}, account="2")) == ("missing", None)
    assert judge(policy, env, Resource({"Env": "live"})) == ("invalid", "live")
    assert judge(policy, env, Resource({}, name="web-prod-1")) == ("inferred", "prod")
    # An inferred value must be an allowed one.
    assert judge(policy, env, Resource({}, name="web-qa-1")) == ("missing", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1", "mandatory: Field required"),
        ("version: 2\nmandatory: [{key: a}]", "version: Input should be 1"),
        (
            "version: 1\nmandatory: [{key: a, pattern: '('}]",
            r"mandatory\.0\.pattern: .*not a regular expression",
        ),
        ("version: 1\nmandatory: [{key: a, kinds: [boat]}]", "no kind boat under kinds"),
        ("version: 1\nmandatory: [{key: a, colour: red}]", r"mandatory\.0\.colour: Extra inputs"),
        ("version: 1\nmandatory: [{key: a}]\ninferred: [{key: a, from: moon}]", r"inferred\.0\.from"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_field(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tags.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_policy(path)


def test_the_commands(
    tmp_path: Path,
    plan: Callable[..., Path],
    cur_csv: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["spotwise", "tags", "check", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    bad = plan(planned("aws_instance", "bare", {}))
    code, out, _ = run("--terraform-plan", str(bad))
    assert code == 1
    assert "module.x.aws_instance.bare: Owner: missing" in out
    code, out, _ = run("--terraform-plan", str(bad), "--json")
    assert (code, len(json.loads(out)["violations"])) == (1, 3)
    assert run("--terraform-plan", str(plan(planned("aws_instance", "ok", {"tags": GOOD}))))[0] == 0

    tags = json.dumps({f"user_{k}": v for k, v in GOOD.items()})
    ingest(
        [str(cur_csv({"resource_tags": tags}, {"line_item_resource_id": "i-2"}))], tmp_path / "ledger.duckdb"
    )
    code, out, _ = run("--ledger", "ledger.duckdb", "--json")
    report = json.loads(out)
    assert code == 0
    assert {k["key"]: k["compliance"] for k in report["keys"]} == dict.fromkeys(GOOD, 0.5)
    assert [o["resource"] for o in report["offenders"]] == ["i-2"]
    code, out, err = run("--ledger", "ledger.duckdb", "--min-compliance", "0.9")
    assert code == 1
    assert "below 90 %: Environment 50.0 %, Owner 50.0 %, ProjectID 50.0 %" in err
    assert "Owner: 50.0 % of the USD spend carries it" in out
    assert run("--ledger", "ledger.duckdb", "--min-compliance", "0.5")[0] == 0
    code, _, err = run("--ledger", "ledger.duckdb", "--min-compliance", "95")
    assert (code, "accepted: a share, 0 to 1; for 95 % give 0.95" in err) == (2, True)
    assert run("--ledger", "ledger.duckdb", "--min-compliance", "-1")[0] == 2
    assert run("--ledger", "ledger.duckdb", "--min-compliance", "nan")[0] == 2
    assert run("--terraform-plan", str(bad), "--min-compliance", "0.5")[0] == 2
    assert run()[0] == 2
    assert run("--ledger", "x", "--terraform-plan", "y")[0] == 2
