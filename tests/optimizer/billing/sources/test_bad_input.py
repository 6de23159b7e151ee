"""Damaged, strange and hostile files give a clear error, or rejected rows, and lose nothing."""

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optimizer.billing.focus import NAMES
from optimizer.billing.ingest import ingest
from optimizer.billing.ledger import Ledger
from optimizer.billing.sample import demo_scenario, write_cur, write_gcp
from simulator.errors import InputError, SpotwiseError

Rows = list[tuple[Any, ...]]
CurCsv = Callable[..., Path]


def refused(tmp_path: Path, file: Path | str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ingest([str(file)], tmp_path / "l.duckdb")
    assert Path(str(file)).name in str(caught.value)


def test_files_that_cannot_be_read_are_refused_by_name(cur_csv: CurCsv, tmp_path: Path) -> None:
    text = cur_csv(*[{} for _ in range(2000)]).read_bytes()
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(text)[:-400])
    refused(tmp_path, tmp_path / "cut.csv.gz", "damaged or truncated gzip")
    (tmp_path / "hidden.csv").write_bytes(gzip.compress(text))
    refused(tmp_path, tmp_path / "hidden.csv", "does not end in .gz")
    truth = write_cur(demo_scenario(days=2), tmp_path / "cur")
    whole = truth.files[0].read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, tmp_path / "cut.parquet", "damaged or truncated parquet")
    (tmp_path / "semicolons.csv").write_bytes(text.replace(b",", b";"))
    refused(tmp_path, tmp_path / "semicolons.csv", "separated by semicolons; accepted: commas")
    (tmp_path / "empty.csv").write_bytes(b"")
    refused(tmp_path, tmp_path / "empty.csv", "the file is empty")
    (tmp_path / "cur.zip").write_bytes(b"PK\x03\x04whatever")
    refused(tmp_path, tmp_path / "cur.zip", "a zip archive; unpack it first")
    (tmp_path / "latin.csv").write_bytes("Währung,ß\n1,2\n".encode("latin-1"))
    refused(tmp_path, tmp_path / "latin.csv", "not UTF-8 text at byte 1")
    (tmp_path / "twice.csv").write_text("cost,cost\n1,2\n")
    refused(tmp_path, tmp_path / "twice.csv", "line 1 names cost more than once")
    (tmp_path / "other.csv").write_text("a,b,c\n1,2,3\n")
    refused(tmp_path, tmp_path / "other.csv", "unknown billing format with columns a, b, c")
    (tmp_path / "broken.json").write_text("{not json\n")
    refused(tmp_path, tmp_path / "broken.json", "line 1 is not a JSON object")
    refused(tmp_path, tmp_path / "absent.csv", "no such file or folder")
    (tmp_path / "folder").mkdir()
    refused(tmp_path, tmp_path / "folder", "no export in this folder")
    with pytest.raises(InputError, match="format 'oracle'; accepted: aws-cur"):
        ingest([str(tmp_path / "cur.csv")], tmp_path / "l.duckdb", format="oracle")
    with pytest.raises(InputError, match="no billing export given"):
        ingest([], tmp_path / "l.duckdb")


def test_missing_columns_are_named(cur_csv: CurCsv, tmp_path: Path) -> None:
    path = cur_csv({})
    header, row = path.read_text().splitlines()
    header = header.replace("line_item_unblended_cost", "cost_of_it").replace(
        "bill_payer_account_id", "payer"
    )
    path.write_text(f"{header}\n{row}\n")
    refused(tmp_path, path, "missing for aws-cur: bill_payer_account_id, line_item_unblended_cost")


