"""Files to markets: the rules on clocks, prices and capacity."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.market import UNLIMITED_CAPACITY, Market, sample_market
from simulator.market.assumed import assumed_capacity
from simulator.market.build import BuildOptions, build_market
from simulator.market.readers import OnDemandPrices
from simulator.market.readers.advisor import InterruptionBands, hazard_per_tick
from simulator.market.summary import summarise

DAY = datetime(2023, 2, 15, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "aws-02-15-2023"
    path.mkdir()
    return path


def trace(folder: Path, name: str = "us-east-1a_v100_1", **content: object) -> Path:
    gap, data = content.pop("gap", 300), content.pop("data", [0, 1, 2, 3, 4, 5, 6])
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"metadata": {"gap_seconds": gap}, "data": data, **content}))
    return path


def history(
    folder: Path, *rows: tuple[str, str, float], name: str = "prices.csv", zone: str = "us-east-1a"
) -> Path:
    """Rows are (time on 2023-02-15, instance type, price)."""
    path = folder / name
    lines = ["timestamp,availability_zone,instance_type,product_description,spot_price"]
    lines += [f"2023-02-15T{time}Z,{zone},{kind},Linux/UNIX,{price}" for time, kind, price in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


PRICED: dict[str, Any] = {"spot_price": 1.0, "on_demand_price": 3.0}


def test_a_trace_becomes_capacity_by_the_sample_rule(folder: Path) -> None:
    market = build_market([trace(folder)], BuildOptions(tick_seconds=600, **PRICED))
    assert market.spot_capacity.tolist() == [[0, 2, 4]]  # 2100 s hold three whole ticks
    assert market.start == DAY
    assert build_market([trace(folder)], BuildOptions(tick_seconds=100, **PRICED)).ticks == 21


def test_own_prices_are_used_filled_and_overridden(folder: Path) -> None:
    paths = [
        trace(folder, data=[1, 1, 1], prices=[0.5, 0.6, 0.7]),
        trace(folder, "us-east-1b_v100_1", data=[1, 1, 1]),
    ]
    with pytest.raises(InputError, match=r"us-east-1b_v100_1.json: no spot price .* --fill-spot-price"):
        build_market(paths, BuildOptions(tick_seconds=300, on_demand_price=3.0))
    filled = build_market(paths, BuildOptions(tick_seconds=300, on_demand_price=3.0, fill_spot_price=0.9))
    assert filled.spot_price.tolist() == [[0.5, 0.6, 0.7], [0.9] * 3]
    assert "missing spot price set to 0.9" in filled.source
    over = build_market(paths, BuildOptions(tick_seconds=300, **PRICED))
    assert (over.spot_price == 1.0).all()


def test_a_trace_takes_the_price_history_of_its_pool(folder: Path) -> None:
    paths = [
        trace(folder, data=[0, 1, 1, 1, 0, 1]),
        history(
            folder,
            ("00:00:00", "p3.2xlarge", 0.9),
            ("00:12:00", "p3.2xlarge", 0.8),
            ("00:30:00", "m5.large", 1),
        ),
    ]
    options = BuildOptions(tick_seconds=300, on_demand_price=3.0, instance_types=("p3.2xlarge",))
    market = build_market(paths, options)
    assert [pool.instance_type for pool in market.pools] == ["v100"]
    assert market.spot_capacity.tolist() == [[0, 1, 1, 1, 0, 1]]
    assert market.spot_price.tolist() == [[0.9, 0.9, 0.9, 0.8, 0.8, 0.8]]


def test_a_late_history_shortens_the_market_only_where_it_is_needed(folder: Path) -> None:
    paths = [
        trace(folder, data=[1] * 12),
        history(folder, ("00:30:00", "v100", 0.9), ("01:00:00", "v100", 0.8)),
    ]
    paths[1].write_text(
        "\n".join(
            line + (",od" if i == 0 else ",3.5") for i, line in enumerate(paths[1].read_text().splitlines())
        ).replace(",od", ",ondemand_price")
    )
    needed = build_market(paths, BuildOptions(tick_seconds=300, spot_price=1.0))
    assert (needed.ticks, needed.on_demand_price[0, 0]) == (6, 3.5)
    assert build_market(paths, BuildOptions(tick_seconds=300, **PRICED)).ticks == 12


def test_price_only_pools_are_unlimited_and_say_so(folder: Path) -> None:
    path = history(folder, ("00:00:30", "m5.large", 0.05), ("01:00:00", "m5.large", 0.06))
    market = build_market([path], BuildOptions(on_demand_price=0.1))
    assert (market.spot_capacity == UNLIMITED_CAPACITY).all()
    assert "unlimited" in market.source
    # The clock begins with the first whole tick at which the price is known.
    assert market.start == datetime(2023, 2, 15, 0, 10, tzinfo=UTC)
    assert market.ticks == 5


def test_histories_of_one_pool_are_joined_across_files(folder: Path) -> None:
    one = history(folder, ("00:00:00", "m5.large", 0.05), ("01:00:00", "m5.large", 0.06))
    two = history(folder, ("01:00:00", "m5.large", 0.06), ("02:00:00", "m5.large", 0.07), name="b.csv")
    market = build_market([two, one], BuildOptions(tick_seconds=3600, on_demand_price=0.1))
    assert market.spot_price.tolist() == [[0.05, 0.06]]
    clash = history(folder, ("01:00:00", "m5.large", 0.09), name="c.csv")
    with pytest.raises(InputError, match=r"prices.csv.*costs 0.06 and 0.09 at 2023-02-15T01:00"):
        build_market([one, clash], BuildOptions(on_demand_price=0.1))


def test_products_are_chosen(folder: Path) -> None:
    path = history(folder, ("00:00:00", "m5.large", 0.05), ("01:00:00", "m5.large", 0.06))
    both = path.read_text()
    path.write_text(
        both + "\n".join(both.splitlines()[1:]).replace("Linux/UNIX", "Windows").replace("0.0", "0.1")
    )
    assert build_market([path], BuildOptions(on_demand_price=1)).spot_price.min() == 0.05
    windows = build_market([path], BuildOptions(on_demand_price=1, product="Windows"))
    assert windows.spot_price.min() == 0.15
    assert "Windows" in windows.source
    with pytest.raises(
        InputError, match="product 'SUSE' is not in the files; accepted: --product Linux/UNIX, Win"
    ):
        build_market([path], BuildOptions(on_demand_price=1, product="SUSE"))


@pytest.mark.parametrize(
    ("other", "what"),
    [({"gap": 200}, "ticks"), ({"data": [1, 2]}, "lengths")],
)
def test_unequal_zones_are_refused_unless_asked(tmp_path: Path, other: dict[str, object], what: str) -> None:
    paths = [trace(tmp_path), trace(tmp_path, "us-east-1b_v100_1", **other)]
    with pytest.raises(
        InputError, match=f"different {what}: .*1a_v100_1.json .*1b_v100_1.json .*--common-span"
    ):
        build_market(paths, BuildOptions(tick_seconds=300, **PRICED))
    market = build_market(paths, BuildOptions(tick_seconds=300, common_span=True, **PRICED))
    assert market.ticks == (4 if what == "ticks" else 2)


def test_traces_that_begin_together_are_cut_to_the_shortest(folder: Path) -> None:
    paths = [trace(folder), trace(folder, "us-east-1b_v100_1", data=[1, 2])]
    warnings: list[str] = []
    market = build_market(paths, BuildOptions(tick_seconds=300, **PRICED), on_warning=warnings.append)
    assert market.ticks == 2
    assert "1b_v100_1.json ends first" in market.source
    assert len(warnings) == 1
    assert "1a_v100_1.json: 0.17 h of" in warnings[0]


def test_dated_traces_of_different_gap_are_resampled(folder: Path) -> None:
    paths = [trace(folder), trace(folder, "us-east-1b_v100_1", gap=200)]
    assert build_market(paths, BuildOptions(tick_seconds=300, **PRICED)).ticks == 4


def test_traces_of_different_days_are_refused(folder: Path, tmp_path: Path) -> None:
    later = tmp_path / "aws-02-17-2023"
    later.mkdir()
    paths = [trace(folder), trace(later, "us-east-1b_v100_1")]
    with pytest.raises(InputError, match="different starts"):
        build_market(paths, BuildOptions(tick_seconds=300, **PRICED))
    with pytest.raises(InputError, match="share no span"):
        build_market(paths, BuildOptions(tick_seconds=300, common_span=True, **PRICED))


def test_start_and_end_cut_a_window_out_of_the_trace(folder: Path) -> None:
    window = BuildOptions(
        tick_seconds=300,
        start=datetime(2023, 2, 15, 0, 10, tzinfo=UTC),
        end=datetime(2023, 2, 15, 0, 20, tzinfo=UTC),
        **PRICED,
    )
    assert build_market([trace(folder)], window).spot_capacity.tolist() == [[2, 3]]


def test_a_trace_without_a_date_begins_in_1970_or_at_start(tmp_path: Path) -> None:
    path = trace(tmp_path)
    undated = build_market([path], BuildOptions(**PRICED))
    assert undated.start == datetime(1970, 1, 1, tzinfo=UTC)
    assert "times unknown" in undated.source
    assert build_market([path], BuildOptions(start=DAY, **PRICED)).start == DAY


def test_dated_and_undated_data_do_not_mix_silently(folder: Path, tmp_path: Path) -> None:
    paths = [trace(folder), trace(tmp_path, "us-east-1b_v100_1")]
    with pytest.raises(InputError, match=r"1b_v100_1.json: has no times"):
        build_market(paths, BuildOptions(**PRICED))


def test_unit_capacity(folder: Path) -> None:
    path = trace(folder, data=[0, 1, 1])
    options: dict[str, Any] = {"tick_seconds": 300, **PRICED}
    assert build_market([path], BuildOptions(unit_capacity=4, **options)).spot_capacity.tolist() == [
        [0, 4, 4]
    ]
    unlimited = build_market([path], BuildOptions(unit_capacity=UNLIMITED_CAPACITY, **options))
    assert unlimited.spot_capacity.tolist() == [[0, UNLIMITED_CAPACITY, UNLIMITED_CAPACITY]]
    with pytest.raises(InputError, match="counts up to 6 instances"):
        build_market([trace(folder)], BuildOptions(unit_capacity=UNLIMITED_CAPACITY, **options))


def test_two_traces_of_one_pool_are_refused_by_file(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="both are traces of pool aws/us-east-1a/v100"):
        build_market([trace(folder), trace(tmp_path)], BuildOptions(start=DAY, **PRICED))


def test_on_demand_prices_come_from_the_option_then_the_list_then_the_data(folder: Path) -> None:
    path = trace(folder)
    listed = OnDemandPrices("list.csv", {("us-east-1", "p3.2xlarge"): 3.06})
    assert (
        build_market([path], BuildOptions(spot_price=1, on_demand_prices=listed)).on_demand_price[0, 0]
        == 3.06
    )
    both = BuildOptions(spot_price=1, on_demand_prices=listed, on_demand_price=2.0)
    assert build_market([path], both).on_demand_price[0, 0] == 2.0
    with pytest.raises(InputError, match="no on-demand price for pool aws/us-east-1a/v100"):
        build_market([path], BuildOptions(spot_price=1))
    elsewhere = OnDemandPrices("list.csv", {("us-west-2", "p3.2xlarge"): 3.06})
    with pytest.raises(InputError, match=r"list.csv: no on-demand price .* row for p3.2xlarge in us-east-1"):
        build_market([path], BuildOptions(spot_price=1, on_demand_prices=elsewhere))


def test_selection_names_what_there_is(folder: Path) -> None:
    with pytest.raises(InputError, match="files have types v100; zones us-east-1a"):
        build_market([trace(folder)], BuildOptions(zones=("us-east-1b",), **PRICED))


def test_drop_incomplete(folder: Path) -> None:
    path = history(
        folder, ("00:00:00", "a1.large", 1), ("01:00:00", "b1.large", 1), ("03:00:00", "a1.large", 2)
    )
    options: dict[str, Any] = {"tick_seconds": 600, "on_demand_price": 3.0}
    assert build_market([path], BuildOptions(**options)).ticks == 12
    kept = build_market([path], BuildOptions(start=DAY, drop_incomplete=True, **options))
    assert [pool.instance_type for pool in kept.pools] == ["a1.large"]
    assert kept.ticks == 18
    with pytest.raises(InputError, match="needs --start"):
        build_market([path], BuildOptions(drop_incomplete=True, **options))
    early = datetime(2023, 1, 1, tzinfo=UTC)
    with pytest.raises(InputError, match="leaves no pool"):
        build_market([path], BuildOptions(start=early, drop_incomplete=True, **options))


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("option", ["spot_price", "fill_spot_price", "on_demand_price"])
def test_prices_out_of_range_are_refused(folder: Path, option: str, price: float) -> None:
    with pytest.raises(InputError, match="accepted: USD per hour"):
        build_market([trace(folder)], BuildOptions(**{**PRICED, option: price}))


def test_bands_make_up_availability_only_for_pools_without_a_trace(folder: Path) -> None:
    paths = [
        trace(folder, data=[1] * 2000),
        history(folder, ("00:00:00", "m5.large", 0.05), ("23:50:00", "m5.large", 0.05), zone="us-east-1b"),
    ]
    bands = InterruptionBands("bands.json", {("us-east-1", "m5.large"): 4})
    options: dict[str, Any] = {
        "spot_price": 0.05,
        "on_demand_price": 3.0,
        "bands": bands,
        "outage_hours": 5.0,
    }
    market = build_market(paths, BuildOptions(seed=3, **options))
    assert (market.spot_capacity[0] == 1).all()
    assert set(np.unique(market.spot_capacity[1])) <= {0, UNLIMITED_CAPACITY}
    assert "ASSUMED interruptions of 1 pools without a trace: bands of bands.json" in market.source
    again = build_market(paths, BuildOptions(seed=3, **options))
    np.testing.assert_array_equal(market.spot_capacity, again.spot_capacity)
    empty = InterruptionBands("bands.json", {})
    with pytest.raises(
        InputError, match=r"bands.json: no interruption band for pool aws/us-east-1b/m5.large"
    ):
        build_market(paths, BuildOptions(**{**options, "bands": empty}))
    with pytest.raises(InputError, match=r"outage of 0.01 h"):
        build_market(paths, BuildOptions(**{**options, "outage_hours": 0.01}))


def test_assumed_capacity_has_the_hazard_and_outage_asked_for() -> None:
    hazard = hazard_per_tick(4, 3600 * 24)
    up = assumed_capacity([hazard, 0.05, 0.0], 400_000, outage_ticks=8.0, seed=1) > 0
    for row, wanted in ((0, hazard), (1, 0.05)):
        losses = (up[row, :-1] & ~up[row, 1:]).sum()
        assert losses / up[row, :-1].sum() == pytest.approx(wanted, rel=0.05)
        assert (~up[row]).sum() / losses == pytest.approx(8.0, rel=0.05)
    assert up[2].all()


@given(
    data=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    gap=st.integers(1, 1000),
    tick=st.integers(1, 2000),
)
def test_any_trace_is_resampled_by_the_rule_or_too_short(
    tmp_path_factory: pytest.TempPathFactory, data: list[int], gap: int, tick: int
) -> None:
    path = trace(tmp_path_factory.mktemp("t"), data=data, gap=gap)
    options = BuildOptions(tick_seconds=tick, **PRICED)
    whole = len(data) * gap // tick
    if whole == 0:
        with pytest.raises(InputError, match="less than one tick"):
            build_market([path], options)
        return
    expected = [data[i * tick // gap] for i in range(whole)]
    assert build_market([path], options).spot_capacity.tolist() == [expected]


def test_summary_by_hand() -> None:
    market = Market.build(
        sample_market().pools[:2],
        tick_seconds=1800,
        start=DAY,
        spot_price=[[1, 2, 3, 4, 5, 10], [1] * 6],
        spot_capacity=[[1, 1, 0, 0, 0, 3], [UNLIMITED_CAPACITY] * 6],
        on_demand_price=[10, 2],
    )
    one, two = summarise(market).pools
    assert one.availability == 0.5
    assert one.interruptions == 1
    assert (one.mean_up_hours, one.mean_down_hours) == (0.75, 1.5)
    assert one.highest_capacity == 3
    assert (one.spot_price.min, one.spot_price.median, one.spot_price.max) == (1, 3.5, 10)
    assert one.spot_to_on_demand == pytest.approx(25 / 6 / 10)
    assert (two.mean_up_hours, two.mean_down_hours, two.highest_capacity) == (3.0, None, None)
    assert summarise(market).days == 0.125
