"""Price histories: AWS in three shapes, SpotLake, GCP; order of time, missing prices, what is refused."""

import gzip
import io
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.market import Pool
from simulator.market.readers.aws_prices import read_cli_json, read_csv_events, read_tsv_events
from simulator.market.readers.files import read_bytes
from simulator.market.readers.gcp import read_gcp_changes
from simulator.market.readers.records import PriceHistory
from simulator.market.readers.spotlake import read_spotlake_csv, read_spotlake_parquet

POOL = Pool("aws", "us-east-1", "us-east-1a", "m5.large")
HOUR_MS = 3_600_000


def event(hour: int, price: object = "0.05", **changes: object) -> dict[str, object]:
    return {
        "Timestamp": f"2024-01-01T{hour:02}:00:00.000Z",
        "ProductDescription": "Linux/UNIX",
        "InstanceType": "m5.large",
        "SpotPrice": price,
        "AvailabilityZone": "us-east-1a",
    } | changes


def cli(*events: object) -> bytes:
    return json.dumps({"SpotPriceHistory": events}).encode()


CSV_HEADER = "timestamp,availability_zone,instance_type,product_description,spot_price"


def csv(*rows: tuple[int, object], header: str = CSV_HEADER, tail: str = "") -> bytes:
    lines = [f"2024-01-01T{h:02}:00:00Z,us-east-1a,m5.large,Linux/UNIX,{price}{tail}" for h, price in rows]
    return "\n".join([header, *lines, ""]).encode()


def hours(history: PriceHistory) -> list[float]:
    first = pd.Timestamp("2024-01-01", tz="UTC").value // 10**6
    return [float(hour) for hour in (history.times_ms - first) / HOUR_MS]


