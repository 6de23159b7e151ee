"""Tags are found in JSON text whatever keys and values are made of."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.billing.dimensions import column_name, parse, tag
from optimizer.billing.ingest import ingest
from simulator.errors import InputError

TABLE = ibis.table({"Tags": "string"}, name="t")
# No control characters: JSON escapes those, and no cloud allows them in tags.
text = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


@settings(max_examples=40)
@given(st.dictionaries(text, text, max_size=4), text)
def test_a_tag_is_what_json_says(tags: dict[str, str], other: str) -> None:
    keys = list(dict.fromkeys([*tags, other]))
    found = {f"c{place}": tag(TABLE, key) for place, key in enumerate(keys)}
    sql = str(ibis.to_sql(TABLE.select(**found), dialect="duckdb"))
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT ?::VARCHAR AS Tags", [json.dumps(tags, ensure_ascii=False)]
        )
        assert connection.execute(sql).fetchall() == [tuple(tags.get(key) for key in keys)]


def test_escaped_letters_doubled_keys_and_numbers(
    cur_csv: Callable[..., Path], tmp_path: Path, ledger_rows: Callable[..., list[tuple[Any, ...]]]
) -> None:
    path = cur_csv(
        {"resource_tags": '{"user_app": "caf\\u00e9", "user_n": 5}'},
        {"resource_tags": '{"user_app": "a", "user_app": "b"}'},
        {"resource_tags": '{"user_app": "a\\/b"}'},
        {"resource_tags": '{"note": "x,", "user_app": "user_y"}'},
    )
    ingest([str(path)], tmp_path / "l.duckdb")
    found = ledger_rows(tmp_path / "l.duckdb", "SELECT Tags FROM ledger ORDER BY x_SourceLine")
    assert [tags for (tags,) in found] == [
        '{"app":"caf\u00e9","n":"5"}',
        '{"app":"a","app":"b"}',
        '{"app":"a/b"}',
        '{"note":"x,","app":"user_y"}',
    ]


def test_dimensions_are_parsed() -> None:
    assert parse("tag:app, account,region") == ("tag:app", "account", "region")
    assert column_name("tag:kubernetes.io/name") == "tag_kubernetes_io_name"
    for wrong in ("", ",", "account,account", "tag:a-b,tag:a_b", "tag:App,tag:app"):
        with pytest.raises(InputError, match="one or more different dimensions"):
            parse(wrong)
