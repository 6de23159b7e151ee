"""Windows, intervals, and the replay of many services in one batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.recommend.calibration import Coverage, calibrate, cut, drawn_markets
from optimizer.recommend.jobs import JobCase, job_bound, replay_job
from optimizer.recommend.match import NamedMarket
from optimizer.recommend.services import Case, Outcome, RowMix, World, bound, replay_cases
from optimizer.recommend.windows import (
    Spans,
    demand_offsets,
    interval,
    lower_bound_of_mean,
    plan_windows,
    variance_over,
)
from policies.registry import load_policy
from policies.service import StaticMix
from simulator.deadline import DeadlineJob, MarketStack
from simulator.errors import InputError
from simulator.market import Market
from simulator.market.build import BuildOptions, build_market
from simulator.service import Service
from simulator.service.batch import ServiceBatch
from simulator.service.bound import service_bound
from tests.optimizer.recommend.scene import made_market


@pytest.fixture(scope="module")
def market() -> Market:
    return made_market("m5.large", 3, days=20)


def one_by_one(tasks: Sequence[Callable[[], None]]) -> None:
    for task in tasks:
        task()


def case(market: Market, *, windows: int = 5, ticks: int = 60, cold: int = 0, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    return Case(
        (NamedMarket("m", market),),
        np.zeros(windows, np.int64),
        rng.integers(0, market.ticks - ticks, windows),
        rng.integers(0, 9, (windows, ticks)),
        cold,
        0.95,
        0.096,
    )


def test_windows_fit_their_markets_and_spread(market: Market) -> None:
    named = [NamedMarket("a", market), NamedMarket("b", market.window(0, 5 * 144))]
    plan = plan_windows(named, 24, 50, 0)
    assert plan is not None
    assert plan.independent == 25
    assert len(plan.start) == 50
    for place, start in zip(plan.market, plan.start, strict=True):
        assert 0 <= start <= named[place].market.ticks - 144
        assert start % 6 == 0
    starts = [int(s) for m, s in zip(plan.market, plan.start, strict=True) if m == 0]
    assert all(first < second for first, second in pairwise(starts))
    assert 0.75 < len(starts) / 50 < 0.9


def test_too_few_windows_are_none(market: Market) -> None:
    assert plan_windows([NamedMarket("a", market)], 24 * 6, 50, 0) is None


@given(seed=st.integers(0, 99), span=st.sampled_from([10, 24, 100, 168, 336]))
def test_demand_begins_at_the_hour_of_the_market(seed: int, span: int) -> None:
    market = made_market("m5.large", 3, days=10)
    named = [NamedMarket("a", market)]
    plan = plan_windows(named, 24, 20, seed)
    assert plan is not None
    begin = datetime(2024, 3, 25, 6, tzinfo=UTC)
    offsets = demand_offsets(plan, named, begin, span)
    assert ((offsets >= 0) & (offsets < span)).all()
    period = 168 if span >= 168 else 24 if span >= 24 else 1
    for start, offset in zip(plan.start, offsets, strict=True):
        hour_of_market = int((market.start - begin).total_seconds() // 3600) + int(start) // 6
        assert (hour_of_market - offset) % period == 0


@given(
    hours=st.floats(1, 5000),
    more=st.floats(1.01, 50),
    independent=st.integers(4, 100),
    level=st.floats(0.5, 0.99),
)
def test_intervals_narrow_with_more_that_is_known(
    hours: float, more: float, independent: int, level: float
) -> None:
    assert 0 < variance_over(hours * more) < variance_over(hours) <= 1.0
    values = np.random.default_rng(0).normal(10, 1, 50)
    low, high = interval(values, Spans(hours, independent, 730.0), 20.0, level)
    assert low < values.mean() < high
    narrower = interval(values, Spans(hours, 2 * independent, 730.0), 20.0, level)
    assert low <= narrower[0] < narrower[1] <= high
    assert lower_bound_of_mean(values, Spans(hours, independent, 730.0)) < values.mean()


def test_a_month_is_no_worse_than_the_worst_of_shorter_windows() -> None:
    values = np.array([0.3] * 9 + [1.0])
    assert interval(values, Spans(24, 4, 730), 1.0) == (0.3, 1.0)
    low, high = interval(values, Spans(24, 4, 10), 1.0)
    assert low < 0.3
    assert high > 1.0


def test_interval_of_what_never_varied_allows_for_what_was_not_seen() -> None:
    values = np.full(9, 2.5)
    low, high = interval(values, Spans(52, 8, 730), 5.0)
    assert low == 2.5
    assert high == pytest.approx(2.5 + 2.5 * 13 / (52 * 8 + 13))
    assert interval(values, Spans(52, 8, 730), 2.0) == (2.5, 2.5)


@pytest.mark.parametrize(("base", "percentage"), [(0, 0), (0, 50), (2, 25), (3, 0), (1, 100)])
def test_mix_per_row_is_the_static_mix(market: Market, base: int, percentage: int) -> None:
    one = case(market, windows=4)
    mixes = RowMix(np.full(1, base), np.full(1, percentage))
    (ours,) = replay_cases([one], lambda n: RowMix(mixes.base[n], mixes.percentage[n]), run=one_by_one)
    (theirs,) = replay_cases([one], lambda n: StaticMix(percentage, base), run=one_by_one)
    assert np.array_equal(ours.cost, theirs.cost)
    assert np.array_equal(ours.hours, theirs.hours)
    assert np.array_equal(ours.availability, theirs.availability)


def test_many_cases_in_a_batch_are_each_alone(market: Market) -> None:
    policy = load_policy("look-ahead", "service")
    other = made_market("m5.large", 4, days=15)
    cases = [case(market, cold=1), case(other, seed=1), case(market.select([0]), seed=2)]
    together = replay_cases(cases, lambda n: policy, run=one_by_one)
    for one, found in zip(cases, together, strict=True):
        (alone,) = replay_cases([one], lambda n: policy, run=one_by_one)
        for name in ("cost", "on_demand", "availability", "hours", "interruptions"):
            assert np.array_equal(getattr(alone, name), getattr(found, name))


def test_many_windows_are_several_batches_of_one_size(market: Market) -> None:
    cases = [case(market, windows=90, ticks=12, seed=seed) for seed in range(5)]
    policy = load_policy("spot-only", "service")
    counts: list[int] = []

    def counting(tasks: Sequence[Callable[[], None]]) -> None:
        counts.append(len(tasks))
        one_by_one(tasks)

    together = replay_cases(cases, lambda n: policy, run=counting)
    (alone,) = replay_cases(cases[4:], lambda n: policy, run=counting)
    assert counts == [2, 1]  # twice 225 windows; the third workload has some in each
    assert np.array_equal(together[4].cost, alone.cost)


def test_replay_is_what_the_kernel_bills(market: Market) -> None:
    one = case(market, windows=3, cold=1)
    policy = load_policy("spothedge-1", "service")
    (found,) = replay_cases([one], lambda n: policy, run=one_by_one)
    services = [Service(row, 600, 0.95, 600.0) for row in one.demand]
    batch = ServiceBatch(MarketStack.of([market]), services, 0, one.start)
    memory = policy.reset(3, 3)
    while not batch.done.all():
        asked, memory = policy.act(batch.observe(), memory)
        batch.step(asked)
    assert found.cost == pytest.approx(batch.cost)
    assert found.availability == pytest.approx(batch.availability)


def test_on_demand_price_is_the_bills(market: Market) -> None:
    one = case(market, windows=2)
    policy = load_policy("on-demand", "service")
    (found,) = replay_cases([one], lambda n: policy, run=one_by_one)
    assert found.cost == pytest.approx(one.demand.sum(axis=1) * 0.096 / 6)
    assert found.cost == pytest.approx(found.on_demand)
    assert found.hours[:, -1] == pytest.approx(one.demand.sum(axis=1) / 6)


def test_on_demand_alone_is_not_blamed_for_a_rise(market: Market) -> None:
    one = case(market, windows=4, cold=2)
    policy = load_policy("on-demand", "service")
    (found,) = replay_cases([one], lambda n: policy, run=one_by_one)
    assert (found.availability < 1).all()
    assert found.adjusted == pytest.approx(1.0)


def test_bound_is_exact_without_cold_starts(market: Market) -> None:
    one = case(market, windows=3, ticks=40)
    found = bound(one)
    for row in range(3):
        span = slice(int(one.start[row]), int(one.start[row]) + 40)
        (exact,) = service_bound(
            market.spot_capacity[:, span],
            market.spot_price[:, span],
            np.full(40, 0.096),
            one.demand[row],
            0,
            availability=(0.95,),
            hours_per_tick=1 / 6,
            relative_gap=1e-6,
        )
        assert found[row] == pytest.approx(exact.cost, rel=1e-3)
        assert found[row] <= exact.cost * (1 + 1e-6)


def test_bound_of_a_rare_service_may_miss_of_its_own_ticks_only(market: Market) -> None:
    one = case(market, windows=3, ticks=100)
    demand = one.demand.copy()
    demand[:, 20:] = 0
    demand[:, :20] += 1
    rare = replace(one, demand=demand, idle=np.full(3, 0.8))
    assert (bound(rare) > bound(replace(rare, idle=None))).all()
    always = replace(one, demand=demand[:, :20])
    assert bound(rare) == pytest.approx(bound(always))


@pytest.mark.parametrize("policy", ["on-demand", "spot-only", "spothedge-1", "look-ahead"])
def test_no_policy_that_keeps_the_target_is_below_the_bound(market: Market, policy: str) -> None:
    one = case(market, windows=6)
    loaded = load_policy(policy, "service")
    (found,) = replay_cases([one], lambda n: loaded, run=one_by_one)
    kept = found.availability >= one.availability_target
    assert (found.cost[kept] >= bound(one)[kept] - 1e-9).all()


def test_worlds_change_what_they_say(market: Market) -> None:
    one = case(market, windows=6, ticks=600)
    policy = load_policy("spot-only", "service")

    def played(world: World) -> Outcome:
        (found,) = replay_cases([one], lambda n: policy, [world], run=one_by_one)
        return found

    plain, dearer = played(World()), played(World(spot_price=1.25))
    assert dearer.cost == pytest.approx(1.25 * plain.cost)
    gone = played(World(without_pool=1))
    assert not gone.hours[:, 1].any()
    worse = played(World(more_interruptions=True))
    assert worse.hours.sum() < plain.hours.sum()


def test_job_windows_hold_their_runs_and_none_is_below_its_bound(market: Market) -> None:
    job = DeadlineJob(5 * 3600.0, 24 * 3600.0, 720.0, nodes=4)
    one = JobCase(
        (NamedMarket("m", market),), np.zeros(3, np.int64), np.array([0, 144, 300]), 2, 144, job, 0.1
    )
    found = replay_job(one, "greedy")
    assert found.runs == pytest.approx(2.0)
    assert not found.missed.any()
    assert found.on_demand == pytest.approx(2 * 4 * 0.1 * np.ceil(5.2 * 6) / 6)
    assert (found.cost >= job_bound(one) - 1e-9).all()
    per_run = JobCase(one.markets, one.market[:1], one.start[1:2], 1, 144, job, 0.1)
    second = JobCase(one.markets, one.market[:1], one.start[1:2] + 144, 1, 144, job, 0.1)
    assert found.cost[1] == pytest.approx(
        replay_job(per_run, "greedy").cost[0] + replay_job(second, "greedy").cost[0]
    )


def test_coverage_says_how_far_it_can_be_known() -> None:
    one = Coverage("service", "spot-only", 15, 7, 20, 20, 18, 0.5, 0.2)
    assert one.share == 0.9
    assert one.range == pytest.approx((0.683, 0.988), abs=1e-3)  # the exact interval for 18 of 20
    assert replace(one, inside=20).range[1] == 1.0
    assert replace(one, inside=0).range[0] == 0.0
    fewer = replace(one, apart=4)
    assert fewer.range[0] < one.range[0]
    assert fewer.range[1] > one.range[1]


def test_recorded_market_is_cut_pool_by_pool(market: Market) -> None:
    parts, apart = cut(market, 8, 4, ("us-east-1a", "us-east-1c"))
    assert [len(part.pools) for part in parts] == [1] * 8 + [2] * 4
    assert all(part.ticks == 8 * 144 for part in parts)
    assert (parts[1].start - parts[0].start).days == 4
    assert apart == 4
    with pytest.raises(InputError, match="zone mars"):
        cut(market, 8, 4, ("mars",))
    with pytest.raises(InputError, match="at least 50"):
        cut(market, 50, 4)


@pytest.mark.slow
def test_interval_covers_recorded_zones_that_nothing_was_fitted_on(shared_data: Path) -> None:
    folder = shared_data / "traces/skypilot_spot_traces/availability/1-node/aws-02-15-2023"
    built = build_market(
        [folder / f"{zone}_v100_1.json" for zone in ("us-west-2a", "us-east-1d", "us-east-2b")],
        BuildOptions(spot_price=0.9731, on_demand_price=3.06, unit_capacity=20),
    )
    parts, apart = cut(built, 22, 4)
    found = calibrate(parts, 15, horizon_days=7, apart=apart)
    inside, cases = sum(one.inside for one in found), sum(one.cases for one in found)
    assert 0.85 <= inside / cases <= 1.0
    assert all(one.of_on_demand < 0.7 for one in found)


@pytest.mark.slow
def test_nothing_says_that_intervals_cover_less_than_85_or_more_than_95_percent_of_months() -> None:
    for one in calibrate(drawn_markets(80, 90, seed=7000), 60):
        assert one.range[1] >= 0.85
        assert one.range[0] <= 0.95
