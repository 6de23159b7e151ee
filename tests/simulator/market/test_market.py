"""The market itself: what it refuses, windows, selections, and its file."""

import io
import json
import tempfile
import zipfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simulator.errors import InputError
from simulator.market import UNLIMITED_CAPACITY, Market, Pool, ticks_for

START = datetime(2024, 1, 1, tzinfo=UTC)


def pools(count: int) -> list[Pool]:
    return [Pool("aws", "us-east-1", f"us-east-1{chr(97 + i)}", "m5.large") for i in range(count)]


def market(capacity: Any = ((1, 0, 2), (0, 1, 1)), **changes: Any) -> Market:
    capacity = np.array(capacity)
    options: dict[str, Any] = {
        "tick_seconds": 600,
        "start": START,
        "spot_price": np.arange(capacity.size, dtype=float).reshape(capacity.shape),
        "spot_capacity": capacity,
        "on_demand_price": [3.0, 4.0][: len(capacity)],
        "source": "a test",
    }
    return Market.build(pools(len(capacity)), **(options | changes))


def test_prices_broadcast_per_pool() -> None:
    built = market()
    np.testing.assert_array_equal(built.on_demand_price, [[3.0] * 3, [4.0] * 3])
    assert market(spot_price=0.5).spot_price.tolist() == [[0.5] * 3] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spot_price": -0.1}, "spot price of pool aws/us-east-1a/m5.large at tick 0 is -0.1"),
        ({"spot_price": [[1, 1, 1], [1, np.nan, 1]]}, "us-east-1b/m5.large at tick 1 is nan"),
        ({"spot_price": [[1, 1, 1], [1, 1, np.inf]]}, "is inf"),
        ({"on_demand_price": 0.0}, "accepted: finite, more than 0"),
        ({"spot_capacity": [[0, 1, -1], [0, 0, 0]]}, "spot capacity"),
        ({"spot_capacity": [[0, 1, 0.5], [0, 0, 0]]}, "whole numbers"),
        ({"spot_capacity": [[0, 1, np.nan], [0, 0, 0]]}, "whole numbers"),
        ({"spot_capacity": [[0, 1, -1e300], [0, 0, 0]]}, "spot capacity"),
        ({"spot_capacity": [0, 1]}, "dimensions"),
        ({"spot_price": np.ones((3, 3))}, "fills"),
        ({"tick_seconds": 0}, "positive whole number"),
        ({"tick_seconds": 0.5}, "positive whole number"),
        ({"start": datetime(2024, 1, 1)}, "time zone"),  # the lack of a zone is the point
        ({"start": datetime(9999, 12, 31, 23, 50, tzinfo=UTC)}, "year 9999"),
    ],
)
def test_what_is_out_of_range_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        market(**changes)


def test_pools_must_differ_and_fit() -> None:
    capacity = [[1, 1], [1, 1]]
    options: dict[str, Any] = {
        "tick_seconds": 600, "start": START, "spot_price": 1, "spot_capacity": capacity, "on_demand_price": 2,
    }  # fmt: skip
    with pytest.raises(InputError, match="appears twice"):
        Market.build(pools(1) * 2, **options)
    with pytest.raises(InputError, match="3 pools"):
        Market.build(pools(3), **options)
    with pytest.raises(InputError, match="at least one pool"):
        Market.build([], **options)


def test_capacity_beyond_unlimited_is_unlimited_and_arrays_are_frozen() -> None:
    built = market(spot_capacity=[[10**12, 0, 0], [0, 0, 0]])
    assert built.spot_capacity[0, 0] == UNLIMITED_CAPACITY
    with pytest.raises(ValueError, match="read-only"):
        built.spot_price[0, 0] = 1.0


def test_start_is_kept_in_utc() -> None:
    assert market(start=datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))).start == START


def test_window_and_select() -> None:
    built = market()
    window = built.window(1, 2)
    assert (window.ticks, window.start) == (2, START + timedelta(seconds=600))
    assert window.spot_capacity.tolist() == [[0, 2], [1, 1]]
    chosen = built.select(["aws/us-east-1b/m5.large", 0])
    assert [pool.zone for pool in chosen.pools] == ["us-east-1b", "us-east-1a"]
    assert chosen.on_demand_price[:, 0].tolist() == [4.0, 3.0]


@pytest.mark.parametrize(("start", "ticks"), [(0, 4), (3, 1), (-1, 2), (0, 0), (2, 2)])
def test_a_window_outside_the_market_is_refused(start: int, ticks: int) -> None:
    with pytest.raises(InputError, match="does not fit a market of 3 ticks"):
        market().window(start, ticks)


@pytest.mark.parametrize("pool", ["aws/us-east-1z/m5.large", 2, -1])
def test_selecting_an_unknown_pool_is_refused(pool: int | str) -> None:
    with pytest.raises(InputError, match="not in the market"):
        market().select([pool])


@pytest.mark.parametrize(("seconds", "ticks"), [(600, 1), (601, 2), (0.1 * 3 * 6000, 3), (1, 1), (0, 0)])
def test_ticks_for(seconds: float, ticks: int) -> None:
    assert ticks_for(seconds, 600) == ticks


