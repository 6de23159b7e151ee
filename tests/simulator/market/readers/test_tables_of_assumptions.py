"""Files beside the histories: interruption bands and on-demand list prices; and finding out a format."""

import json
from pathlib import Path

import pytest

from simulator.errors import InputError
from simulator.market import Pool
from simulator.market.readers import FORMATS, detect_format, read_on_demand_prices, read_records
from simulator.market.readers.advisor import (
    MONTH_SECONDS,
    MONTHLY_INTERRUPTION,
    hazard_per_tick,
    read_interruption_bands,
)
from simulator.market.readers.zones import provider_and_region, sold_as

POOL = Pool("aws", "us-east-1", "us-east-1a", "m5.large")


def advisor(band: object = 2, system: str = "Linux") -> str:
    return json.dumps({"spot_advisor": {"us-east-1": {system: {"m5.large": {"s": 60, "r": band}}}}})


SPOTLAKE = (
    "SpotPrice,Savings,SPS,AZ,Region,InstanceType,IF,time\n"
    "1.15,73,1,use1-az1,us-east-1,m5.large,3.0,2022-07-12 04:20:02+00:00\n"
    "1.15,73,1,use1-az1,us-east-1,m5.large,1.0,2022-07-13 04:20:02+00:00\n"
    "1.15,73,1,use1-az2,us-east-1,m5.large,-1,2022-07-13 04:20:02+00:00\n"
)


def test_advisor_bands_are_by_region_and_spotlake_bands_by_zone(tmp_path: Path) -> None:
    path = tmp_path / "bands"
    path.write_text(advisor())
    assert read_interruption_bands(path).band(POOL) == 2
    assert read_interruption_bands(path).band(Pool("aws", "us-west-1", "us-west-1a", "m5.large")) is None
    path.write_text(SPOTLAKE)
    bands = read_interruption_bands(path)
    assert bands.band(Pool("aws", "us-east-1", "use1-az1", "m5.large")) == 4  # the latest row counts
    assert bands.band(Pool("aws", "us-east-1", "use1-az2", "m5.large")) is None


@pytest.mark.parametrize("band", range(5))
def test_a_month_of_ticks_has_the_monthly_probability(band: int) -> None:
    survival = (1 - hazard_per_tick(band, 600)) ** (MONTH_SECONDS / 600)
    assert 1 - survival == pytest.approx(MONTHLY_INTERRUPTION[band])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("{", "not whole JSON"),
        ("{}", "no `spot_advisor` object"),
        ('{"spot_advisor": []}', "no `spot_advisor` object"),
        ('{"spot_advisor": {"us-east-1": 3}}', "`spot_advisor.us-east-1` is damaged"),
        (advisor(5), "accepted: 0 to 4"),
        (advisor(-1), "accepted: 0 to 4"),
        (advisor("2"), "accepted: 0 to 4"),
        (advisor(True), "accepted: 0 to 4"),
        (advisor(system="Windows"), "no band for 'Linux'"),
        (SPOTLAKE.replace("3.0", "7"), "line 2: `IF` is 7"),
        ("a,b\n1,2\n", "column time"),
    ],
)
def test_bad_bands_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bands"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_interruption_bands(path)
    assert str(path) in str(caught.value)


def test_on_demand_prices_of_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("generated_at,region,instance_type,ondemand_price\nx,us-east-1,m5.large,0.096\n")
    assert read_on_demand_prices(path).price(POOL) == 0.096
    path.write_text("Region,InstanceCode,Price\nus-east-1,p3.2xlarge,3.06\n")
    prices = read_on_demand_prices(path)
    assert prices.price(POOL) is None
    # A trace named after its accelerator finds the type that is sold with it.
    assert prices.price(Pool("aws", "us-east-1", "us-east-1a", "v100")) == 3.06
    assert prices.price(Pool("gcp", "us-east-1", "us-east-1a", "v100")) is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("us-east-1,m5.large,0\n", "line 2: on-demand price 0; accepted: more than 0"),
        ("us-east-1,m5.large,-1\n", "line 2: `price`"),
        ("us-east-1,m5.large,nan\n", "line 2: `price`"),
        ("us-east-1,m5.large,1\nus-east-1,m5.large,2\n", "line 3: second price 2"),
        ("us-east-1,,1\n", "line 2: `instancecode` is empty"),
        ("", "no rows"),
    ],
)
def test_bad_on_demand_prices_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(f"Region,InstanceCode,Price\n{rows}")
    with pytest.raises(InputError, match=message):
        read_on_demand_prices(path)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b'{"metadata": {"gap_seconds": 1}, "data": [1]}', "skypilot"),
        (b'{"SpotPriceHistory": []}', "aws-json"),
        (b"timestamp,availability_zone,instance_type,product_description,spot_price\n", "aws-csv"),
        (b"Time,InstanceType,Region,AZ,SPS,IF,OndemandPrice,SpotPrice,Savings\n", "spotlake"),
        (b"PAR1....", "spotlake"),
        (b"commit_time,generated_at,machine_type,region,ondemand_price,spot_price,commit\n", "gcp"),
        (b"use1-az1\tm5.large\tLinux/UNIX\t0.05\t2024-01-01T00:00:00+00:00\n", "aws-tsv"),
    ],
)
def test_formats_are_found_out(head: bytes, name: str) -> None:
    assert name in FORMATS
    assert detect_format("f", head) == name


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"Timestamp,Region,SpotPrice\n", "unknown format .it begins 'Timestamp,Region,SpotPrice'"),
        (b'{"x": 1}', "JSON of an unknown kind"),
        (b"[1, 2]", "JSON of an unknown kind"),
        (b"{", "not whole JSON"),
        (advisor().encode(), "accepted: `--advisor f` beside a price history"),
        (SPOTLAKE.replace("SpotPrice,", "x,").encode(), "--advisor"),
        (b"\x00\x01\x02\x03", "unknown format"),
    ],
)
def test_unknown_formats_are_refused(head: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        detect_format("f", head)


def test_an_unknown_format_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("x")
    with pytest.raises(InputError, match="format 'azure' is unknown; accepted: skypilot"):
        read_records(path, "azure")


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("us-east-1a", ("aws", "us-east-1")),
        ("us-gov-west-1b", ("aws", "us-gov-west-1")),
        ("us-west-2-lax-1a", ("aws", "us-west-2")),
        ("use1-az1", ("aws", "us-east-1")),
        ("use1-bos1-az1", ("aws", "us-east-1")),
        ("apne3-az2", ("aws", "ap-northeast-3")),
        ("usgw1-az1", ("aws", "us-gov-west-1")),
        ("euc1-az3", ("aws", "eu-central-1")),
        ("europe-west4-b", ("gcp", "europe-west4")),
        ("us-east-1", None),
        ("", None),
    ],
)
def test_zone_names(zone: str, expected: tuple[str, str] | None) -> None:
    assert provider_and_region(zone) == expected


def test_sold_as_only_maps_aws_accelerators() -> None:
    assert sold_as(Pool("aws", "r", "z", "v100_8")) == "p3.16xlarge"
    assert sold_as(POOL) == "m5.large"
    assert sold_as(Pool("gcp", "r", "z", "v100")) == "v100"
