"""The ledger and workloads commands, as a user types them."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimizer.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def spotwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["spotwise", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_sample_ingest_query_derive(spotwise: Run, tmp_path: Path) -> None:
    code, out, _ = spotwise("ledger", "sample", "aws", "--days", "9", "--out", "export", "--json")
    assert code == 0
    truth: dict[str, Any] = json.loads(out)
    told = json.loads((tmp_path / "export" / "_truth.json").read_text())
    assert truth["truth"] == "export/_truth.json"
    assert {f"{b['invoice']} {b['currency']}": float(b["total"]) for b in told["billed"]} == truth["billed"]
    assert told["instance_hours"] == truth["instance_hours"]
    there = set(range(9 * 24)) - set(told["missing_hours"])
    spot = sum(w["spot"][hour] for w in told["workloads"] for hour in there)
    assert spot == truth["instance_hours"]["spot"] == sum(len(f["spot"]) for f in told["lines"].values())
    code, out, _ = spotwise("ledger", "ingest", "export", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["rejected"] == {}
    assert len(report["files"]) == len(truth["files"])
    assert {f"{b['invoice']} {b['currency']}" for b in report["bills"]} == set(truth["billed"])
    code, out, _ = spotwise("ledger", "ingest", "export")
    assert (code, out) == (0, "ledger.duckdb already holds these files; nothing to do\n")

    code, out, _ = spotwise("ledger", "query", "--by", "purchase-option", "--cost", "amortized", "--json")
    rows = {row["purchase_option"]: row for row in json.loads(out)["rows"]}
    assert {k: rows[k]["instance_hours"] for k in truth["instance_hours"]} == truth["instance_hours"]
    assert sum(row["cost"] for row in rows.values()) == pytest.approx(truth["effective"])

    code, out, _ = spotwise("ledger", "query", "--by", "month,tag:app", "--cost", "unblended", "--csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert sum(float(row["cost"]) for row in table) == pytest.approx(sum(truth["billed"].values()))
    assert {row["month"] for row in table} == {"2024-03-01 00:00:00", "2024-04-01 00:00:00"}

    code, out, _ = spotwise("ledger", "query", "--where", "tag:app=web-frontend", "--by", "hour", "--json")
    assert len(json.loads(out)["rows"]) == 9 * 24 - 3

    code, out, _ = spotwise("workloads", "derive", "--out", "w.yaml", "--json")
    assert code == 0
    assert {w["name"] for w in json.loads(out)["workloads"]} >= {"web-frontend", "untagged"}
    assert (tmp_path / "w.demand.parquet").exists()
    code, out, _ = spotwise("workloads", "derive")
    assert "Review it" in out

    code, out, _ = spotwise("ledger", "check", "--json")
    assert (code, json.loads(out)["findings"]) == (0, [])

    code, out, _ = spotwise("ledger", "sql", "SELECT count(*) AS n FROM ledger", "--json")
    assert json.loads(out)["rows"] == [{"n": report["rows"]}]


@pytest.mark.parametrize("provider", ["gcp", "azure", "focus"])
def test_samples_of_the_other_clouds(spotwise: Run, provider: str) -> None:
    assert spotwise("ledger", "sample", provider, "--days", "2", "--out", "export")[0] == 0
    code, out, _ = spotwise("ledger", "ingest", "export")
    assert code == 0
    assert "+ rejected 0.00 USD" in out


def test_check_exits_with_1_on_an_error(spotwise: Run, cur_csv: Callable[..., Path]) -> None:
    cur_csv({"line_item_availability_zone": ""}, {"line_item_usage_amount": "-1"})
    assert spotwise("ledger", "ingest", "cur.csv")[0] == 0
    code, out, _ = spotwise("ledger", "check")
    assert code == 1
    assert "error: instance-zone: 1 ×" in out
    assert "warning: negative-usage: 1 ×" in out
    code, out, _ = spotwise("ledger", "check", "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)


def test_bad_input_is_exit_code_2_without_a_traceback(
    spotwise: Run, cur_csv: Callable[..., Path], tmp_path: Path
) -> None:
    cur_csv({}, {"line_item_line_item_type": "Strange"})
    (tmp_path / "m.csv").write_text("time,workload,value\n2024-03-05T10:00,web,5\n")
    code, out, _ = spotwise("ledger", "ingest", "cur.csv")
    assert code == 0
    assert "rejected 1: unknown line item type Strange" in out
    for arguments, message in (
        (("ledger", "ingest", "nothing"), "nothing: no such file or folder"),
        (("ledger", "ingest", "cur.csv", "--format", "csv"), "format 'csv'; accepted: aws-cur"),
        (("ledger", "query", "--by", "mood"), "--by mood: no such dimension"),
        (("ledger", "query", "--cost", "blended"), "--cost blended; accepted: amortized, unblended"),
        (("ledger", "query", "--start", "soon"), "--start soon; accepted: ISO 8601"),
        (("ledger", "query", "--where", "mood=good"), "error: --where mood: no such dimension; accepted: "),
        (("ledger", "query", "--where", "day=2024-03-05"), "accepted: --start and --end for times"),
        (
            ("ledger", "query", "--start", "2024-03-02", "--end", "2024-03-01"),
            "--start 2024-03-02 00:00:00 --end 2024-03-01 00:00:00; accepted: a start before the end",
        ),
        (("ledger", "query", "--where", "app"), "--where app; accepted: DIMENSION=VALUE"),
        (("ledger", "query", "--json", "--csv"), "accepted: one of them"),
        (("ledger", "query", "--ledger", "none.duckdb"), "none.duckdb: no such ledger"),
        (("ledger", "sql", "SELEC 1"), "Parser Error"),
        (("ledger", "sql", "DELETE FROM ledger"), "read-only"),
        (("ledger", "sql", "SELECT * FROM read_csv('/etc/passwd')"), "disabled by configuration"),
        (("ledger", "sql", "ATTACH 'other.duckdb'"), "error:"),
        (("ledger", "sample", "aws", "--out", "cur.csv"), "--out cur.csv: a file; accepted: a folder"),
        (
            ("ledger", "sample", "aws", "--out", "x", "--demand", "cur.csv"),
            "accepted: the columns region_num, instance_type, usage_hour and norm_usage",
        ),
        (("ledger", "check", "--examples", "-1"), "--examples"),
        (
            ("ledger", "unit-cost", "--metric", "m.csv", "--by", "day"),
            "--by day; accepted: what names a workload",
        ),
        (("ledger", "sample", "oracle", "--out", "x"), "accepted: aws, gcp, azure, focus"),
        (("workloads", "derive", "--out", "new/w.yaml"), "new/w.yaml: no folder new; make it first"),
        (("workloads", "derive", "--by", ","), "one or more different dimensions"),
    ):
        code, _, err = spotwise(*arguments)
        assert (code, message in err) == (2, True), (arguments, err)
        assert "Traceback" not in err
    assert not (tmp_path / "new").exists()


def test_csv_output_is_no_formula_and_hostile_tags_are_only_text(
    spotwise: Run, cur_csv: Callable[..., Path]
) -> None:
    tags = [
        "=cmd|'/C calc'!A0",
        "@SUM(1)",
        "+1",
        "-1+1",
        "  =1+1",
        "\uff1d1+1",
        "\uff20SUM(1)",
        "\u3000\uff0b1",
        "'; DROP TABLE ledger; --",
        "[red]bold[/red]",
        'a"b\\c',
    ]
    cur_csv(*({"resource_tags": json.dumps({"user_app": tag})} for tag in tags))
    assert spotwise("ledger", "ingest", "cur.csv")[0] == 0
    code, out, _ = spotwise("ledger", "query", "--by", "tag:app", "--csv")
    assert code == 0
    cells = {row[0] for row in csv.reader(io.StringIO(out))}
    assert {"'" + tag for tag in tags[:8]} | set(tags[8:]) | {"tag_app"} == cells
    code, out, _ = spotwise("ledger", "query", "--by", "tag:app")
    assert "[red]bold[/red]" in out
    for tag in tags:
        code, out, _ = spotwise("ledger", "query", "--where", f"tag:app={tag}", "--by", "tag:app", "--json")
        assert [row["tag_app"] for row in json.loads(out)["rows"]] == [tag]


def test_any_value_that_sql_can_give_is_printed(spotwise: Run, cur_csv: Callable[..., Path]) -> None:
    cur_csv({})
    spotwise("ledger", "ingest", "cur.csv")
    odd = (
        "SELECT [1, 2] AS l, {'a': DATE '2024-01-01'} AS s, 'x'::BLOB AS b, INTERVAL 1 DAY AS i, 1 / 0 AS z,"
    )
    odd += " TIME '10:00' AS t, BilledCost AS c FROM ledger"
    code, out, _ = spotwise("ledger", "sql", odd, "--json")
    assert code == 0
    row = json.loads(out, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))["rows"][0]
    assert (row["l"], row["s"], row["b"], row["z"]) == ([1, 2], {"a": "2024-01-01"}, "78", None)
    assert (row["t"], row["c"]) == ("10:00:00", 0.096)
    code, out, _ = spotwise("ledger", "sql", odd, "--csv")
    cells = dict(zip(*csv.reader(io.StringIO(out)), strict=True))
    assert (code, cells["l"], cells["s"]) == (0, "[1, 2]", '{"a": "2024-01-01"}')
    code, out, _ = spotwise("ledger", "sql", odd)
    assert (code, "10:00:00" in out) == (0, True)
    code, out, _ = spotwise("ledger", "sql", "SELECT 1 AS a, 2 AS a", "--csv")
    assert (code, out.splitlines()[1]) == (0, "1,2")
