"""Shared cost goes to who used it, and not a cent more or less."""

import json
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from optimizer.billing.allocation import allocate, load_rules
from optimizer.billing.allocation.kubernetes import Node, _shares, _Used
from optimizer.billing.allocation.rules import Bucket, Kubernetes
from optimizer.billing.allocation.shares import proportional
from optimizer.billing.ingest import ingest
from optimizer.billing.ledger import Ledger
from optimizer.billing.sample import demo_scenario, write_cur
from optimizer.cli import main
from simulator.errors import InputError

Rows = list[tuple[Any, ...]]
GIB = 2**30


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger with a fleet, commitments that are partly unused, and a volume that nobody attached."""
    write_cur(demo_scenario(days=9), tmp_path / "export")
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    return tmp_path / "l.duckdb"


def write_rules(folder: Path, *rules: dict[str, Any]) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "rules": list(rules)}))
    return path


def pod(
    namespace: str, node: str, cores: tuple[float, float], gib: tuple[float, float], **labels: str
) -> dict[str, Any]:
    return {
        "properties": {"namespace": namespace, "pod": f"{namespace}-1", "node": node, "labels": labels},
        "minutes": 60,
        "cpuCoreRequestAverage": cores[0],
        "cpuCoreUsageAverage": cores[1],
        "ramByteRequestAverage": gib[0] * GIB,
        "ramByteUsageAverage": gib[1] * GIB,
    }


def opencost(path: Path, hours: int, start: datetime, *pods: dict[str, Any]) -> None:
    windows = []
    for hour in range(hours):
        begin = start + timedelta(hours=hour)
        window = {"start": f"{begin.isoformat()}Z", "end": f"{(begin + timedelta(hours=1)).isoformat()}Z"}
        named = {f"pod-{n}": p | {"window": window} for n, p in enumerate(pods)}
        windows.append(named | {"__idle__": {"anything": "of its own"}})
    path.write_text(json.dumps({"code": 200, "data": windows}))


IDLE = {"bucket": "idle-kubernetes", "team": "platform"}


def test_a_node_is_split_by_the_larger_of_request_and_usage(
    ledger: Path, tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    node = ledger_rows(
        ledger,
        "SELECT ResourceId, count(*), sum(EffectiveCost) FROM ledger WHERE x_InstanceType = 'm5.large' AND"
        " PricingCategory = 'Standard' GROUP BY 1 ORDER BY 2 DESC LIMIT 1",
    )[0]
    start = datetime(2024, 3, 25)
    # Half of the CPU by request, a quarter of the memory by usage; the rest of the node idles.
    opencost(
        tmp_path / "alloc.json",
        9 * 24,
        start,
        pod("shop", "n1", (1.0, 0.2), (1.0, 2.0), app="cart"),
        pod("batch", "n1", (0.0, 0.5), (0.0, 0.0)),
    )
    (tmp_path / "nodes.csv").write_text(
        f"node,provider_id,cores,memory_gib\nn1,aws:///us-east-1a/{node[0]},2,8\n"
    )
    rule = {
        "name": "cluster",
        "method": "kubernetes",
        "allocation": "alloc.json",
        "nodes": "nodes.csv",
        "idle": IDLE,
        "core_hour_weight": 3.0,
        "gib_hour_weight": 0.25,
    }
    report = allocate(ledger, write_rules(tmp_path, rule))
    assert report.rows == node[1]
    cost = float(node[2])
    found = {a.target: float(a.cost) / cost for a in report.allocated}
    # CPU is 6 of 8 parts of the node, memory 2 of 8.
    assert found == pytest.approx(
        {"shop": 0.75 * 0.5 + 0.25 * 0.25, "batch": 0.75 * 0.25, "idle-kubernetes": 0.75 * 0.25 + 0.25 * 0.75}
    )
    assert {a.target: a.team for a in report.allocated} == {
        "shop": None,
        "batch": None,
        "idle-kubernetes": "platform",
    }
    by_label = write_rules(tmp_path, rule | {"by": "label:app"})
    assert {a.target for a in allocate(ledger, by_label).allocated} == {"cart", "(no app)", "idle-kubernetes"}


def test_every_method_conserves_cost_and_writes_the_focus_columns(
    ledger: Path, tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    (tmp_path / "usage.csv").write_text(
        "tenant,start,end,queries\na,2024-03-25,2024-03-28,10\nb,2024-03-25,2024-03-28,30\n"
        "a,2024-03-28,,1\nc,2024-03-28,,2\n"
    )
    rules = write_rules(
        tmp_path,
        {
            "name": "unused",
            "method": "waste",
            "select": {"commitment-status": "Unused"},
            "bucket": "unused",
            "team": "finops",
        },
        {
            "name": "volumes",
            "method": "waste",
            "select": {"service": "Amazon Elastic Compute Cloud"},
            "resources": ["vol-0synthetic0unattached"],
            "bucket": "unattached volumes",
            "team": "storage",
        },
        {
            "name": "db",
            "method": "proportional",
            "select": {"tag:app": "search-api"},
            "usage": "usage.csv",
            "value": "queries",
        },
        {"name": "tax", "method": "even", "select": {"charge-category": "Tax"}, "targets": ["a", "b", "c"]},
        {"name": "legacy", "method": "fixed", "select": {"tag:app": "legacy-vm"}, "shares": {"a": 1.0}},
        {
            "name": "web",
            "method": "fixed",
            "select": {"tag:app": "web-frontend"},
            "shares": {"a": 0.7, "b": 0.3},
        },
    )
    report = allocate(ledger, rules)
    assert report.untouched == ("legacy",)
    for column in ("BilledCost", "EffectiveCost", "ListCost", "x_InstanceHours"):
        both = ledger_rows(
            ledger, f"SELECT sum({column}), (SELECT sum({column}) FROM allocated_ledger) FROM ledger"
        )[0]
        assert abs(both[0] - both[1]) < Decimal("0.000001")
    ratios = ledger_rows(
        ledger,
        "SELECT max(abs(total - 1)) FROM (SELECT sum(ratio) AS total FROM allocations GROUP BY row_id)",
    )
    assert ratios[0][0] <= 1e-9
    spent = {(a.rule, a.target): a.cost for a in report.allocated}
    unused = ledger_rows(
        ledger, "SELECT sum(EffectiveCost) FROM ledger WHERE CommitmentDiscountStatus = 'Unused'"
    )[0][0]
    assert abs(spent["unused", "unused"] - unused) < Decimal("1e-9")
    assert next(a.team for a in report.allocated if a.rule == "volumes") == "storage"
    first, later = (
        ledger_rows(
            ledger, f"SELECT sum(EffectiveCost) FROM ledger WHERE Tags->>'app' = 'search-api' AND {condition}"
        )[0][0]
        for condition in ("ChargePeriodStart < '2024-03-28'", "ChargePeriodStart >= '2024-03-28'")
    )
    assert float(spent["db", "a"]) == pytest.approx(float(first) / 4 + float(later) / 3)
    assert float(spent["web", "a"] / spent["web", "b"]) == pytest.approx(7 / 3)
    row = ledger_rows(
        ledger,
        "SELECT AllocatedMethodId, AllocatedMethodDetails, AllocatedResourceId, AllocatedResourceName FROM"
        " allocated_ledger WHERE AllocatedMethodId LIKE '%:db' AND AllocatedResourceName = 'b' LIMIT 1",
    )[0]
    assert row[0] == "spotwise:proportional:db"
    assert json.loads(row[1]) == {
        "Elements": [{"AllocatedRatio": 0.75, "UsageUnit": "queries", "UsageQuantity": 30.0}]
    }
    assert row[2:] == ("b", "b")
    # The same rules again change nothing; a new bill drops them.
    assert allocate(ledger, rules) == report
    write_cur(demo_scenario(days=9, seed=4), tmp_path / "again")
    ingest([str(tmp_path / "again")], ledger)
    assert ledger_rows(ledger, "SELECT count(*) FROM allocations") == [(0,)]


@given(
    st.floats(0.5, 64),
    st.floats(0.5, 512),
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 900)), min_size=0, max_size=20),
)
def test_node_shares_sum_to_one(cores: float, memory: float, used: list[tuple[float, float]]) -> None:
    rule = Kubernetes(
        name="k", method="kubernetes", allocation="a", nodes="n", idle=Bucket(bucket="idle", team="t")
    )
    targets = {f"t{n}": _Used(c, m) for n, (c, m) in enumerate(used)}
    shares = _shares(rule, Node("i-1", cores, memory), 1.0, targets)
    assert sum(s.ratio for s in shares) == pytest.approx(1.0, abs=1e-9)
    assert all(0 < s.ratio <= 1 + 1e-12 for s in shares)


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1e12), min_size=1, max_size=30))
def test_proportional_shares_sum_to_one(amounts: dict[str, float]) -> None:
    if sum(amounts.values()) <= 0:
        with pytest.raises(ValueError, match="nothing was used"):
            proportional(amounts, "x")
        return
    assert sum(s.ratio for s in proportional(amounts, "x")) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"method": "fixed", "select": {"service": "x"}, "shares": {"a": 0.5, "b": 0.4}},
            "the shares sum to 0.9, not to 1",
        ),
        ({"method": "even", "select": {"service": "x"}, "targets": ["a", "a"]}, "a target is there twice"),
        ({"method": "magic"}, "does not match any of the expected tags"),
        ({"method": "even", "select": {}, "targets": ["a"]}, "select: Dictionary should have at least 1"),
        (
            {"method": "even", "select": {"service": "x"}, "targets": ["a"], "colour": 1},
            "colour: Extra inputs",
        ),
    ],
)
def test_wrong_rules_are_refused_with_the_field(rule: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_rules(write_rules(tmp_path, {"name": "r"} | rule))


def test_wrong_usage_is_refused(ledger: Path, tmp_path: Path) -> None:
    rule = {
        "name": "db",
        "method": "proportional",
        "select": {"service": "x"},
        "usage": "u.csv",
        "value": "bytes",
    }
    rules = write_rules(tmp_path, rule)
    for text, message in (
        ("tenant,queries\na,1\n", r"u\.csv: columns missing: bytes"),
        ("tenant,bytes\na,-1\n", "line 2: bytes of -1; accepted: 0 or more"),
        ("tenant,bytes\na,many\n", "line 2: could not convert"),
        ("tenant,bytes\na,0\n", "nothing was used"),
        ("tenant,bytes\n", "no usage"),
        ("tenant,bytes\na,1,2\n", "line 2 does not have the columns of line 1"),
    ):
        (tmp_path / "u.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            allocate(ledger, rules)
    (tmp_path / "u.csv").write_text("tenant,start,end,bytes\na,2024-03-25,2024-03-30,1\na,2024-03-26,,1\n")
    overlapping = write_rules(tmp_path, rule | {"select": {"tag:app": "web-frontend"}})
    with pytest.raises(
        InputError, match=r"rule db: the shares of .* rows sum to 2; accepted: stretches of time"
    ):
        allocate(ledger, overlapping)
    with Ledger.open(ledger) as opened:
        assert opened.rows("SELECT count(*) FROM allocations") == [(0,)]


def test_wrong_kubernetes_data_is_refused(ledger: Path, tmp_path: Path) -> None:
    rule = {"name": "k", "method": "kubernetes", "allocation": "a.json", "nodes": "n.csv", "idle": IDLE}
    rules = write_rules(tmp_path, rule)
    (tmp_path / "n.csv").write_text("node,provider_id,cores,memory_gib\nn1,i-1,2,8\n")
    window = {"start": "2024-03-25T00:00:00Z", "end": "2024-03-25T01:00:00Z"}
    good = pod("a", "n1", (1, 1), (1, 1)) | {"window": window}
    for data, message in (
        ({"data": [{"p": good | {"minutes": "x"}}]}, "p: ValueError"),
        ({"data": [{"p": good | {"minutes": -5}}]}, "p: a negative amount"),
        ({"data": [{"p": {"properties": {}}}]}, "p: KeyError"),
        ({"data": [{"p": pod("a", "n9", (1, 1), (1, 1)) | {"window": window}}]}, "node n9 is not in"),
        ({"nothing": 1}, "no list data"),
        ({"data": [7]}, "data has 7; accepted"),
        ({"code": 200, "data": []}, "no allocation in it; accepted: what OpenCost's allocation API returns"),
        ({"code": 200, "data": [None, {}, {"__idle__": good}]}, "no allocation in it"),
        (
            {"data": [{"shop": good | {"properties": {"namespace": "shop"}}}]},
            r"shop names no node.*is it per namespace\? accepted: .* per pod and node",
        ),
    ):
        (tmp_path / "a.json").write_text(json.dumps(data))
        with pytest.raises(InputError, match=message):
            allocate(ledger, rules)
    (tmp_path / "n.csv").write_text("node,provider_id,cores,memory_gib\nn1,i-1,0,8\n")
    with pytest.raises(InputError, match="line 2: 0 cores, 8 GiB; accepted: more than 0"):
        allocate(ledger, rules)


def test_csv_of_opencost_is_the_same_as_json(ledger: Path, tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("node,provider_id,cores,memory_gib\nn1,i-1,2,8\n")
    opencost(tmp_path / "a.json", 1, datetime(2024, 3, 25), pod("a", "n1", (1, 0.5), (1, 2), app="x"))
    (tmp_path / "a.csv").write_text(
        "namespace,pod,node,start,end,minutes,cpuCoreRequestAverage,cpuCoreUsageAverage,ramByteRequestAverage,"
        "ramByteUsageAverage,label:app\n"
        f"a,a-1,n1,2024-03-25T00:00:00Z,2024-03-25T01:00:00Z,60,1,0.5,{GIB},{2 * GIB},x\n"
    )
    from optimizer.billing.allocation.kubernetes import read_allocation

    assert read_allocation(tmp_path / "a.csv") == read_allocation(tmp_path / "a.json")


def test_the_commands(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = write_rules(
        tmp_path,
        {
            "name": "unused",
            "method": "waste",
            "select": {"commitment-status": "Unused"},
            "bucket": "waste",
            "team": "finops",
        },
    )

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["spotwise", "ledger", *arguments, "--ledger", str(ledger)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        return capsys.readouterr().out

    assert "unused: waste (can act: finops):" in run("allocate", "--rules", str(rules))
    rows = json.loads(run("query", "--allocated", "--by", "allocated-to", "--json"))["rows"]
    assert {row["allocated_to"] for row in rows} == {"waste", "(none)"}
    assert json.loads(run("allocate", "--rules", str(rules), "--json"))["allocated"][0]["team"] == "finops"