def test_lines_of_the_wrong_width_are_rejected_with_their_line(
    cur_csv: CurCsv, tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    path = cur_csv({}, {"line_item_line_item_type": "Odd"}, {}, {"line_item_line_item_type": "Odder"}, {})
    lines = path.read_text().splitlines()
    lines[2:2] = ["too,short"]
    lines[4:4] = ["this,one,also", lines[1] + ",one,more"]
    path.write_text("\n".join(lines) + "\n")
    report = ingest([str(path)], tmp_path / "l.duckdb")
    assert report.rows == 3
    text = ledger_rows(tmp_path / "l.duckdb", "SELECT source_row FROM rejected_rows WHERE source_line = 3")
    assert text == [("too,short",)]
    rows = ledger_rows(tmp_path / "l.duckdb", "SELECT source_line, reason FROM rejected_rows ORDER BY 1")
    assert rows == [
        (3, "the line does not have the columns of line 1"),
        (4, "unknown line item type Odd"),
        (5, "the line does not have the columns of line 1"),
        (6, "the line does not have the columns of line 1"),
        (8, "unknown line item type Odder"),
    ]
    assert ledger_rows(tmp_path / "l.duckdb", "SELECT x_SourceLine FROM ledger ORDER BY 1") == [
        (2,),
        (7,),
        (9,),
    ]


def test_a_gzipped_export_and_one_with_a_byte_order_mark_are_read(cur_csv: CurCsv, tmp_path: Path) -> None:
    text = cur_csv({}, {}).read_bytes()
    (tmp_path / "plain.csv.gz").write_bytes(gzip.compress(text))
    assert ingest([str(tmp_path / "plain.csv.gz")], tmp_path / "gz.duckdb").rows == 2
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + text)
    assert ingest([str(tmp_path / "bom.csv")], tmp_path / "bom.duckdb").rows == 2


def test_currencies_are_balanced_apart(cur_csv: CurCsv, tmp_path: Path) -> None:
    path = cur_csv({}, {"line_item_currency_code": "EUR", "line_item_unblended_cost": "5"})
    report = ingest([str(path)], tmp_path / "l.duckdb")
    assert {(b.currency, b.cost_out) for b in report.bills} == {
        ("EUR", Decimal(5)),
        ("USD", Decimal("0.096")),
    }
    assert any("several currencies (EUR, USD)" in w for w in report.warnings)


def test_hostile_text_is_only_text(cur_csv: CurCsv, tmp_path: Path, ledger_rows: Callable[..., Rows]) -> None:
    evil = "'; DROP TABLE ledger; --"
    path = cur_csv(
        {"resource_tags": '{"app": "' + evil + '"}', "line_item_resource_id": evil, "product_sku": evil},
        name="it's a 'quoted' name.csv",
    )
    ingest([str(path)], tmp_path / "l.duckdb")
    rows = ledger_rows(
        tmp_path / "l.duckdb", "SELECT Tags->>'app', ResourceId, SkuId, x_SourceFile FROM ledger"
    )
    assert rows == [(evil, evil, evil, str(path))]


def test_header_names_are_never_run_as_sql(cur_csv: CurCsv, tmp_path: Path) -> None:
    path = cur_csv({})
    header, row = path.read_text().splitlines()
    name = "resourceTags/user:x') AS y, (SELECT 1/0)--"
    path.write_text(f"{header.replace('resource_tags', chr(34) + name + chr(34))}\n{row}\n")
    assert ingest([str(path)], tmp_path / "l.duckdb").rows == 1


def test_ledgers_of_other_versions_and_other_files_are_refused(tmp_path: Path, cur_csv: CurCsv) -> None:
    path = tmp_path / "l.duckdb"
    ingest([str(cur_csv({}))], path)
    with Ledger.open(path, write=True) as ledger:
        ledger.connection.execute("UPDATE meta SET value = '3' WHERE key = 'schema_version'")
    with pytest.raises(InputError, match="ledger version 3, accepted: 2; a later Spotwise wrote it; update"):
        Ledger.open(path)
    with pytest.raises(InputError, match="a later Spotwise wrote it"):
        ingest([str(tmp_path / "cur.csv")], path)
    with pytest.raises(InputError, match=r"no such ledger; make one with: spotwise ledger ingest"):
        Ledger.open(tmp_path / "absent.duckdb")
    with duckdb.connect(str(tmp_path / "mine.duckdb")) as connection:
        connection.execute("CREATE TABLE mine (a INT)")
    with pytest.raises(InputError, match="a DuckDB file, but not a ledger"):
        Ledger.open(tmp_path / "mine.duckdb")
    (tmp_path / "text.duckdb").write_text("hello " * 2000)
    with pytest.raises(InputError, match="not a ledger"):
        Ledger.open(tmp_path / "text.duckdb")


def test_a_ledger_in_use_is_said_to_be(tmp_path: Path, cur_csv: CurCsv) -> None:
    import subprocess
    import sys

    path = tmp_path / "l.duckdb"
    ingest([str(cur_csv({}))], path)
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(SpotwiseError, match="another process has the ledger open"):
            Ledger.open(path)
        other.communicate("")


