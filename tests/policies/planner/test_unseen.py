"""The planner over pools that it does not all see: its programme against plain recursion; what it asks."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product

import numpy as np
import pytest

from policies.planner import SemiMarkovPlanner, TickModel
from policies.planner.several.phases import Phases
from policies.planner.several.problem import Problem
from policies.planner.several.unseen import BELIEFS, IDLE_PREMIUM, Beliefs, solve_unseen, steadier
from policies.registry import load_policy
from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND, DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.batch import FAILED_LAUNCHES
from simulator.deadline.observability import Observability
from simulator.deadline.observation import NEVER, PartialObservation
from simulator.market import sample_market
from simulator.synthetic.semi_markov import SemiMarkovModel

TICK = 600.0
Digits = tuple[int, ...]


def model() -> SemiMarkovModel:
    hazard = np.array([[[0.08, 0.03], [0.4, 0.2]], [[0.2, 0.1], [0.05, 0.02]]])
    return SemiMarkovModel(hazard, np.array([0.4, 0.6]), (1, 3), 600, 100, 0.5)


def brute_force(  # noqa: C901 - one recursion; its branches are the choices of a tick
    phases: Phases, d: float, ratios: tuple[float, ...]
) -> Callable[..., float]:
    """Expected cost-to-go before a decision by plain recursion on exact slack, ticks of 10 minutes."""
    known = Beliefs.of(phases, 10.0)
    top = BELIEFS - 1

    def aged(now: Digits, fixed: dict[int, list[tuple[int, float]]]) -> Iterator[tuple[Digits, float]]:
        """Digits a tick later with their odds; `fixed` says what becomes of some pools."""
        each = []
        for p, c in enumerate(now):
            up = float(known.upper[c])
            later = [(int(known.lower[c]), 1 - up), (int(known.lower[c]) + 1, up)]
            each.append(fixed.get(p, later))
        for combination in product(*each):
            odds = float(np.prod([share for _, share in combination]))
            if odds > 0:
                yield tuple(c for c, _ in combination), odds

    def refused() -> list[tuple[int, float]]:
        up = float(known.upper[0])
        return [(int(known.lower[0]), 1 - up), (int(known.lower[0]) + 1, up)]

    def runs(
        left: int,
        slack: float,
        p: int,
        now: Digits,
        odds: np.ndarray,
        fixed: dict[int, list[tuple[int, float]]],
    ) -> float:
        """After a tick in pool p, which is then lost (odds[0]) or in a phase."""
        total = 0.0
        for then, share in aged(now, {**fixed, p: [(0, 1.0)]}):
            total += share * odds[0] * go(left, slack, 0, then)
            for h in range(1, len(odds)):
                there = (*then[:p], h - 1, *then[p + 1 :])
                total += share * odds[h] * go(left, slack, p + 2, there)
        return total

    def waits(
        left: int, slack: float, place: int, now: Digits, fixed: dict[int, list[tuple[int, float]]]
    ) -> float:
        return sum(share * go(left, slack, place, then) for then, share in aged(now, fixed))

    @cache
    def go(left: int, slack: float, place: int, now: Digits) -> float:
        if left * 10 - slack <= 1e-9:
            return 0.0
        left -= 1
        free = now if place < 2 else (*now[: place - 2], top, *now[place - 1 :])
        choices = [1.0 + waits(left, slack if place == 1 else slack - d, 1, free, {})]
        if slack >= d + 10:
            choices.append(IDLE_PREMIUM + waits(left, slack - 10, 0, free, {}))
            if place >= 2:
                odds = phases.step[1 + now[place - 2]]
                choices.append(ratios[place - 2] + runs(left, slack, place - 2, now, odds, {}))
        for q in range(len(ratios)):
            if slack < 2 * d + 10 or place == q + 2:
                continue
            there = float(known.there[free[q]])
            start = known.fresh[free[q]] @ phases.step[1:]
            cost = ratios[q] + runs(left, slack - d, q, free, start, {})
            if there < 1:
                gone = {q: refused()}
                if place == 0:
                    none = IDLE_PREMIUM + waits(left, slack - 10, 0, now, gone)
                elif place == 1:
                    none = 1.0 + waits(left, slack, 1, now, gone)
                else:
                    odds = phases.step[1 + now[place - 2]]
                    none = ratios[place - 2] + runs(left, slack, place - 2, now, odds, gone)
                cost = there * cost + (1 - there) * none
            choices.append(cost)
        return min(choices)

    return go


@pytest.mark.parametrize("ratios", [(0.4,), (0.4, 0.3)])
@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("overhead", [2.0, 10.0])
def test_tables_are_the_exact_programme(ratios: tuple[float, ...], up: int, overhead: float) -> None:
    phases = steadier(Phases.of(TickModel.of(model(), TICK), TICK, 1, up))
    # All reachable slacks (multiples of 2 minutes below an hour) lie on the grid: no interpolation.
    tables = solve_unseen(
        phases,
        Problem(
            tick_minutes=10, overhead_minutes=overhead, ratios=ratios, horizon_ticks=5, most_slack_minutes=50
        ),
    )
    exact = brute_force(phases, overhead, ratios)
    rng = np.random.default_rng(0)
    for _ in range(60):
        left, i = int(rng.choice([2, 4, 5])), int(rng.choice([6, 12, 24]))  # slack above the overhead
        place = int(rng.integers(0, len(ratios) + 2))
        now = rng.integers(0, BELIEFS, len(ratios))
        if place >= 2:
            now[place - 2] = rng.integers(0, up)
        joint = int((now * BELIEFS ** np.arange(len(ratios))).sum())
        found = tables.value[list(tables.levels).index(left), i, place, joint]
        wanted = exact(left, float(tables.slack_minutes[i]), place, tuple(int(c) for c in now))
        assert found == pytest.approx(wanted, abs=1e-5)


def test_beliefs_go_from_no_spot_over_nothing_to_spot_lately() -> None:
    phases = Phases.of(TickModel.of(model(), TICK), TICK, 1, 2)
    known = Beliefs.of(phases, 10.0)
    assert known.there[0] == 0.0
    assert (np.diff(known.there) > 0).all()
    assert known.there[-2] == pytest.approx(phases.share[1:].sum())
    np.testing.assert_allclose(known.fresh[1:].sum(axis=1), 1.0)
    assert ((known.upper >= 0) & (known.upper <= 1)).all()
    # The longer ago it was away, the steadier it is when found.
    assert (np.diff(known.fresh[1:, -1]) >= 0).all()


def test_steadier_phases_are_lost_less_often() -> None:
    phases = Phases.of(TickModel.of(model(), TICK), TICK, 1, 2)
    spared = steadier(phases)
    np.testing.assert_allclose(spared.step.sum(axis=1), 1.0)
    assert (spared.step[1:, 0] < phases.step[1:, 0]).all()
    np.testing.assert_array_equal(spared.step[0], phases.step[0])


def observe(
    known: list[bool],
    age: list[int],
    price: list[float],
    placement: int = IDLE,
    *,
    slack_ticks: float = 60.0,
) -> PartialObservation:
    work = 200 * TICK
    return PartialObservation(
        tick_seconds=TICK,
        work_left=np.array([work]),
        time_left=np.array([work + slack_ticks * TICK]),
        work_total=np.array([work]),
        time_total=np.array([work + slack_ticks * TICK]),
        placement=np.array([placement]),
        pending_overhead=np.zeros(1),
        unsaved_work=np.zeros(1),
        restart_overhead=np.array([180.0]),
        checkpoint_interval=np.zeros(1),
        spot_available=np.array([known]),
        spot_price=np.array([price]),
        on_demand_price=np.ones(1),
        knowledge_age=np.array([age]),
        probes=0,
    )


def test_it_asks_the_cheapest_first_and_another_one_after_a_refusal() -> None:
    planner = SemiMarkovPlanner(model())
    memory = planner.reset(1, 3)
    asked = []
    age = [NEVER] * 3
    for _ in range(3):
        action, memory = planner.act(observe([False] * 3, age, [0.3, 0.31, 0.32]), memory)
        assert action[0] >= FIRST_SPOT
        asked.append(int(action[0]) - FIRST_SPOT)
        age = [each + 1 if each >= 0 else each for each in age]
        age[asked[-1]] = 1
    assert asked == [0, 1, 2]


def test_it_leaves_on_demand_when_spot_is_likely_to_be_back() -> None:
    planner = SemiMarkovPlanner(model())
    memory = planner.reset(1, 2)
    seen = observe([False, False], [NEVER, NEVER], [0.3, 0.3], ON_DEMAND, slack_ticks=15)
    action, _ = planner.act(seen, memory)
    assert action[0] >= FIRST_SPOT


def test_it_asks_a_cheaper_pool_while_it_holds_a_dear_one() -> None:
    planner = SemiMarkovPlanner(model())
    memory = planner.reset(1, 2)
    action, _ = planner.act(observe([True, False], [0, NEVER], [0.7, 0.2], FIRST_SPOT), memory)
    assert action[0] == FIRST_SPOT + 1
    action, _ = planner.act(observe([True, False], [0, NEVER], [0.3, 0.3], FIRST_SPOT), memory)
    assert action[0] == FIRST_SPOT


POLICIES = ["on-demand", "greedy", "spot-when-available", "uniform-progress", "planner", "deadline-champion"]


def replayed(
    policy: str, observability: Observability, *, due: float | None = None, checkpoints: float = 0.0
) -> DeadlineBatch:
    """Jobs of 12 h due in 15 h, in each zone alone, one every 100 ticks."""
    market = sample_market("v100-unseen")
    zones = [market.select([zone]) for zone in range(len(market.pools))]
    job = DeadlineJob(
        12 * 3600.0, 15 * 3600.0, 720.0, checkpoints, due_seconds=due,
        lateness_usd_per_hour=2.0 * (due is not None),
    )  # fmt: skip
    start = np.arange(0, market.ticks - 90, 100)
    where = np.repeat(np.arange(len(zones)), len(start))
    batch = DeadlineBatch.of(MarketStack.of(zones), job, where, np.tile(start, len(zones)), observability)
    decider = load_policy(policy)
    memory = decider.reset(batch.size, 1)
    while not batch.done.all():
        action, memory = decider.act(batch.observe(), memory)
        batch.step(action)
    return batch


@pytest.mark.parametrize("due", [None, 13 * 3600.0])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_single_pool_that_is_seen_only_when_held_or_asked_keeps_every_deadline(
    policy: str, due: float | None
) -> None:
    batch = replayed(policy, "occupied", due=due, checkpoints=3600.0)
    assert not batch.missed.any()
    if policy in ("greedy", "planner", "deadline-champion"):
        assert batch.counts[:, FAILED_LAUNCHES].sum() > 0, "nothing was asked in vain: this proves nothing"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_single_pool_that_is_probed_is_seen(policy: str) -> None:
    full, probed = replayed(policy, "full"), replayed(policy, "probed")
    np.testing.assert_array_equal(full.cost, probed.cost)
    assert not probed.counts[:, FAILED_LAUNCHES].any()


def test_over_a_single_unseen_pool_the_planner_costs_less_than_heuristics() -> None:
    costs = {policy: float(replayed(policy, "occupied").cost.sum()) for policy in POLICIES}
    assert costs["planner"] == costs["deadline-champion"]
    assert costs["planner"] < min(costs[policy] for policy in POLICIES[:4])
    assert costs["planner"] >= float(replayed("planner", "full").cost.sum())
