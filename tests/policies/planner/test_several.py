"""The planner over several pools: its programme, its belief and its decisions."""

from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.planner import SemiMarkovPlanner, TickModel
from policies.planner.cache import TableCache
from policies.planner.several.costs import write_seen_costs
from policies.planner.several.phases import Phases, chain_of
from policies.planner.several.policy import MOST_POOLS
from policies.planner.several.problem import Problem
from policies.planner.several.tables import SeveralTables
from policies.registry import load_policy
from policies.shield import legal_actions
from simulator.deadline import FIRST_SPOT, IDLE, DeadlineJob, DeadlineObservation
from simulator.deadline.replay import Windows, replay
from simulator.market import Market, Pool, sample_market
from simulator.synthetic.semi_markov import SemiMarkovModel

TICK = 600.0


def model(*, hold: float = 0.05, back: float = 0.2, persistence: float = 0.5) -> SemiMarkovModel:
    """Two types; in the better one a run with spot ends with `hold`, one without with `back`."""
    hazard = np.array([[[0.08, 0.03], [0.4, 0.2]], [[back, back / 2], [hold, hold / 2]]])
    return SemiMarkovModel(hazard, np.array([0.4, 0.6]), (1, 3), 600, 100, persistence)


def brute_force(step: np.ndarray, down: int, d: float, ratios: tuple[float, ...]) -> Callable[..., float]:
    """Expected cost-to-go before a decision by plain recursion on exact slack, ticks of 10 minutes."""
    phases, pools = len(step), len(ratios)

    @cache
    def go(left: int, slack: float, place: int, now: tuple[int, ...]) -> float:
        if left * 10 - slack <= 1e-9:
            return 0.0
        if place >= 2 and now[place - 2] < down:
            place = 0
        choices = []
        if slack >= d + 10:
            choices.append(after(left - 1, slack - 10, 0, now))
        choices.append(1.0 + after(left - 1, slack if place == 1 else slack - d, 1, now))
        for p in range(pools):
            if now[p] >= down and slack >= (d if place == p + 2 else 2 * d) + 10:
                rest = slack if place == p + 2 else slack - d
                choices.append(ratios[p] + after(left - 1, rest, p + 2, now))
        return min(choices)

    def after(left: int, slack: float, place: int, now: tuple[int, ...]) -> float:
        total = 0.0
        for then in product(range(phases), repeat=pools):
            odds = float(np.prod([step[a, b] for a, b in zip(now, then, strict=True)]))
            total += odds * go(left, slack, place, then)
        return total

    return go


@pytest.mark.parametrize(("down", "up", "ratios"), [(1, 1, (0.4, 0.3)), (1, 2, (0.3, 0.35)), (1, 1, (0.3,))])
@pytest.mark.parametrize("overhead", [2.0, 10.0])
def test_tables_are_the_exact_programme(
    down: int, up: int, ratios: tuple[float, ...], overhead: float
) -> None:
    phases = Phases.of(TickModel.of(model(), TICK), TICK, down, up)
    # All reachable slacks (multiples of 2 minutes below an hour) lie on the grid: no interpolation.
    tables = SeveralTables.solve(
        phases,
        Problem(
            tick_minutes=10, overhead_minutes=overhead, ratios=ratios, horizon_ticks=6, most_slack_minutes=50
        ),
    )
    exact = brute_force(phases.step, down, overhead, ratios)
    for left in (2, 4, 6):
        for i in (6, 12, 24):  # slack below the overhead is out of reach
            for place in range(len(ratios) + 2):
                for now in product(range(phases.size), repeat=len(ratios)):
                    joint = sum(m * phases.size**p for p, m in enumerate(now))
                    found = tables.value[list(tables.levels).index(left), i, place, joint]
                    wanted = exact(left, float(tables.slack_minutes[i]), place, now)
                    assert found == pytest.approx(wanted, abs=1e-5)


def expectation(tables: SeveralTables, level: int, at: int, place: int, weights: list[np.ndarray]) -> float:
    """Mean of one entry of a table over the joint phases of independent pools."""
    joint = np.ones(1)
    for weight in weights:
        joint = (weight[:, None] * joint[None]).ravel()  # the first pool's digit is the lowest
    return float(joint @ tables.value[level, at, place])