def test_damaged_pages_of_parquet_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    good = write_cur(demo_scenario(days=3), tmp_path / "good")
    ingest([str(tmp_path / "good")], tmp_path / "l.duckdb")
    data = bytearray(good.files[0].read_bytes())
    for at in range(1000, len(data) // 2, 97):
        data[at] ^= 0xFF
    (tmp_path / "bad.parquet").write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"bad\.parquet.*nothing was written|bad\.parquet: damaged"):
        ingest([str(tmp_path / "bad.parquet")], tmp_path / "l.duckdb")
    with Ledger.open(tmp_path / "l.duckdb") as ledger:
        rows = ledger.rows("SELECT sum(BilledCost), max(x_IngestId) FROM ledger")
    assert rows == [(pytest.approx(sum(good.billed.values())), 1)]


def test_text_that_is_not_utf_8_below_the_header_is_refused(cur_csv: CurCsv, tmp_path: Path) -> None:
    path = cur_csv({"line_item_line_item_description": "Stra\u00dfe"})
    path.write_bytes(path.read_bytes().decode().encode("latin-1"))
    refused(tmp_path, path, r"cur\.csv: line 2: .*; accepted: UTF-8 CSV")
    quoted = cur_csv({}, name="quotes.csv")
    quoted.write_text(quoted.read_text().replace(",i-1,", ',"i-1"x,'))
    refused(tmp_path, quoted, r"quotes\.csv: line 2: unquoted value")


def test_line_ends_of_two_kinds_are_refused_in_words(cur_csv: CurCsv, tmp_path: Path) -> None:
    path = cur_csv({"resource_tags": "none"}, {})
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines()[1] + b"\n")
    refused(tmp_path, path, r"cur\.csv: lines that end in LF beside others that end in CR LF")


def test_the_focus_view_has_the_57_columns_and_no_other(cur_csv: CurCsv, tmp_path: Path) -> None:
    ingest([str(cur_csv({}))], tmp_path / "l.duckdb")
    with Ledger.open(tmp_path / "l.duckdb") as ledger:
        assert ledger.arrow("SELECT * FROM focus").column_names == list(NAMES)


def test_odd_but_legal_csv_is_read(cur_csv: CurCsv, tmp_path: Path, ledger_rows: Callable[..., Rows]) -> None:
    path = cur_csv({"line_item_line_item_description": 'two\nlines, "quoted"'}, {})
    text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    path.write_bytes(text + b"\r\n\r\n")
    assert ingest([str(path)], tmp_path / "l.duckdb").rejected == {}
    rows = ledger_rows(tmp_path / "l.duckdb", "SELECT ChargeDescription FROM ledger ORDER BY x_SourceLine")
    assert rows == [('two\r\nlines, "quoted"',), (None,)]


def test_amounts_that_are_no_amounts_are_rejected(cur_csv: CurCsv, tmp_path: Path) -> None:
    odd = ("1e40", "NaN", "-inf", "1,5", "0x10")
    path = cur_csv({}, *({"line_item_unblended_cost": text} for text in odd))
    report = ingest([str(path)], tmp_path / "l.duckdb")
    assert report.rows == 1
    assert report.rejected == {f"line_item_unblended_cost: not a number: {text}": 1 for text in odd}


def test_a_header_without_rows_changes_nothing_and_is_said_to_be(cur_csv: CurCsv, tmp_path: Path) -> None:
    path = cur_csv({})
    ingest([str(path)], tmp_path / "l.duckdb")
    path.write_text(path.read_text().splitlines()[0] + "\n")
    report = ingest([str(path)], tmp_path / "l.duckdb")
    assert (report.rows, report.bills, report.rejected, report.replaced) == (0, (), {}, ())
    assert report.warnings == (f"{path}: a header and no row; it changes no bill",)
    with Ledger.open(tmp_path / "l.duckdb") as ledger:
        assert ledger.rows("SELECT sum(BilledCost) FROM ledger") == [(Decimal("0.096"),)]
    empty, names = tmp_path / "empty.parquet", path.read_text().strip().split(",")
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in names}), empty)
    report = ingest([str(empty)], tmp_path / "l.duckdb")
    assert report.warnings == (f"{empty}: a header and no row; it changes no bill",)


