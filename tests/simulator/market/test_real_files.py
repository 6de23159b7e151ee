"""Every trace and price file of the shared data: it becomes a market, or is refused for a stated reason."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulator.errors import InputError
from simulator.market import Market
from simulator.market.build import BuildOptions, build_market
from simulator.market.readers import read_on_demand_prices
from simulator.market.readers.advisor import read_interruption_bands

TRACES = "traces/skypilot_spot_traces"
PRICED: dict[str, Any] = {"spot_price": 0.9731, "on_demand_price": 3.06}


def test_the_nine_zones_of_2023_at_600_seconds(shared_data: Path) -> None:
    paths = sorted((shared_data / TRACES / "availability/1-node/aws-02-15-2023").glob("*.json"))
    market = build_market(paths, BuildOptions(**PRICED), format_name="skypilot")
    assert (len(market.pools), market.ticks) == (9, 6551)
    for row, path in enumerate(paths):
        samples = json.loads(path.read_text())["data"]
        assert market.spot_capacity[row].tolist() == [samples[i * 600 // 195] for i in range(market.ticks)]
        assert market.pools[row].name == f"aws/{path.name.split('_')[0]}/v100"


@pytest.mark.parametrize(
    ("folder", "options", "pools"),
    [
        ("availability/1-node/aws-02-15-2023", PRICED, 9),
        ("preemption/1-node/aws-04-19-2023", {"on_demand_price": 3.06}, 3),
        ("preemption/1-node/aws-04-22-2023", {"on_demand_price": 3.06, "fill_spot_price": 0.918}, 4),
        ("preemption/1-node/gcp-04-30-2023", PRICED, 4),
        ("preemption/4-node/aws-08-03-2023", {**PRICED, "common_span": True}, 3),
    ],
)
def test_every_skypilot_folder(shared_data: Path, folder: str, options: dict[str, Any], pools: int) -> None:
    paths = sorted((shared_data / TRACES / folder).glob("*.json"))
    assert len(paths) == pools
    market = build_market(paths, BuildOptions(**options))
    month, day, year = folder.rsplit("/", 1)[1].split("-")[1:]
    assert f"{market.start:%m-%d-%Y}" == f"{month}-{day}-{year}"
    assert {pool.provider for pool in market.pools} == {folder.rsplit("/", 1)[1].split("-")[0]}
    content = json.loads(paths[0].read_text())
    gap = content["metadata"]["gap_seconds"]
    index = np.arange(market.ticks) * 600 // gap
    assert market.spot_capacity[0].tolist() == [content["data"][i] for i in index]
    if "prices" in content:
        assert market.spot_price[0].tolist() == [content["prices"][i] for i in index]


def test_dated_zones_of_different_length_are_cut_to_the_shortest(shared_data: Path) -> None:
    paths = sorted((shared_data / TRACES / "preemption/4-node/aws-08-03-2023").glob("*.json"))
    market = build_market(paths, BuildOptions(tick_seconds=300, **PRICED))
    assert market.ticks == 3664
    assert "us-east-1f_v100_1.json ends first" in market.source


def test_raw_cli_json(shared_data: Path) -> None:
    (path,) = (shared_data / "prices/fixtures").glob("*.json")
    prices = read_on_demand_prices(shared_data / "ondemand/aws_ec2_ondemand_2015_devnambi.csv")
    market = build_market([path], BuildOptions(tick_seconds=3600, on_demand_prices=prices))
    events = pd.DataFrame(json.loads(path.read_text())["SpotPriceHistory"])
    events["Timestamp"] = pd.to_datetime(events["Timestamp"])
    events = events.sort_values("Timestamp")
    for tick in range(0, market.ticks, 97):
        moment = market.start + pd.Timedelta(hours=tick)
        expected = float(events[events["Timestamp"] <= moment]["SpotPrice"].iloc[-1])
        assert market.spot_price[0, tick] == expected
    assert (market.on_demand_price == 0.13).all()


def test_csv_events_of_2015_spike_above_on_demand(shared_data: Path) -> None:
    path = shared_data / "prices/aws_us-east-1_2015-03_08_events.csv.gz"
    market = build_market([path], BuildOptions())
    assert len(market.pools) == 15
    assert (market.spot_price > 5 * market.on_demand_price).any()
    assert market.ticks == 22_135
    one = build_market([path], BuildOptions(instance_types=("m3.medium",), zones=("us-east-1a",)))
    assert [pool.name for pool in one.pools] == ["aws/us-east-1a/m3.medium"]
    assert one.ticks > market.ticks  # the others begin later


def test_tsv_with_zone_ids(shared_data: Path) -> None:
    path = shared_data / "prices/aws_all_regions_2022-05-31_events.tsv.zst"
    prices = read_on_demand_prices(shared_data / "ondemand/aws_us-east-1_ondemand_2022-06-22.csv")
    options: dict[str, Any] = {"tick_seconds": 300, "on_demand_prices": prices, "regions": ("us-east-1",)}
    market = build_market(
        [path],
        BuildOptions(
            start=pd.Timestamp("2022-05-31T21:00Z").to_pydatetime(), drop_incomplete=True, **options
        ),
    )
    assert len(market.pools) > 50
    assert {pool.region for pool in market.pools} == {"us-east-1"}
    assert "Linux/UNIX" in market.source
    with pytest.raises(InputError, match=r"no span|less than one tick"):
        build_market([path], BuildOptions(**options))


def test_spotlake_csv_and_parquet_agree(shared_data: Path) -> None:
    markets = [
        build_market(
            [shared_data / f"prices/aws_spotlake_2024-01_hourly.{kind}"], BuildOptions(tick_seconds=3600)
        )
        for kind in ("csv.gz", "parquet")
    ]
    assert (len(markets[0].pools), markets[0].ticks) == (215, 744)
    assert (markets[0].spot_price > 0).all()  # -1 never gets through
    assert same(*markets)


def test_spotlake_parquet_of_four_types_on_one_clock(shared_data: Path) -> None:
    paths = sorted((shared_data / "prices/aws_spotlake_2024-01_02_euw1-az1").glob("*.parquet"))
    market = build_market(paths, BuildOptions(tick_seconds=3600))
    assert (len(market.pools), market.ticks) == (4, 1440)
    frame = pd.read_parquet(paths[0])
    assert market.spot_price[0].tolist() == frame["SpotPrice"].tolist()


def test_gcp_changes(shared_data: Path) -> None:
    path = shared_data / "prices/gcp_spot_ondemand_2022_2026_changes.csv.gz"
    market = build_market([path], BuildOptions(tick_seconds=3600))
    assert len(market.pools) == 160
    assert (market.spot_price < market.on_demand_price).mean() > 0.99


@pytest.mark.parametrize("name", ["aws_spot_advisor_2025-06.json", "spotlake_snapshot_2022-07-12.csv"])
def test_interruption_bands_on_spotlake_prices(shared_data: Path, name: str) -> None:
    bands = read_interruption_bands(shared_data / "advisor" / name)
    market = build_market(
        [shared_data / "prices/aws_spotlake_2024-01_hourly.parquet"],
        BuildOptions(
            tick_seconds=3600, bands=bands, regions=("us-east-1",), instance_types=("m5.large",), seed=1
        ),
    )
    assert "ASSUMED" in market.source
    assert name in market.source


@pytest.mark.parametrize("name", ["2022-06-22", "2023-04-03", "2023-12-11", "2026-07-20"])
def test_on_demand_lists(shared_data: Path, name: str) -> None:
    prices = read_on_demand_prices(shared_data / f"ondemand/aws_us-east-1_ondemand_{name}.csv")
    assert prices.prices["us-east-1", "m5.large"] == 0.096


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prices/aws_t3micro_2025-11_2026-02_regions.csv", "unknown format"),  # its zones are lost
        ("advisor/aws_spot_advisor_2025-06.json", "--advisor"),
        ("advisor/spotlake_snapshot_2022-07-12.csv", "--advisor"),
        ("traces/bamboo/p3-trace.csv", "unknown format"),  # a fleet under a target size, no pool
        ("traces/bamboo/a100x1-east1b.txt", "unknown format"),
        ("traces/parcae/trace_hh_55_65.txt", "not whole JSON"),
        ("manifest.csv", "unknown format"),
    ],
)
def test_what_is_no_market_data_is_refused(shared_data: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_market([shared_data / name], BuildOptions(**PRICED))
    assert name in str(caught.value)


def same(one: Market, other: Market) -> bool:
    return one.pools == other.pools and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("spot_price", "spot_capacity", "on_demand_price")
    )