class TestCliJson:
    def test_newest_first_becomes_oldest_first(self) -> None:
        (history,) = read_cli_json("f", cli(event(5, "0.07"), event(3, "0.06"), event(0, "0.05")))
        assert history.pool == POOL
        assert history.product == "Linux/UNIX"
        assert hours(history) == [0, 3, 5]
        assert history.spot_price.tolist() == [0.05, 0.06, 0.07]
        assert history.on_demand_price is None

    def test_overlapping_pages_are_kept_once(self) -> None:
        (history,) = read_cli_json("f", cli(event(5), event(3, "0.06"), event(3, "0.06"), event(0)))
        assert hours(history) == [0, 3, 5]

    def test_newer_cli_writes_an_offset_and_programs_write_numbers(self) -> None:
        (history,) = read_cli_json("f", cli(event(0, 0.05, Timestamp="2024-01-01T02:00:00+02:00")))
        assert hours(history) == [0]

    def test_pools_and_products_are_kept_apart(self) -> None:
        histories = read_cli_json(
            "f",
            cli(event(1), event(1, ProductDescription="Windows"), event(1, AvailabilityZone="us-east-1b")),
        )
        assert len({(history.pool, history.product) for history in histories}) == 3
        assert {history.end_ms for history in histories} == {histories[0].end_ms}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "not whole JSON"),
            (cli(event(0))[:-4], "not whole JSON"),
            (b"[" * 200_000, "nested too deeply"),
            (cli(), "missing, empty or no list"),
            (b'{"SpotPriceHistory": {}}', "missing, empty or no list"),
            (cli(7), "entry 0: no object"),
            (cli(event(0), {}), "entry 1: `Timestamp` is missing"),
            (cli(event(0, None)), "entry 0: `SpotPrice` is missing"),
            (cli(event(0, True)), "entry 0: `SpotPrice` is missing or of the wrong type"),
            (cli(event(0, [])), "entry 0: `SpotPrice`"),
            (cli(event(0, "-0.1")), "entry 0: `spotprice` is '-0.1'"),
            (cli(event(0, "nan")), "entry 0: `spotprice` is 'nan'"),
            (cli(event(0, float("nan"))), "entry 0: `spotprice` is 'nan'"),
            (cli(event(0, "1e999")), "entry 0: `spotprice`"),
            (cli(event(0, int("9" * 4000))), "entry 0: `spotprice` is 'out of range'"),
            (cli(event(0, "cheap")), "'cheap'"),
            (cli(event(0, Timestamp="yesterday")), "entry 0: `timestamp` is 'yesterday'"),
            (cli(event(0, Timestamp="9999999-01-01")), "entry 0: `timestamp`"),
            (cli(event(0, AvailabilityZone="moon-1")), "entry 0: 'moon-1' is no AWS zone"),
            (cli(event(0, InstanceType="")), "entry 0: `instancetype` is empty"),
            (cli(event(3), event(3, "0.06")), "entry 1: gives a second price for one moment"),
        ],
    )
    def test_bad_content_is_refused(self, content: bytes, message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            read_cli_json("/x/prices.json", content)
        assert "/x/prices.json" in str(caught.value)
        assert "accepted" in str(caught.value)


class TestCsvEvents:
    def test_events_with_and_without_on_demand(self) -> None:
        (history,) = read_csv_events("f", csv((0, 0.05), (4, 0.06)))
        assert (hours(history), history.spot_price.tolist()) == ([0, 4], [0.05, 0.06])
        (history,) = read_csv_events(
            "f", csv((0, 0.05), header=f"{CSV_HEADER},ondemand_price", tail=",0.096")
        )
        assert history.on_demand_price is not None
        assert history.on_demand_price.tolist() == [0.096]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (csv((3, 0.05), (2, 0.06)), "line 3: goes back in time; accepted: oldest first"),
            (csv((2, 0.05), (2, 0.06)), "line 3: repeats the moment"),
            (csv((2, 0.05), (2, 0.05)), "line 3: repeats the moment"),
            (csv((0, 0.05), (1, -0.1)), "line 3: `spotprice` is '-0.1'"),
            (csv((0, "nan")), "line 2: `spotprice` is 'nan'"),
            (csv((0, "inf")), "line 2: `spotprice` is 'inf'"),
            (csv((0, "")), "line 2: `spotprice` is ''"),
            (csv((0, 2e6)), "from 0 to 1e"),
            (csv(), "a header and no rows"),
            (csv((0, 0.05))[:70], "column spotprice is missing"),
            (csv((0, 0.05), (1, 0.06))[:-30], "line 3"),
            (csv((0, 0.05), header="a,b,c,d,e"), "column timestamp, availabilityzone.* is missing"),
            (csv((0, 0.05), tail=",1,2,3") + b"1,2,3,4,5,6,7,8,9,10\n", "no table"),
            (b"\xff" * 10, "not text"),
            (csv((0, 0.05)) + b"\x00\x00\n", "line 3"),
        ],
    )
    def test_bad_content_is_refused(self, content: bytes, message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            read_csv_events("/x/prices.csv", content)
        assert "/x/prices.csv" in str(caught.value)
        assert "accepted" in str(caught.value)


TSV = (
    "use1-az1\tm5.large\tLinux/UNIX\t0.05\t2024-01-01T00:00:00+00:00\n"
    "euw3-az2\tm5.large\tWindows\t0.09\t2024-01-01T01:00:00+00:00\n"
    "use1-az1\tm5.large\tLinux/UNIX\t0.06\t2024-01-01T02:00:00+00:00\n"
)


class TestTsvEvents:
    def test_zone_ids_give_their_region(self) -> None:
        first, second = read_tsv_events("f", TSV.encode())
        assert first.pool == Pool("aws", "us-east-1", "use1-az1", "m5.large")
        assert hours(first) == [0, 2]
        assert second.pool.region == "eu-west-3"
        assert first.end_ms == second.end_ms

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("0.09", "-0.09", "line 2: `spotprice`"),
            ("01T02:00", "01T00:00", "line 3: repeats"),
            ("2024-01-01T02", "2023-01-01T02", "line 3: goes back"),
            ("euw3-az2", "zone", "line 2: 'zone' is no AWS zone"),
        ],
    )
    def test_bad_rows_are_refused_by_line(self, old: str, new: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            read_tsv_events("f", TSV.replace(old, new).encode())


def spotlake_rows(*rows: tuple[int, float, float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Time": [f"2024-01-01 {hour:02}:00:00" for hour, _, _ in rows],
            "InstanceType": "c5.large",
            "Region": "eu-west-1",
            "AZ": "euw1-az1",
            "SPS": 3,
            "IF": 3.0,
            "OndemandPrice": [on_demand for _, _, on_demand in rows],
            "SpotPrice": [spot for _, spot, _ in rows],
            "Savings": 60,
        }
    )


def as_csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode()


def as_parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


SPOTLAKE: list[Any] = [
    pytest.param(as_csv, read_spotlake_csv, id="csv"),
    pytest.param(as_parquet, read_spotlake_parquet, id="parquet"),
]
Write = Callable[[pd.DataFrame], bytes]
Read = Callable[[str, bytes], list[PriceHistory]]


@pytest.mark.parametrize(("write", "read"), SPOTLAKE)
class TestSpotLake:
    def test_minus_one_is_missing_and_naive_times_are_utc(self, write: Write, read: Read) -> None:
        frame = spotlake_rows((0, -1, 0.09), (1, 0.03, 0.09), (2, -1, 0.09), (3, 0.04, 0.1))
        (history,) = read("f", write(frame))
        assert history.pool == Pool("aws", "eu-west-1", "euw1-az1", "c5.large")
        assert hours(history) == [1, 3]
        assert history.spot_price.tolist() == [0.03, 0.04]
        assert history.on_demand_price is not None
        assert history.on_demand_price.tolist() == [0.09, 0.1]
        assert history.end_ms - history.times_ms[-1] == HOUR_MS

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([(1, 0.03, 0.09), (0, 0.03, 0.09)], "goes back in time"),
            ([(1, 0.03, 0.09), (1, 0.03, 0.09)], "repeats the moment"),
            ([(1, -2, 0.09)], "`spotprice` is '-2"),
            ([(1, float("nan"), 0.09)], "`spotprice`"),
            ([(1, -1, 0.09)], "every price is missing"),
        ],
    )
    def test_bad_rows_are_refused(
        self, write: Write, read: Read, rows: list[tuple[int, float, float]], message: str
    ) -> None:
        with pytest.raises(InputError, match=message) as caught:
            read("/x/spotlake", write(spotlake_rows(*rows)))
        assert "/x/spotlake" in str(caught.value)

    def test_damaged_pandas_notes_in_parquet_do_not_matter(self, write: Write, read: Read) -> None:
        content = write(spotlake_rows((0, 0.03, 0.09)))
        damaged = content.replace(b'"pandas_version"', b'"' + b"\xff" * 6 + b'_version"')
        assert hours(read("f", damaged)[0]) == [0]

    def test_damaged_text_is_refused(self, write: Write, read: Read) -> None:
        content = write(spotlake_rows((0, 0.03, 0.09))).replace(b"euw1-az1", b"\xffuw1-az1")
        with pytest.raises(InputError, match=r"not text|not a whole parquet file"):
            read("f", content)

    def test_a_missing_column_is_refused(self, write: Write, read: Read) -> None:
        with pytest.raises(InputError, match="column az"):
            read("f", write(spotlake_rows((0, 1, 1)).drop(columns="AZ")))

    def test_a_truncated_file_is_refused(self, write: Write, read: Read) -> None:
        content = write(spotlake_rows((0, 0.03, 0.09), (1, 0.03, 0.09)))
        with pytest.raises(InputError):
            read("f", content[:-15])