@given(data=st.data(), count=st.integers(1, 3), ticks=st.integers(1, 20))
def test_save_and_load_keep_everything(data: st.DataObject, count: int, ticks: int) -> None:
    shape = (count, ticks)
    price = st.floats(0.001, 100)
    built = Market.build(
        pools(count),
        tick_seconds=data.draw(st.integers(1, 86_400)),
        start=data.draw(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))),
        spot_price=data.draw(hnp.arrays(float, shape, elements=price)),
        spot_capacity=data.draw(hnp.arrays(int, shape, elements=st.integers(0, 10))),
        on_demand_price=data.draw(hnp.arrays(float, shape, elements=price)),
        source=data.draw(st.text(max_size=20).filter(lambda text: text.isprintable())),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deep" / "m.npz"
        built.save(path)
        again = Market.load(path)
        assert [file.name for file in path.parent.iterdir()] == ["m.npz"]
    assert (again.pools, again.tick_seconds, again.start, again.source) == (
        built.pools, built.tick_seconds, built.start, built.source,
    )  # fmt: skip
    for name in ("spot_price", "spot_capacity", "on_demand_price"):
        np.testing.assert_array_equal(getattr(again, name), getattr(built, name))


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def npy(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def header(**changes: Any) -> bytes:
    content = {
        "format": "spotwise-market", "version": 1, "tick_seconds": 600, "start": START.isoformat(),
        "pools": [["aws", "us-east-1", f"us-east-1{z}", "m5.large"] for z in "ab"], "source": "",
    } | changes  # fmt: skip
    return npy(np.frombuffer(json.dumps(content).encode(), dtype=np.uint8))


DAMAGE: dict[str, tuple[dict[str, bytes | None], str]] = {
    "object array": ({"spot_price.npy": npy(np.array([[{}]], object), allow_pickle=True)}, "type object"),
    "wrong type": ({"spot_price.npy": npy(np.ones((2, 3), dtype=np.float32))}, "type float32"),
    "shape beyond the bytes": (
        {"spot_price.npy": npy(np.ones((2, 3))).replace(b"(2, 3)", b"(9, 9)")}, "shape"),
    "absurd shape": (
        {"spot_price.npy": npy(np.ones((2, 3))).replace(b"(2, 3), }         ", b"(2, 3000000000), }")},
        "shape"),
    "not an array": ({"spot_price.npy": b"hello"}, "not a whole market file"),
    "array header is no literal": (
        {"spot_price.npy": npy(np.ones((2, 3))).replace(b"'descr'", b"\x00descr'")}, "not a whole"),
    "array lacking": ({"spot_price.npy": None}, "other content"),
    "extra member": ({"../../evil.py": b"x"}, "other content"),
    "NaN price": ({"spot_price.npy": npy(np.full((2, 3), np.nan))}, "is nan"),
    "capacity negative": ({"spot_capacity.npy": npy(np.full((2, 3), -1, dtype=np.int32))}, "spot capacity"),
    "shapes differ": ({"spot_price.npy": npy(np.ones((2, 4)))}, "shapes differ"),
    "other version": ({"header.npy": header(version=2)}, "version 2"),
    "other kind": ({"header.npy": header(format="x")}, "not a market file"),
    "header is no JSON": ({"header.npy": npy(np.frombuffer(b"{", dtype=np.uint8))}, "not a whole"),
    "deep header": ({"header.npy": npy(np.frombuffer(b"[" * 200_000, dtype=np.uint8))}, "not a whole"),
    "header is a list": ({"header.npy": npy(np.frombuffer(b"[]", dtype=np.uint8))}, "not a market file"),
    "naive start": ({"header.npy": header(start="2024-01-01")}, "time zone"),
    "start is a number": ({"header.npy": header(start=7)}, "damaged header"),
    "tick is infinite": ({"header.npy": header(tick_seconds=1e999)}, "damaged header"),
    "tick is text": ({"header.npy": header(tick_seconds="x")}, "damaged header"),
    "pool of three parts": ({"header.npy": header(pools=[["a", "b", "c"]] * 2)}, "damaged header"),
    "pool of numbers": ({"header.npy": header(pools=[[1, 2, 3, 4]] * 2)}, "damaged header"),
    "too few pools": ({"header.npy": header(pools=[["a", "b", "c", "d"]])}, "1 pools"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "m.npz"
    market().save(path)
    changes, message = DAMAGE[damage]
    content = {name: data for name, data in (members(path) | changes).items() if data is not None}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(InputError, match=message) as caught:
        Market.load(path)
    assert str(path) in str(caught.value)


def test_a_zip_bomb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    market().save(path)
    data = bytearray(path.read_bytes())
    # The central directory is what a reader trusts: let one member claim 4 GiB, three times.
    with zipfile.ZipFile(path) as archive:
        count = len(archive.infolist())
    position, claimed = 0, 0
    while (position := data.find(b"PK\x01\x02", position)) >= 0:
        data[position + 24 : position + 28] = (0xFFFFFFFE).to_bytes(4, "little")
        position += 4
        claimed += 1
    assert claimed == count
    path.write_bytes(data)
    with pytest.raises(InputError, match="claims more than 8 GiB"):
        Market.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 and no more"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a whole market file"):
        Market.load(path)


@pytest.mark.parametrize("keep", [10, 200, 700])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "m.npz"
    market().save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="not a whole market file"):
        Market.load(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Market.load(tmp_path / "none.npz")
    with pytest.raises(InputError, match="not a whole market file"):
        Market.load(tmp_path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.npz"
    market().save(path)
    before = path.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(InputError, match=r"No space left on device.*unchanged"):
        market(spot_price=9.0).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.npz"]
