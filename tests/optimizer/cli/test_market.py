"""`spotwise market` as a user runs it: what it writes and prints, and how it refuses bad input."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moto import mock_aws

from optimizer.cli import main
from simulator.market import UNLIMITED_CAPACITY, Market
from simulator.synthetic import load_model


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Spotwise = Callable[..., Ran]


@pytest.fixture
def spotwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Spotwise:
    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["spotwise", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


def trace(
    folder: Path, zone: str = "us-east-1a", data: object = (0, 1, 1, 0, 1, 1, 1), gap: object = 300
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{zone}_v100_1.json"
    path.write_text(json.dumps({"metadata": {"gap_seconds": gap}, "data": data}))
    return path


def build(*files: Path, out: Path, **options: object) -> list[object]:
    given: dict[str, object] = {"tick_seconds": 300, "spot_price": 0.9731, "on_demand_price": 3.06} | options
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    return ["market", "build", *files, *flags, "--out", out]


def test_the_command_of_the_readme_on_real_traces(
    spotwise: Spotwise, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "traces/skypilot_spot_traces/availability/1-node/aws-02-15-2023"
    out = tmp_path / "markets" / "v100.npz"
    ran = spotwise(
        "market", "build", *sorted(folder.glob("*.json")), "--format", "skypilot", "--tick-seconds", 600,
        "--spot-price", 0.9731, "--on-demand-price", 3.06, "--out", out,
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    assert "9 pools, 6551 ticks of 600 s, 2023-02-15 00:00 to 2023-04-01 11:50 UTC" in ran.out
    shown = spotwise("market", "show", out)
    assert shown.code == 0
    for text in ("aws/us-east-1a/v100", "16.7", "0.9731", "0.318", "45.5 days", "availability traces"):
        assert text in shown.out
    summary = json.loads(spotwise("market", "show", out, "--json").out)
    assert (summary["ticks"], summary["tick_seconds"], len(summary["pools"])) == (6551, 600, 9)
    assert summary["start"] == "2023-02-15T00:00:00+00:00"
    pool = summary["pools"][0]
    assert pool["name"] == "aws/us-east-1a/v100"
    assert pool["availability"] == pytest.approx(0.16715, abs=1e-5)
    assert pool["spot_price"]["median"] == 0.9731


def test_json_of_build_is_json_of_show(spotwise: Spotwise, tmp_path: Path) -> None:
    out = tmp_path / "m.npz"
    built = spotwise(*build(trace(tmp_path / "aws-02-15-2023"), out=out), "--json")
    assert json.loads(built.out) == json.loads(spotwise("market", "show", out, "--json").out)


def test_unlimited_and_counted_unit_capacity(spotwise: Spotwise, tmp_path: Path) -> None:
    path, out = trace(tmp_path / "t"), tmp_path / "m.npz"
    assert spotwise(*build(path, out=out, unit_capacity="unlimited")).code == 0
    assert set(np.unique(Market.load(out).spot_capacity)) == {0, UNLIMITED_CAPACITY}
    assert "unlimited" in spotwise("market", "show", out).out
    assert spotwise(*build(path, out=out, unit_capacity=8)).code == 0
    assert Market.load(out).spot_capacity.max() == 8


def test_advisor_and_on_demand_list(spotwise: Spotwise, tmp_path: Path) -> None:
    prices, bands, listed, out = (tmp_path / name for name in ("p.csv", "b.json", "l.csv", "m.npz"))
    prices.write_text(
        "timestamp,availability_zone,instance_type,product_description,spot_price\n"
        "2024-01-01T00:00:00Z,us-east-1a,m5.large,Linux/UNIX,0.04\n"
        "2034-03-01T00:00:00Z,us-east-1a,m5.large,Linux/UNIX,0.05\n"
    )
    bands.write_text(json.dumps({"spot_advisor": {"us-east-1": {"Linux": {"m5.large": {"s": 1, "r": 4}}}}}))
    listed.write_text("region,instance_type,ondemand_price\nus-east-1,m5.large,0.096\n")
    arguments = [
        "market",
        "build",
        prices,
        "--tick-seconds",
        3600,
        "--on-demand-prices",
        listed,
        "--out",
        out,
    ]
    assert spotwise(*arguments).code == 0
    assert (Market.load(out).spot_capacity == UNLIMITED_CAPACITY).all()
    assert spotwise(*arguments, "--advisor", bands, "--seed", 5, "--outage-hours", 48).code == 0
    first = Market.load(out)
    assert "ASSUMED" in first.source
    assert spotwise(*arguments, "--advisor", bands, "--seed", 6, "--outage-hours", 48).code == 0
    assert (Market.load(out).spot_capacity != first.spot_capacity).any()


def test_synth(spotwise: Spotwise, tmp_path: Path) -> None:
    out, model = tmp_path / "s.npz", tmp_path / "model.json"
    ran = spotwise(
        "market", "synth", "--days", 2, "--seed", 4, "--zone", "a-1a", "--zone", "a-1b", "--out", out
    )
    assert ran.code == 0
    market = Market.load(out)
    assert [pool.name for pool in market.pools] == ["synthetic/a-1a/v100", "synthetic/a-1b/v100"]
    assert market.ticks == 288
    model.write_text(load_model().to_json())
    again = tmp_path / "again.npz"
    spotwise(
        "market", "synth", "--days", 2, "--seed", 4, "--zone", "a-1a", "--zone", "a-1b", "--model", model,
        "--out", again,
    )  # fmt: skip
    np.testing.assert_array_equal(Market.load(again).spot_capacity, market.spot_capacity)
    assert len(Market.load(out).pools) == 2
    spotwise("market", "synth", "--days", 1, "--zone", "a-1a", "--provider", "aws", "--out", out)
    assert Market.load(out).pools[0].name == "aws/a-1a/v100"
    assert Market.load(out).source.startswith("SYNTHETIC"), "whatever its pools are named after"
    assert json.loads(spotwise("market", "synth", "--days", 1, "--out", out, "--json").out)["ticks"] == 144


@mock_aws
def test_fetch_writes_what_build_reads(
    spotwise: Spotwise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    history, out = tmp_path / "h.json", tmp_path / "m.npz"
    ran = spotwise(
        "market", "fetch", "--region", "us-east-1", "--instance-type", "m5.large", "--zone", "us-east-1a",
        "--out", history,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    events = json.loads(history.read_text())["SpotPriceHistory"]
    assert events
    assert {event["AvailabilityZone"] for event in events} == {"us-east-1a"}
    # moto gives one constant price at the moment of the call, so build has no whole tick and says so.
    built = spotwise("market", "build", history, "--on-demand-price", 0.1, "--out", out)
    assert (built.code, "no span" in built.err or "less than one tick" in built.err) == (2, True)


def test_fetch_without_credentials_fails_with_1(
    spotwise: Spotwise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    common = [
        "market",
        "fetch",
        "--region",
        "us-east-1",
        "--instance-type",
        "m5.large",
        "--out",
        tmp_path / "h",
    ]
    ran = spotwise(*common)
    assert (ran.code, "credentials" in ran.err) == (1, True)
    assert not (tmp_path / "h").exists()
    assert spotwise(*common, "--profile", "nobody").code == 2
    assert spotwise(*common, "--start", "2024-02-01", "--end", "2024-01-01").code == 2


CSV = "timestamp,availability_zone,instance_type,product_description,spot_price\n"
ROW = "2024-01-01T{}:00:00Z,us-east-1a,m5.large,Linux/UNIX,{}\n"
TRACE = "us-east-1a_v100_1.json"
BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": (TRACE, b"", "is empty"),
    "blank": (TRACE, b" \n\n", "is empty"),
    "truncated": (TRACE, b'{"metadata": {"gap_seconds": 195}, "data": [0, 1', "not whole JSON"),
    "no JSON": (TRACE, b"<html>", "unknown format"),
    "binary": (TRACE, bytes(range(256)), "unknown format"),
    "deep": (TRACE, b'{"data":' * 100_000, "nested too deeply"),
    "huge number": (TRACE, b'{"data": [' + b"1" * 5000 + b"]}", "too long"),
    "infinite": (TRACE, b'{"metadata": {"gap_seconds": 1}, "data": [1e999]}', "is inf"),
    "wrong type": (TRACE, b'{"metadata": {"gap_seconds": 1}, "data": {"0": 1}}', "no list"),
    "out of range": (TRACE, b'{"metadata": {"gap_seconds": 1}, "data": [1, -1]}', "data[1]"),
    "negative price": (
        TRACE,
        b'{"metadata": {"gap_seconds": 1}, "data": [1, 1], "prices": [0.1, -0.1]}', "prices[1]"),
    "NaN price": (
        TRACE, b'{"metadata": {"gap_seconds": 1}, "data": [1], "prices": [NaN]}', "prices[0]"),
    "time backwards": (
        TRACE, b'{"metadata": {"gap_seconds": -195}, "data": [1, 1]}', "run forward"),
    "no zone": ("trace.json", b'{"metadata": {"gap_seconds": 195}, "data": [1, 1]}', "ZONE_TYPE"),
    "no field": (TRACE, b'{"metadata": {"gap_seconds": 195}}', "`data` is missing"),
    "events back": ("p.csv", (CSV + ROW.format("05", 1) + ROW.format("04", 1)).encode(), "line 3: goes back"),
    "events twice": ("p.csv", (CSV + ROW.format("05", 1) + ROW.format("05", 2)).encode(), "line 3: repeats"),
    "event negative": ("p.csv", (CSV + ROW.format("05", -1)).encode(), "line 2: `spotprice`"),
    "event NaN": ("p.csv", (CSV + ROW.format("05", "NaN")).encode(), "line 2: `spotprice`"),
    "header only": ("p.csv", CSV.encode(), "no rows"),
    "truncated gzip": ("p.csv.gz", gzip.compress(CSV.encode() * 50)[:-20], "cannot be read to its end"),
    "truncated parquet": ("p.parquet", b"PAR1\x00\x00", "not a whole parquet file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_exit_with_2_and_name_file_and_remedy(
    spotwise: Spotwise, tmp_path: Path, name: str
) -> None:
    file, content, message = BAD_FILES[name]
    path, out = tmp_path / file, tmp_path / "m.npz"
    path.write_bytes(content)
    out.write_bytes(b"what was there")
    ran = spotwise(*build(path, out=out))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert str(path) in ran.err
    assert message in ran.err
    assert "accepted" in ran.err
    assert "Traceback" not in ran.err
    assert out.read_bytes() == b"what was there"


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_missing_file_and_folder(spotwise: Spotwise, tmp_path: Path, name: str) -> None:
    ran = spotwise(*build(tmp_path / name, out=tmp_path / "m.npz"))
    assert ran.code == 2
    assert str(tmp_path) in ran.err


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"gap": 200}, "different ticks"),
        ({"data": [1, 0]}, "different lengths"),
        ({"zone": "us-east-1a"}, "both are traces of pool"),
    ],
)
def test_zones_that_do_not_fit_each_other(
    spotwise: Spotwise, tmp_path: Path, second: dict[str, Any], message: str
) -> None:
    one = trace(tmp_path / "x")
    two = trace(tmp_path / "y", **({"zone": "us-east-1b"} | second))
    ran = spotwise(*build(one, two, out=tmp_path / "m.npz"))
    assert ran.code == 2
    assert message in ran.err
    assert str(one) in ran.err
    assert str(two) in ran.err
    if "both" not in message:
        assert spotwise(*build(one, two, out=tmp_path / "m.npz"), "--common-span").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spot_price": -1}, "--spot-price -1.0: negative or not finite"),
        ({"spot_price": "nan"}, "--spot-price nan"),
        ({"on_demand_price": "inf"}, "--on-demand-price inf"),
        ({"on_demand_price": 0}, "accepted: finite, more than 0"),
        ({"tick_seconds": 0}, "tick of 0 s"),
        ({"tick_seconds": -600}, "tick of -600 s"),
        ({"tick_seconds": 10**6}, "less than one tick"),
        ({"tick_seconds": "ten"}, "tick-seconds"),
        ({"format": "azure"}, "'azure' is unknown; accepted: skypilot"),
        ({"format": "aws-csv"}, "column timestamp"),
        ({"start": "yesterday"}, "--start 'yesterday' is no time"),
        ({"start": "2030-01-01", "end": "2029-01-01"}, "--end"),
        ({"end": "2050-01-01"}, "--end 2050-01-01 00:00:00+00:00 lies outside the data"),
        ({"unit_capacity": "many"}, "--unit-capacity 'many'"),
        ({"unit_capacity": 0}, "--unit-capacity '0'"),
        ({"unit_capacity": "²"}, "--unit-capacity"),
        ({"zone": "us-east-1z"}, "no pool is left"),
        ({"seed": -1}, "--seed -1"),
        ({"on_demand_prices": "none.csv"}, "none.csv: no such file"),
        ({"advisor": "none.json"}, "none.json: no such file"),
    ],
)
def test_bad_options_exit_with_2(
    spotwise: Spotwise, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    ran = spotwise(*build(trace(tmp_path / "x"), out=tmp_path / "m.npz", **options))
    assert ran.code == 2
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "m.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--days", "0"], "--days 0"),
        (["--days", "nan"], "--days nan"),
        (["--spot-price", "nan"], "prices nan"),
        (["--correlation", "2"], "accepted: 0 <= across <= within <= 1"),
        (["--capacity", "0"], "capacity 0"),
        (["--seed", "-2"], "--seed -2"),
        (["--zone", "a", "--zone", "a"], "appears twice"),
        (["--model", "none.json"], "none.json"),
        (["--start", "x"], "is no time"),
        (["--provider", "A/b"], "--provider 'A/b'"),
    ],
)
def test_bad_options_of_synth_exit_with_2(
    spotwise: Spotwise, tmp_path: Path, arguments: list[str], message: str
) -> None:
    ran = spotwise("market", "synth", *arguments, "--out", tmp_path / "m.npz")
    assert (ran.code, message in ran.err) == (2, True), ran.err


def test_the_output_must_be_a_writable_market_file(spotwise: Spotwise, tmp_path: Path) -> None:
    path = trace(tmp_path / "x")
    assert "end in .npz" in spotwise(*build(path, out=tmp_path / "m.csv")).err
    (tmp_path / "file").write_text("")
    ran = spotwise(*build(path, out=tmp_path / "file" / "m.npz"))
    assert (ran.code, "cannot be written" in ran.err) == (2, True)


def test_show_refuses_what_is_no_market(spotwise: Spotwise, tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    ran = spotwise("market", "show", path)
    assert (ran.code, "no such file" in ran.err) == (2, True)
    path.write_bytes(b"PK")
    ran = spotwise("market", "show", path)
    assert (ran.code, "not a whole market file" in ran.err, "Traceback" in ran.err) == (2, True, False)


def test_debug_shows_the_traceback_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "optimizer.cli", "market", "show", str(tmp_path / "none.npz")]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (plain.returncode, "Traceback" in plain.stderr) == (2, False)
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, check=False)
    assert "Traceback" in debug.stderr