@pytest.mark.parametrize("packed", [False, True])
def test_a_text_file_that_was_cut_off_is_refused(cur_csv: CurCsv, tmp_path: Path, packed: bool) -> None:
    whole = cur_csv({}, {"line_item_line_item_description": 'a, "b"\nc'}, {}).read_bytes()
    last = whole.rstrip().rfind(b"\n") + 1
    ledger = tmp_path / "l.duckdb"
    ingest([str(tmp_path / "cur.csv")], ledger)

    def cut(size: int, end: bytes = b"") -> Path:
        path = tmp_path / ("cut.csv.gz" if packed else "cut.csv")
        text = whole[:size] + end
        path.write_bytes(gzip.compress(text) if packed else text)
        return path

    # Within the last line, within the quotes of the line before it, and with a line end behind the stump.
    for size, end in ((last + 40, b""), (last - 40, b""), (last + 200, b"\r\n"), (last + 3, b"\r\n")):
        refused(
            tmp_path, cut(size, end), r"the file was cut off in line [34], its last .*nothing was written"
        )
    # A whole last line without an end may be all there is.
    report = ingest([str(cut(len(whole.rstrip())))], ledger)
    assert report.rows == 3
    assert "its last line has no end" in report.warnings[0]


def test_lines_that_are_no_json_keep_their_text_and_say_so(
    tmp_path: Path, ledger_rows: Callable[..., Rows]
) -> None:
    truth = write_gcp(demo_scenario("gcp", days=9), tmp_path / "export", format="jsonl")
    path = truth.files[0]
    lines = path.read_text().splitlines()
    odd = json.loads(lines[4]) | {"usage": "much", "credits": {"amount": "-1"}}
    lines[2:2] = ["", '{"billing_account_id": "broken', "[1, 2]", json.dumps(odd)]
    path.write_text("\n".join(lines) + "\n")
    report = ingest([str(path)], tmp_path / "l.duckdb")
    rows = ledger_rows(
        tmp_path / "l.duckdb", "SELECT source_line, reason, source_row FROM rejected_rows ORDER BY 1"
    )
    assert rows[:2] == [
        (4, "the line is not JSON", '{"billing_account_id": "broken'),
        (5, "the line is no JSON object", "[1, 2]"),
    ]
    line, reason, text = rows[2]
    assert (line, reason) == (6, "usage: not a JSON object; credits: not a JSON array")
    assert json.loads(text)["sku_id"] == odd["sku"]["id"]
    assert len(rows) == 3
    # What an odd line costs is known, and counts as rejected.
    assert sum(b.cost_rejected for b in report.bills) == Decimal(str(odd["cost"]))
    last = ledger_rows(tmp_path / "l.duckdb", "SELECT max(x_SourceLine) FROM ledger")
    assert last == [(len(lines),)]
    path.write_text("\n".join(lines)[:-40])
    refused(tmp_path, path, f"the file was cut off in line {len(lines)}, its last")


def test_columns_of_a_type_that_no_export_has_are_named(tmp_path: Path) -> None:
    whole = pq.read_table(write_cur(demo_scenario(days=2), tmp_path / "cur").files[0])
    path = tmp_path / "odd.parquet"

    def with_column(name: str, value: Any) -> Path:
        values = pa.array([value] * whole.num_rows)
        pq.write_table(whole.set_column(whole.column_names.index(name), name, values), path)
        return path

    for name, value, message in (
        (
            "resource_tags",
            ["a"],
            r"resource_tags is VARCHAR\[\]; accepted: a map, a struct, a list of structs with",
        ),
        ("line_item_unblended_cost", [1.0], r"line_item_unblended_cost is DOUBLE\[\]; accepted: a number"),
        (
            "line_item_line_item_type",
            {"a": "Usage"},
            "line_item_line_item_type is STRUCT.*; accepted: a text",
        ),
    ):
        refused(tmp_path, with_column(name, value), f"column {message}")
    report = ingest([str(with_column("line_item_usage_start_date", 17))], tmp_path / "l.duckdb")
    assert report.rows == 0
    assert report.rejected == {"line_item_usage_start_date: not a time: 17": whole.num_rows}


def test_a_lacking_column_that_tells_the_format_is_named(cur_csv: CurCsv, tmp_path: Path) -> None:
    path = cur_csv({})
    path.write_text(path.read_text().replace("line_item_usage_start_date", "began"))
    refused(tmp_path, path, "columns missing for aws-cur, which it looks like: line_item_usage_start_date")
