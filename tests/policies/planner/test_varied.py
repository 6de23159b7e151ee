"""The planner where pools differ in throughput and moves take time and money: programmes and decisions."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import product

import numpy as np
import pytest

from policies.planner import SemiMarkovPlanner, TickModel
from policies.planner.several.ground import Ground
from policies.planner.several.phases import Phases
from policies.planner.several.problem import Problem
from policies.planner.several.tables import SeveralTables
from policies.planner.several.unseen import BELIEFS, solve_unseen, steadier
from policies.registry import load_policy
from policies.shield import Shielded
from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND, DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.observability import Observability
from simulator.deadline.replay import Windows, replay
from simulator.deadline.terms import PoolTerms
from simulator.market import Market, Pool, sample_market
from simulator.synthetic.semi_markov import SemiMarkovModel

TICK = 600.0
NOWHERE = "nowhere"
Home = int | str


def model(*, hold: float = 0.05, back: float = 0.2) -> SemiMarkovModel:
    hazard = np.array([[[0.08, 0.03], [0.4, 0.2]], [[back, back / 2], [hold, hold / 2]]])
    return SemiMarkovModel(hazard, np.array([0.4, 0.6]), (1, 3), 600, 100, 0.5)


# Slack stays a multiple of 2 minutes: no interpolation in the fine part of the grid.
GROUND = Ground((0.8, 1.2), (0, 1), ((0.0, 20.0), (10.0, 0.0)), ((0.0, 0.3), (0.1, 0.0)), (1.1, 1.0))


def brute_force(
    step: np.ndarray,
    down: int,
    d: float,
    ratios: tuple[float, ...],
    late: tuple[float, float],
    ground: Ground,
) -> Callable[..., float]:
    """Expected cost-to-go before a decision by plain recursion on exact slack, ticks of 10 minutes."""
    phases, pools = len(step), len(ratios)

    @cache
    def go(left: int, slack: float, kind: str, where: Home, now: tuple[int, ...]) -> float:
        if left * 10 - slack <= 1e-9:
            return late[1] * max(late[0] - slack, 0.0)
        if kind == "spot" and now[int(where)] < down:
            kind, where = "idle", ground.location[int(where)]
        home = ground.location[int(where)] if kind == "spot" else where
        choices = []
        if slack >= d + 10:
            choices.append(after(left - 1, slack - 10, "idle", home, now))
        there = int(np.argmin(ground.on_demand)) if home == NOWHERE else int(home)
        stays = kind == "on-demand"
        choices.append(
            ground.on_demand[there] + after(left - 1, slack if stays else slack - d, "on-demand", there, now)
        )
        for p in range(pools):
            if now[p] < down:
                continue
            minutes, fee = d, 0.0
            if kind == "spot" and where == p:
                minutes = 0.0
            elif home != NOWHERE:
                minutes += ground.move_minutes[int(home)][ground.location[p]]
                fee = ground.move_cost[int(home)][ground.location[p]]
            if slack >= (d if kind == "spot" and where == p else d + minutes) + 10:
                rest = slack - 10 + ground.speed[p] * (10 - minutes)
                choices.append(ratios[p] + fee + after(left - 1, round(rest, 6), "spot", p, now))
        return min(choices)

    def after(left: int, slack: float, kind: str, where: Home, now: tuple[int, ...]) -> float:
        total = 0.0
        for then in product(range(phases), repeat=pools):
            odds = float(np.prod([step[a, b] for a, b in zip(now, then, strict=True)]))
            total += odds * go(left, slack, kind, where, then)
        return total

    return go


@pytest.mark.parametrize("late", [(0.0, 0.0), (40.0, 0.05)])
@pytest.mark.parametrize("ground", [GROUND, Ground((0.8, 1.2), (0, 0)), Ground.flat(2)])
def test_tables_are_the_exact_programme(ground: Ground, late: tuple[float, float]) -> None:
    ratios = (0.4, 0.45)
    phases = Phases.of(TickModel.of(model(), TICK), TICK, 1, 1)
    tables = SeveralTables.solve(
        phases,
        Problem(
            tick_minutes=10,
            overhead_minutes=10,
            ratios=ratios,
            horizon_ticks=6,
            most_slack_minutes=50,
            ground=ground,
            late_minutes=late[0],
            late_rate=late[1],
        ),
    )
    exact = brute_force(phases.step, 1, 10.0, ratios, late, ground)
    homes: list[Home] = list(range(ground.locations))
    idle = [*homes, NOWHERE] if ground.locations > 1 else homes
    places = [("idle", home) for home in idle] + [("on-demand", home) for home in homes]
    places += [("spot", p) for p in range(2)]
    assert tables.value.shape[2] == len(places) == ground.places
    for left, slack in product((2, 4, 6), (12.0, 24.0, 48.0)):  # slack below the overhead is out of reach
        i = int(np.argmin(np.abs(tables.slack_minutes - slack)))
        assert tables.slack_minutes[i] == pytest.approx(slack)
        for (k, (kind, where)), now in product(enumerate(places), product(range(2), repeat=2)):
            found = tables.value[list(tables.levels).index(left), i, k, now[0] + 2 * now[1]]
            assert found == pytest.approx(exact(left, slack, kind, where, now), abs=1e-5)


def test_unseen_programme_costs_more_where_moves_do_and_less_where_pools_are_faster() -> None:
    phases = steadier(Phases.of(TickModel.of(model(), TICK), TICK, 1, 1))

    def least(ground: Ground, place: int) -> float:
        tables = solve_unseen(
            phases,
            Problem(
                tick_minutes=10,
                overhead_minutes=10,
                ratios=(0.4, 0.45),
                horizon_ticks=40,
                most_slack_minutes=200,
                ground=ground,
            ),
        )
        level = int(np.searchsorted(tables.levels, 40))
        slack = int(np.searchsorted(tables.slack_minutes, 150.0))
        return float(tables.value[level, slack, place, (BELIEFS**2) // 2])

    free = replace(GROUND, move_minutes=((0.0, 0.0),) * 2, move_cost=((0.0, 0.0),) * 2)
    flat = replace(free, on_demand=(1.0, 1.0), speed=(1.0, 1.0))
    assert least(flat, 0) == pytest.approx(least(Ground.flat(2), 0), rel=1e-6)
    assert least(free, 0) < least(GROUND, 0)
    assert least(GROUND, 2) < least(GROUND, 0)  # data that are nowhere yet may begin anywhere
    assert least(replace(free, speed=(0.8, 1.4)), 0) < least(free, 0)


def market(capacity: np.ndarray, price: list[float], regions: tuple[str, ...]) -> Market:
    return Market.build(
        [Pool("p", region, f"{region}-{k}", "t") for k, region in enumerate(regions)],
        tick_seconds=600,
        start=datetime(2024, 1, 1, tzinfo=UTC),
        spot_price=np.array(price)[:, None],
        spot_capacity=capacity,
        on_demand_price=1.0,
    )


def decide(
    price: list[float],
    terms: PoolTerms,
    placement: int = IDLE,
    *,
    regions: tuple[str, ...] = ("east", "west"),
    work_hours: float = 20.0,
    observability: Observability = "full",
) -> int:
    job = DeadlineJob(work_hours * 3600, (work_hours + 5) * 3600, 180.0, terms=terms)
    built = market(np.ones((len(price), 200), int), price, regions)
    batch = DeadlineBatch.of(MarketStack.of([built], terms), job, 0, 0, observability)
    if placement != IDLE:
        batch.step(np.array([placement]))
    planner = SemiMarkovPlanner(model(hold=0.01))
    seen = batch.observe()
    action, _ = planner.act(seen, planner.reset(1, seen.pools))
    return int(action[0])


@pytest.mark.parametrize("observability", ["full", "occupied"])
def test_it_takes_the_pool_in_which_work_costs_least(observability: Observability) -> None:
    def terms(factor: float) -> PoolTerms:
        return PoolTerms(throughput=(("p/west-1/t", factor),))

    assert decide([0.4, 0.45], terms(1.4), observability=observability) == FIRST_SPOT + 1
    assert decide([0.4, 0.45], terms(1.0), observability=observability) == FIRST_SPOT
    assert decide([0.45, 0.4], terms(0.7), observability=observability) == FIRST_SPOT


def test_it_moves_where_that_pays_what_the_move_costs() -> None:
    def moves(usd: float, minutes: float, work_hours: float = 20.0) -> bool:
        terms = PoolTerms(move_usd=usd, move_seconds=60.0 * minutes)
        return decide([0.5, 0.3], terms, FIRST_SPOT, work_hours=work_hours) == FIRST_SPOT + 1

    assert moves(0.0, 0.0)
    assert moves(0.1, 2.0)
    assert not moves(10.0, 0.0)
    assert not moves(0.0, 290.0)
    assert not moves(0.1, 2.0, work_hours=0.5)


def test_a_move_within_a_region_costs_nothing_more() -> None:
    terms = PoolTerms(move_usd=10.0)
    at = decide([0.5, 0.3, 0.29], terms, FIRST_SPOT, regions=("east", "east", "west"))
    assert at == FIRST_SPOT + 1


def test_a_single_slow_pool_is_known_to_be_slow() -> None:
    def terms(factor: float) -> PoolTerms:
        return PoolTerms(throughput=(("t", factor),))

    assert decide([0.5], terms(1.0), regions=("east",)) == FIRST_SPOT
    assert decide([0.5], terms(0.3), regions=("east",)) == ON_DEMAND


@pytest.mark.parametrize("observability", ["full", "probed", "occupied"])
@pytest.mark.parametrize("pools", [2, 3, 6])
def test_terms_that_say_nothing_change_no_cost(pools: int, observability: Observability) -> None:
    few = sample_market("v100-unseen").select(range(pools))
    terms = PoolTerms()
    plain = DeadlineJob(10 * 3600, 13 * 3600, 720)
    planner = SemiMarkovPlanner(model())
    starts = [100, 1000]
    one = DeadlineBatch.of(MarketStack.of([few]), plain, 0, starts, observability)
    other = DeadlineBatch.of(
        MarketStack.of([few], terms), replace(plain, terms=terms), 0, starts, observability
    )
    memory = planner.several.reset(2, pools)
    rng = np.random.default_rng(0)
    for _ in range(40):
        seen, also = one.observe(), other.observe()
        memory = planner.several.update(seen, memory)
        costs = [planner.several.expected_costs(each, memory) for each in (seen, also)]
        np.testing.assert_allclose(costs[0], costs[1], rtol=1e-5)
        action = np.where(rng.random(2) < 0.6, one.placement, rng.integers(0, pools + 2, 2))
        one.step(action)
        other.step(action)


@pytest.mark.parametrize("observability", ["full", "occupied"])
def test_late_jobs_over_several_pools_cost_less_than_by_either_rule(observability: Observability) -> None:
    """Weighing lateness beats taking the due time for the deadline and beats ignoring it."""
    rng = np.random.default_rng(4)
    flips = rng.random((2, 12_000)) < 0.04
    built = market((np.cumsum(flips, axis=1) % 2).astype(int), [0.3, 0.35], ("east", "east"))
    hard = DeadlineJob(10 * 3600, 20 * 3600, 720)
    job = replace(hard, due_seconds=12 * 3600.0, lateness_usd_per_hour=0.35)
    planner = load_policy("planner")
    assert isinstance(planner, Shielded)
    windows = Windows.all_pools(built, job, 120)

    def cost(each: DeadlineJob) -> float:
        table = replay([planner], windows, each, observability=observability, with_optimum=False)
        assert not table["missed"].any()
        if each.lateness_usd_per_hour == 0.0:
            late = np.maximum(table["finish_hours"] - 12.0, 0.0) * 0.35
            return float((table["cost_usd"] + late).mean())
        return float(table["cost_usd"].mean())

    assert cost(job) < min(cost(hard), cost(replace(hard, deadline_seconds=12 * 3600.0)))