GCP = """commit_time,generated_at,machine_type,region,ondemand_price,spot_price,commit
2022-02-09T23:07:12Z,,n2-standard-4,us-east1,0.194,,a
2023-05-08T06:42:48Z,,n2-standard-4,us-east1,0.2,0.05,b
2023-06-08T06:42:48Z,,n2-standard-4,us-east1,0,0.06,c
2023-07-08T06:42:48Z,,n2-standard-4,us-east1,0.2,0.07,d
"""


class TestGcpChanges:
    def test_only_rows_with_both_prices_count(self) -> None:
        (history,) = read_gcp_changes("f", GCP.encode())
        assert history.pool == Pool("gcp", "us-east1", "us-east1", "n2-standard-4")
        assert history.spot_price.tolist() == [0.05, 0.07]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("0.05", "-0.05", "line 3: `spotprice`"),
            ("2023-07", "2023-01", "line 5: goes back"),
            ("2023-07", "2023-06", "line 5: repeats"),
            ("spot_price", "price", "column spotprice is missing"),
        ],
    )
    def test_bad_rows_are_refused(self, old: str, new: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            read_gcp_changes("f", GCP.replace(old, new).encode())

    def test_a_list_without_spot_prices_is_refused(self) -> None:
        with pytest.raises(InputError, match="no row has a spot and an on-demand price"):
            read_gcp_changes("f", "\n".join(GCP.splitlines()[:2]).encode())


@given(
    st.lists(st.tuples(st.integers(0, 23), st.sampled_from(["0.05", "0.06"])), min_size=1, max_size=12),
)
def test_ordered_and_unordered_readers_agree_on_what_a_history_is(rows: list[tuple[int, str]]) -> None:
    """CSV accepts exactly the strictly increasing ones; JSON sorts, and refuses only contradictions."""
    times = [hour for hour, _ in rows]
    increasing = all(b > a for a, b in pairwise(times))
    contradicts = len(dict.fromkeys(rows)) != len(set(times))
    if increasing:
        (history,) = read_csv_events("f", csv(*rows))
        assert hours(history) == times
    else:
        with pytest.raises(InputError):
            read_csv_events("f", csv(*rows))
    if contradicts:
        with pytest.raises(InputError):
            read_cli_json("f", cli(*(event(hour, price) for hour, price in rows)))
    else:
        (history,) = read_cli_json("f", cli(*(event(hour, price) for hour, price in rows)))
        assert hours(history) == sorted(set(times))
        np.testing.assert_array_equal(history.spot_price, [float(dict(rows)[t]) for t in sorted(set(times))])


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_compressed_content_is_whole_or_refused(
    compress: Callable[[bytes], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("c") / "f"
    data = bytes(np.random.default_rng(0).integers(32, 127, 5000, dtype=np.uint8))
    path.write_bytes(compress(data))
    assert read_bytes(path) == data
    with pytest.raises(InputError, match="more than"):
        read_bytes(path, highest_bytes=4999)
    path.write_bytes(compress(data)[:-200])
    with pytest.raises(InputError, match="cannot be read to its end"):
        read_bytes(path)
