"""Demand from files: formats, clocks, selection, and what is refused with the line that is wrong."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.service.demand import market_for_demand, read_demand

HOURLY = "time,demand\n2024-01-01 00:00,2\n2024-01-01 01:00,5\n2024-01-01 02:00,0\n"


def written(folder: Path, content: str | bytes, name: str = "demand.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        HOURLY,
        HOURLY.replace(",", "\t"),
        HOURLY.replace("time,demand", "Timestamp,Value") + "\n\n",
        "demand,when\n2,0\n5,3600\n0,7200\n",
        gzip.compress(HOURLY.encode(), mtime=0),  # the same name in every process
        "time,demand\n2024-01-01 02:00,0\n2024-01-01 00:00,2\n2024-01-01 01:00,5\n",
        json.dumps([{"time": f"2024-01-01T0{hour}:00Z", "demand": n} for hour, n in enumerate([2, 5, 0])]),
        json.dumps({"time": [1704067200, 1704070800, 1704074400], "demand": [2, 5, 0]}),
    ],
)
def test_every_format_gives_the_same_ticks(tmp_path: Path, content: str | bytes) -> None:
    time_column = "when" if isinstance(content, str) and "when" in content else None
    series = read_demand(written(tmp_path, content), 1800, time_column=time_column)
    assert series.demand.tolist() == [2, 2, 5, 5, 0, 0]
    assert series.step_seconds == 3600
    assert series.start == (None if time_column else datetime(2024, 1, 1, tzinfo=UTC))


def test_parquet_with_times_and_decimals(tmp_path: Path) -> None:
    times = pd.date_range("2024-01-01", periods=4, freq="30min", tz="UTC")
    path = tmp_path / "demand.parquet"
    pd.DataFrame({"usage": [1.0, 2.0, 3.0, 4.0], "hour": times}).to_parquet(path)
    assert read_demand(path, 3600).demand.tolist() == [2, 4]


@pytest.mark.parametrize("content", ["3\n4\n5\n", "[3, 4, 5]", "instances\n3\n4\n5"])
def test_values_alone_are_one_per_tick_or_per_given_step(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, content)
    assert read_demand(path, 30).demand.tolist() == [3, 4, 5]
    assert read_demand(path, 30, step_seconds=60).demand.tolist() == [3, 3, 4, 4, 5, 5]
    assert read_demand(path, 30, step_seconds=60).start is None


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 20), st.integers(1, 20))
def test_each_tick_is_covered_by_the_steps_it_lies_in(values: list[int], step: int, tick: int) -> None:
    import tempfile  # hypothesis shares function-scoped fixtures between examples

    if len(values) * step < tick:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), json.dumps(values), "demand.json")
        demand = read_demand(path, tick, step_seconds=step).demand
    assert len(demand) == len(values) * step // tick
    for k, need in enumerate(demand):
        seconds = [values[second // step] for second in range(k * tick, (k + 1) * tick)]
        assert need == (max(seconds) if tick > step else seconds[0])


def test_fractions_are_rounded_up_only_on_request(tmp_path: Path) -> None:
    path = written(tmp_path, "demand\n1.2\n2\n")
    with pytest.raises(InputError, match=r"line 2: `demand` is '1.2'.*rounding up"):
        read_demand(path, 30)
    assert read_demand(path, 30, round_up=True).demand.tolist() == [2, 2]
    assert read_demand(path, 30, round_up=True, scale=0.5).demand.tolist() == [1, 1]
    assert read_demand(path, 30, scale=10).demand.tolist() == [12, 20]


def test_one_of_several_series_is_selected_by_a_column(tmp_path: Path) -> None:
    rows = [f"{hour},{zone},{hour + 10 * zone}" for hour in range(3) for zone in range(2)]
    path = written(tmp_path, "time,zone,demand\n" + "\n".join(rows))
    assert read_demand(path, 1, where={"zone": "1"}).demand.tolist() == [10, 11, 12]
    with pytest.raises(InputError, match=r"line 3: a second value at one time.*zone"):
        read_demand(path, 1)
    with pytest.raises(InputError, match="no row with zone '7'; accepted: 0, 1"):
        read_demand(path, 1, where={"zone": "7"})
    with pytest.raises(InputError, match="column region is missing"):
        read_demand(path, 1, where={"region": "7"})


def test_an_absent_row_is_a_gap_unless_it_means_zero(tmp_path: Path) -> None:
    path = written(tmp_path, "time,zone,demand\n0,a,1\n1,b,1\n2,a,3\n3,a,4\n")
    with pytest.raises(InputError, match=r"line 2: a gap, no value 1 s after"):
        read_demand(path, 1, where={"zone": "a"})
    assert read_demand(path, 1, where={"zone": "a"}, absent_is_zero=True).demand.tolist() == [1, 0, 3, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("demand\n1\n\n3\n", "line 3: `demand` is ''.*fill gaps"),
        ("demand\n1\nnan\n", "line 3: `demand` is 'nan'"),
        ("demand\n1\ninf\n", "line 3: `demand` is 'inf'"),
        ("demand\n1\n-2\n", "line 3: `demand` is '-2'"),
        ("demand\n1\ntwo\n", "line 3: `demand` is 'two'"),
        ("demand\n1\n2000000\n", "line 3: .*1,000,000"),
        ("[1, null, 2]", "entry 1: `demand` is ''"),
        ("[1, [2]]", r"entry 1: `demand` is \[2\]"),
        ("[1, true]", "entry 1: `demand` is True"),
        ("[]", "no rows"),
        ('{"time": [1, 2], "demand": [1]}', "different lengths"),
        ('{"time": 3}', "unknown kind"),
        ("1,2\n3,4\n", "line 1: 2 columns without names"),
        ("a,b\n1,2\n", "which column is the demand"),
        ("time,demand\n", "no rows"),
        ("time,demand\n0,1\n", "one time only"),
        ("time,demand\n0,1\n2,1\n5,1\n", "line 4: its time is off the grid of 2 s"),
        ("time,demand\n0,1\n2,1\n6,1\n", "line 3: a gap, no value 4 s"),
        ("time,demand\nnoon,1\n2,1\n", "line 2: `time` is 'noon'"),
        ("time,demand,De mand\n0,1,1\n1,1,1\n", "two columns of one name"),
        ("time,demand\n-4999-01-01,1\n-4999-01-02,1\n", "line 2: `time` is .*of this era"),
        (b"PAR1 and then nothing", "parquet"),
        (b"\xff\xfe\x00", "UTF-8"),
        ("time,demand\n0,1\n1,1\n90000000000,1\n", "steps of 1 s; accepted"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_demand(written(tmp_path, content), 1)


def test_options_out_of_range_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "demand\n1\n")
    for scale, step in ((0.0, None), (float("nan"), None), (1.0, -1.0)):
        with pytest.raises(InputError, match="positive"):
            read_demand(path, 30, scale=scale, step_seconds=step)
    with pytest.raises(InputError, match="whole ticks"):
        read_demand(path, 30, step_seconds=10)
    with pytest.raises(InputError, match="column load is missing"):
        read_demand(path, 30, value_column="load")


def test_real_demand_has_three_years_of_hours(shared_data: Path) -> None:
    folder = shared_data / "workloads"
    where = {"REGION_NUM": "2", "INSTANCE_TYPE": "A"}
    series = [
        read_demand(folder / f"snowflake_shavedice_hourly_normalized.{suffix}", 600, where=where)
        for suffix in ("csv.gz", "parquet")
    ]
    for each in series:
        assert (each.start, each.step_seconds) == (datetime(2021, 2, 1, tzinfo=UTC), 3600.0)
        assert each.demand.shape == (26280 * 6,)
        assert each.demand[:6].tolist() == [172] * 6
        assert (each.demand == 0).any()
    np.testing.assert_array_equal(series[0].demand, series[1].demand)
    with pytest.raises(InputError, match="line 139: a gap"):
        read_demand(folder / "nab_elb_request_count_8c0756.csv", 300)


def test_a_market_shorter_than_the_demand_is_repeated_only_on_request() -> None:
    market = Market.build(
        [Pool("aws", "r", "z", "t")],
        tick_seconds=30,
        start=datetime(2024, 1, 1, tzinfo=UTC),
        spot_price=[[1.0, 2.0, 3.0]],
        spot_capacity=[[1, 0, 2]],
        on_demand_price=5.0,
    )
    assert market_for_demand(market, 3) is market
    with pytest.raises(InputError, match="--repeat-market"):
        market_for_demand(market, 4)
    longer = market_for_demand(market, 7, repeat_market=True)
    assert longer.spot_capacity.tolist() == [[1, 0, 2, 1, 0, 2, 1]]
    assert longer.spot_price.tolist() == [[1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0]]
    assert "repeated 2.33 times" in longer.source
    with pytest.raises(InputError, match="pools x"):
        market.repeated(10**9)