@pytest.mark.parametrize("pools", [2, 3, 5])
@pytest.mark.parametrize("known", [True, False])
def test_costs_are_expectations_over_the_joint_phases(pools: int, known: bool) -> None:
    """Against plain sums, where time and slack after every action lie on the grid."""
    rng = np.random.default_rng(pools)
    phases = Phases.of(TickModel.of(model(), TICK), TICK, 1, 1)
    ratio = tuple((0.3 + 0.1 * np.arange(pools)).tolist())
    tables = SeveralTables.solve(
        phases,
        Problem(tick_minutes=10, overhead_minutes=2, ratios=ratio, horizon_ticks=12, most_slack_minutes=50),
    )
    drawn = rng.random((1, pools, 2, phases.size))
    if known:
        drawn[0, np.arange(pools), rng.integers(0, 2, pools)] = 0.0
    drawn /= drawn.sum(axis=(2, 3), keepdims=True)
    grid, levels = list(tables.slack_minutes), list(tables.levels)
    for held in range(pools + 2):
        odds = drawn.copy()
        if held >= 2:  # a pool that is held has spot
            odds[0, held - 2] = [[0.0] * phases.size, phases.step[1]]
        costs = np.empty((1, pools + 2))
        write_seen_costs(
            np.arange(1), 10.0, 2.0, np.array([ratio]), np.array([5400.0]), np.array([6600.0]), np.zeros(1),
            np.array([held]), odds, tables.slack_minutes, tables.levels, tables.value, costs,
        )  # fmt: skip
        level, stay, launch, idle = levels.index(10), grid.index(20.0), grid.index(18.0), grid.index(10.0)
        both = [odds[0, p].sum(axis=0) for p in range(pools)]
        wanted = [expectation(tables, level, idle, 0, both)]
        wanted.append(1.0 + expectation(tables, level, stay if held == 1 else launch, 1, both))
        for p in range(pools):
            at = stay if held == p + 2 else launch
            found = [odds[0, p, 1] if q == p else both[q] for q in range(pools)]
            failed = [odds[0, p, 0] if q == p else both[q] for q in range(pools)]
            there = odds[0, p, 1].sum()
            kept = 0.0 if held == 0 else 1.0 if held == 1 else ratio[held - 2]
            cost = there * ratio[p] + expectation(tables, level, at, p + 2, found)
            cost += (1.0 - there) * kept
            cost += expectation(tables, level, idle if held == 0 else stay, held, failed)
            wanted.append(cost)
        np.testing.assert_allclose(costs[0], wanted, atol=1e-6)


def test_phases_keep_the_long_run_shares_and_order_states_by_outlook() -> None:
    tick_model = TickModel.of(model(persistence=1.0), TICK)
    share = tick_model.prior[:, None, None] * tick_model.stationary
    for down, up in ((1, 1), (2, 2), (1, 3)):
        phases = Phases.of(tick_model, TICK, down, up)
        np.testing.assert_allclose(phases.step.sum(axis=1), 1.0)
        lumped = np.bincount(phases.of_state.ravel(), share.ravel())
        np.testing.assert_allclose(lumped @ phases.step, lumped)
        assert set(phases.of_state[:, 0].ravel()) == set(range(down))
        assert set(phases.of_state[:, 1].ravel()) == set(range(down, down + up))
        for state in range(2):
            order = np.argsort(phases.outlook[:, state].ravel())
            assert (np.diff(phases.of_state[:, state].ravel()[order]) >= 0).all()


def observe(
    available: list[bool],
    price: list[float],
    placement: int = IDLE,
    *,
    work_ticks: float = 100.0,
    slack_ticks: float = 30.0,
    overhead: float = 720.0,
) -> DeadlineObservation:
    work = work_ticks * TICK
    return DeadlineObservation(
        tick_seconds=TICK,
        work_left=np.array([work]),
        time_left=np.array([work + slack_ticks * TICK]),
        work_total=np.array([work]),
        time_total=np.array([work + slack_ticks * TICK]),
        placement=np.array([placement]),
        pending_overhead=np.zeros(1),
        unsaved_work=np.zeros(1),
        restart_overhead=np.array([overhead]),
        checkpoint_interval=np.zeros(1),
        spot_available=np.array([available]),
        spot_price=np.array([price]),
        on_demand_price=np.ones(1),
    )


def decide(seen: DeadlineObservation, planner: SemiMarkovPlanner | None = None) -> int:
    planner = planner or SemiMarkovPlanner(model())
    action, _ = planner.act(seen, planner.reset(1, seen.pools))
    return int(action[0])


