"""SkyPilot traces: names, values, and everything that is refused."""

import json
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.market import Pool
from simulator.market.readers.skypilot import read_skypilot

NAME = "us-east-1a_v100_1.json"


def text(data: object = (0, 1, 1), gap: object = 195, **more: object) -> bytes:
    return json.dumps({"metadata": {"gap_seconds": gap}, "data": data, **more}).encode()


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("us-east-1a_v100_1.json", Pool("aws", "us-east-1", "us-east-1a", "v100")),
        ("us-east-1b_intel_64.json", Pool("aws", "us-east-1", "us-east-1b", "intel_64")),
        ("us-west-2c_v100_8.json", Pool("aws", "us-west-2", "us-west-2c", "v100_8")),
        ("us-central1-a_c3-88.json", Pool("gcp", "us-central1", "us-central1-a", "c3-88")),
        ("ap-southeast-2b_p3.2xlarge.json", Pool("aws", "ap-southeast-2", "ap-southeast-2b", "p3.2xlarge")),
        ("us-gov-west-1a_v100_1.json", Pool("aws", "us-gov-west-1", "us-gov-west-1a", "v100")),
    ],
)
def test_the_file_name_gives_the_pool(name: str, pool: Pool) -> None:
    assert read_skypilot(Path("/x") / name, text()).pool == pool


def test_the_folder_gives_provider_and_first_day() -> None:
    trace = read_skypilot(Path("/x/aws-02-15-2023") / NAME, text())
    assert trace.start == datetime(2023, 2, 15, tzinfo=UTC)
    assert read_skypilot(Path("/x") / NAME, text()).start is None
    assert read_skypilot(Path("/x/02-15-2023") / NAME, text()).pool.provider == "aws"


def test_values_prices_and_gap() -> None:
    trace = read_skypilot(Path(NAME), text([0, 4, 1], 300, prices=[0.5, 0.25, 1]))
    assert trace.capacity.tolist() == [0, 4, 1]
    assert trace.spot_price is not None
    assert trace.spot_price.tolist() == [0.5, 0.25, 1.0]
    assert trace.span_seconds == 900
    assert read_skypilot(Path(NAME), text(gap=0.5)).gap_seconds == Fraction(1, 2)


BAD: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"hello", "not whole JSON"),
    "truncated": (text()[:-3], "not whole JSON"),
    "not text": (b"\xff\xfe\x00{", "not text"),
    "a list": (b"[]", "no SkyPilot trace"),
    "deep nesting": (b"[" * 200_000, "nested too deeply"),
    "no metadata": (b'{"data": [1]}', "no SkyPilot trace"),
    "metadata is a list": (b'{"metadata": [], "data": [1]}', "no SkyPilot trace"),
    "no gap": (b'{"metadata": {}, "data": [1]}', "gap_seconds` is None"),
    "gap 0": (text(gap=0), "gap_seconds` is 0"),
    "time runs backwards": (text(gap=-195), "time must run forward"),
    "gap NaN": (text(gap=float("nan")), "gap_seconds"),
    "gap infinite": (b'{"metadata": {"gap_seconds": 1e999}, "data": [1]}', "gap_seconds"),
    "gap is text": (text(gap="195"), "gap_seconds"),
    "gap is true": (text(gap=True), "gap_seconds"),
    "no data": (b'{"metadata": {"gap_seconds": 1}}', "`data` is missing"),
    "empty data": (text([]), "`data` is missing, empty"),
    "data is an object": (text({}), "`data` is missing, empty or no list"),
    "negative": (text([1, -1]), r"`data\[1\]` is -1"),
    "NaN": (text([float("nan")]), r"`data\[0\]` is nan"),
    "half an instance": (text([0.5]), r"`data\[0\]` is 0.5"),
    "text": (text([1, "1"]), r"`data\[1\]` is '1'"),
    "true": (text([1, True]), r"`data\[1\]` is True"),
    "nested": (text([[1]]), r"`data\[0\]` is \[1\]"),
    "null": (text([None]), r"`data\[0\]` is None"),
    "too many": (text([1_000_001]), "accepted: whole numbers from 0 to 1e"),
    "a number of 4000 digits": (text([int("9" * 4000)]), "bits"),
    "a number of 5000 digits": (b'{"metadata": {}, "data": [' + b"9" * 5000 + b"]}", "too long"),
    "fewer prices": (text([1, 1], prices=[1.0]), "1 values for 2"),
    "negative price": (text([1], prices=[-0.1]), r"`prices\[0\]` is -0.1"),
    "NaN price": (text([1], prices=[float("nan")]), r"`prices\[0\]` is nan"),
    "prices are text": (text([1], prices="1"), "`prices` is missing, empty or no list"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_content_is_refused_by_file_and_field(name: str) -> None:
    content, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        read_skypilot(Path("/x") / NAME, content)
    assert f"/x/{NAME}" in str(caught.value)
    assert "accepted" in str(caught.value)


@pytest.mark.parametrize("name", ["v100.json", "us-east-1a.json", "zone_v100.json", "us-east-1_v100_1.json"])
def test_a_name_without_zone_and_type_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="accepted: ZONE_TYPE"):
        read_skypilot(Path("/x") / name, text())


def test_a_folder_that_is_no_date_is_refused() -> None:
    with pytest.raises(InputError, match="aws-15-02-2023 is no date"):
        read_skypilot(Path("/x/aws-15-02-2023") / NAME, text())


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(data=json_values, metadata=json_values, prices=json_values)
def test_any_json_is_read_or_refused(data: Any, metadata: Any, prices: Any) -> None:
    content = json.dumps({"metadata": metadata, "data": data, "prices": prices}).encode()
    try:
        trace = read_skypilot(Path(NAME), content)
    except InputError:
        return
    assert (trace.capacity >= 0).all()
    assert trace.gap_seconds > 0
    assert trace.spot_price is not None
    assert np.isfinite(trace.spot_price).all()