@pytest.mark.parametrize("pools", [2, 3, 4, 5, 7])
def test_it_launches_the_cheapest_of_pools_that_look_alike(pools: int) -> None:
    price = [0.5] * pools
    price[pools // 2] = 0.3
    assert decide(observe([True] * pools, price)) == FIRST_SPOT + pools // 2


def test_it_moves_where_the_saving_is_worth_the_overhead_and_stays_otherwise() -> None:
    def moves(saving: float, work_ticks: float, overhead: float = 720.0) -> bool:
        seen = observe(
            [True, True],
            [0.5, 0.5 - saving],
            FIRST_SPOT,
            work_ticks=work_ticks,
            overhead=overhead,
        )
        action = decide(seen, SemiMarkovPlanner(model(hold=0.01)))
        return action == FIRST_SPOT + 1

    assert moves(0.2, 100.0)
    assert not moves(0.005, 100.0)
    assert moves(0.05, 100.0, overhead=60.0)
    assert not moves(0.2, 2.0)  # nearly done


def test_it_idles_for_a_cheap_pool_when_time_is_plenty() -> None:
    planner = SemiMarkovPlanner(model(back=0.5))
    prices = [0.2, 0.9]
    assert decide(observe([False, True], prices, slack_ticks=200.0), planner) == IDLE
    assert decide(observe([False, True], prices, slack_ticks=5.0), planner) != IDLE


def test_a_pool_above_on_demand_price_is_not_used() -> None:
    assert decide(observe([False, True], [0.3, 1.2], slack_ticks=5.0)) < FIRST_SPOT


def test_the_belief_is_bayes_rule_on_the_chain() -> None:
    planner = SemiMarkovPlanner(model())
    tick_model = TickModel.of(planner.several.model, TICK)
    chain = chain_of(tick_model)
    shape = (2, 2, 2)
    rng = np.random.default_rng(0)
    series = rng.random((40, 3)) < 0.6
    memory = planner.reset(1, 3)
    expected = np.repeat((tick_model.prior[:, None, None] * tick_model.stationary).reshape(1, -1), 3, axis=0)
    for t, up in enumerate(series):
        if t:
            expected = expected @ chain
        for p in range(3):
            belief = expected[p].reshape(shape)
            belief[:, 1 - int(up[p])] = 0.0
            expected[p] /= belief.sum()
        _, memory = planner.act(observe(up.tolist(), [0.3, 0.4, 0.5]), memory)
        found = np.asarray(memory["belief"])[0].swapaxes(1, 2)  # pool, type, state, age
        np.testing.assert_allclose(found.reshape(3, -1), expected, atol=1e-6)  # single precision
        np.testing.assert_array_equal(np.asarray(memory["known"])[0], up)


def test_a_pool_that_does_what_cannot_be_is_known_by_its_state_only() -> None:
    hazard = np.array([[[1e-30, 0.3], [1e-30, 0.2]]])  # no run ends young
    planner = SemiMarkovPlanner(SemiMarkovModel(hazard, np.ones(1), (1, 3), 600, 100, 1.0))
    memory = planner.reset(1, 2)
    for up in (True, False, True):
        memory = planner.several.update(observe([up, True], [0.3, 0.4]), memory)
        belief = np.asarray(memory["belief"])[0]
        np.testing.assert_array_equal(np.asarray(memory["known"])[0], [up, 1])
        np.testing.assert_allclose(belief[:, int(up)].sum(axis=(1, 2))[0], 1.0, rtol=1e-5)
        assert np.isfinite(belief).all()


def test_it_learns_which_pool_is_steady() -> None:
    """At nearly equal prices the pool that never failed is preferred to the one that flaps."""
    planner = SemiMarkovPlanner(model())
    memory = planner.reset(1, 2)
    action = np.zeros(1, np.int64)
    for t in range(41):
        action, memory = planner.act(observe([t % 4 == 0, True], [0.4, 0.401]), memory)
    assert action[0] == FIRST_SPOT + 1


@st.composite
def batches(draw: st.DrawFn) -> DeadlineObservation:
    jobs, pools = draw(st.integers(1, 4)), draw(st.integers(2, MOST_POOLS + 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    overhead = rng.choice([0.0, 173.0, 720.0], jobs)
    work = rng.uniform(TICK, 40 * TICK, jobs)
    slack = overhead + rng.uniform(0.0, 60 * TICK, jobs)
    available = rng.random((jobs, pools)) < 0.5
    placement = rng.integers(0, 2, jobs)
    for i in range(jobs):
        if available[i].any() and rng.random() < 0.4:
            placement[i] = 2 + int(rng.choice(np.flatnonzero(available[i])))
    return DeadlineObservation(
        TICK, work, work + slack, work * 1.5, work * 1.5 + slack, placement, rng.choice([0.0, 50.0], jobs),
        np.zeros(jobs), overhead, np.zeros(jobs), available, rng.uniform(0.05, 1.2, (jobs, pools)),
        np.ones(jobs),
    )  # fmt: skip


def permuted(seen: DeadlineObservation, order: np.ndarray) -> DeadlineObservation:
    fields = {name: getattr(seen, name) for name in DeadlineObservation.__slots__}
    place = np.concatenate([[0, 1], 2 + np.argsort(order)])
    fields |= {
        "spot_available": seen.spot_available[:, order],
        "spot_price": seen.spot_price[:, order],
        "placement": place[seen.placement],
    }
    return DeadlineObservation(**fields)


@settings(max_examples=25)
@given(batches())
def test_decisions_are_legal_pure_and_blind_to_the_order_of_jobs_and_pools(seen: DeadlineObservation) -> None:
    planner = SemiMarkovPlanner(model())
    memory = planner.reset(seen.jobs, seen.pools)
    before = {name: np.array(array) for name, array in memory.items()}
    action, _ = planner.act(seen, memory)
    assert legal_actions(seen)[np.arange(seen.jobs), action].all()
    for name, array in before.items():
        np.testing.assert_array_equal(memory[name], array)
    for i in range(seen.jobs):
        fields = {
            name: getattr(seen, name)[i : i + 1]
            for name in DeadlineObservation.__slots__
            if name != "tick_seconds"
        }
        alone = DeadlineObservation(tick_seconds=seen.tick_seconds, **fields)
        assert decide(alone, SemiMarkovPlanner(model())) == action[i]
    order = np.random.default_rng(seen.pools).permutation(seen.pools)
    swapped, _ = planner.act(permuted(seen, order), planner.reset(seen.jobs, seen.pools))
    back = np.concatenate([[0, 1], 2 + order])
    np.testing.assert_array_equal(back[swapped], action)


@pytest.mark.parametrize("pools", [2, 4, 6])
def test_planner_and_champion_plan_over_several_pools_and_miss_nothing(pools: int) -> None:
    base = sample_market("v100-unseen")
    first = base.select([0])
    rng = np.random.default_rng(pools)
    capacity = np.stack([np.roll(first.spot_capacity[0], int(k)) for k in rng.integers(0, 3000, pools)])
    market = Market.build(
        [Pool("p", "r", f"z{p}", "t") for p in range(pools)],
        tick_seconds=base.tick_seconds,
        start=base.start,
        spot_price=np.linspace(1.0, 1.6, pools)[:, None],
        spot_capacity=capacity,
        on_demand_price=3.06,
    )
    job = DeadlineJob(20 * 3600, 24 * 3600, 720)
    windows = Windows.all_pools(market, job, 400)
    names = ("planner", "deadline-champion", "round-robin-uniform-progress")
    table = replay([load_policy(name) for name in names], windows, job)
    assert not table["missed"].any()
    cost = table.groupby("policy")["cost_usd"].mean()
    assert cost["planner"] == pytest.approx(cost["deadline-champion"], rel=0.03)
    assert cost["planner"] < 0.97 * cost["round-robin-uniform-progress"]
    assert cost["planner"] < 1.15 * table["optimum_usd"].mean()


def test_tables_used_longest_ago_go_first() -> None:
    class Reaching:
        def __init__(self, ticks: int, slack: float) -> None:
            self.levels, self.slack_minutes, self.nbytes = np.array([0, ticks]), np.array([0.0, slack]), 40

    solved: list[tuple[int, float]] = []

    def solve(ticks: int, slack: float) -> Reaching:
        solved.append((ticks, slack))
        return Reaching(ticks, slack)

    cached: TableCache[str, Reaching] = TableCache(100)
    cached.get("a", 5.0, 20.0, solve)
    cached.get("b", 5.0, 20.0, solve)
    cached.get("a", 4.2, 10.0, solve)
    assert solved == [(5, 20.0), (5, 20.0)]
    cached.get("a", 7.0, 10.0, solve)  # reaches no further: solved again, as far as before in slack
    assert solved[2:] == [(7, 20.0)]
    cached.get("c", 1.0, 1.0, solve)  # three would be too many: "b" goes
    cached.get("a", 7.0, 20.0, solve)
    cached.get("b", 5.0, 20.0, solve)
    assert solved[3:] == [(1, 1.0), (5, 20.0)]
