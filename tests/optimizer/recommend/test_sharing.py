"""Workloads that want the same pools: capacity is divided, and who is not served does not move."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimizer.recommend.decide import decide
from optimizer.recommend.jobs import JobCase, replay_job
from optimizer.recommend.match import NamedMarket
from optimizer.recommend.result import Report, WorkloadReport
from optimizer.recommend.run import Found
from optimizer.recommend.scenarios import Judged
from optimizer.recommend.services import Case, Outcome, World, replay_cases
from optimizer.recommend.sharing import Settled, settle
from optimizer.recommend.together import Several, replay_together
from policies.registry import load_policy
from simulator.deadline import DeadlineJob
from simulator.market import Market
from tests.optimizer.recommend.scene import TYPES, Scene, made_market

POLICIES = ("look-ahead", "spothedge-1", "spot-only")


def one_by_one(tasks: Sequence[Callable[[], None]]) -> None:
    for task in tasks:
        task()


def capped(market: Market, most: int) -> Market:
    """A market with this capacity wherever it has any."""
    return Market(
        market.pools,
        market.tick_seconds,
        market.start,
        market.spot_price,
        np.where(market.spot_capacity > 0, most, 0).astype(np.int32),
        market.on_demand_price,
        market.source,
    )


@pytest.fixture(scope="module")
def market() -> Market:
    return made_market("m5.large", 3, days=15)


def cases(market: Market, count: int = 3, windows: int = 4, ticks: int = 200) -> list[Case]:
    """Services of different demand and cold start in the same windows."""
    rng = np.random.default_rng(1)
    start = rng.integers(0, market.ticks - ticks, windows)
    return [
        Case(
            (NamedMarket("m", market),),
            np.zeros(windows, np.int64),
            start,
            rng.integers(1, 9, (windows, ticks)),
            number % 2,
            0.95,
            0.096,
        )
        for number in range(count)
    ]


def alone_with(own: list[Case], policy: str) -> list[Outcome]:
    loaded = load_policy(policy, "service")
    return replay_cases(own, lambda n: loaded, run=one_by_one)


def test_with_enough_for_all_nobody_notices_the_others(market: Market) -> None:
    own = cases(capped(market, 1000))
    together = replay_together(own, POLICIES, (), run=one_by_one)
    for case, policy, found in zip(own, POLICIES, together, strict=True):
        (alone,) = alone_with([case], policy)
        for name in ("cost", "availability", "interruptions", "hours", "asked", "held"):
            assert np.array_equal(getattr(found, name), getattr(alone, name))


def test_scarce_capacity_is_counted_once(market: Market) -> None:
    scarce = capped(market, 7)
    own = cases(scarce)
    together = replay_together(own, ["spot-only"] * 3, (), run=one_by_one)
    held = sum(one.hours[:, :-1] for one in together)
    up = np.array([(scarce.spot_capacity[:, t : t + 200] > 0).sum(axis=1) for t in own[0].start])
    assert (np.asarray(held) <= up * 7 / 6 + 1e-9).all()
    alone = alone_with(own, "spot-only")
    assert sum(one.hours.sum() for one in together) < sum(one.hours.sum() for one in alone)
    assert max(int(one.held.max()) for one in together) <= 7


def test_batches_do_not_change_what_comes_out(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    own = cases(capped(market, 7))
    policies = ("look-ahead", "spot-only", "static-mix-50")  # SpotHedge breaks ties by its number in a batch
    whole = replay_together(own, policies, (), run=one_by_one)
    monkeypatch.setattr("optimizer.recommend.together.ROWS_AT_ONCE", 3)
    for first, second in zip(whole, replay_together(own, policies, (), run=one_by_one), strict=True):
        assert np.array_equal(first.cost, second.cost)
        assert np.array_equal(first.availability, second.availability)


def test_what_others_took_is_not_there(market: Market) -> None:
    (case,) = cases(market, 1)
    loaded = load_policy("spot-only", "service")

    def held(taken: tuple[int, ...]) -> np.ndarray:
        (found,) = replay_cases([case], lambda n: loaded, [World(taken=taken)], run=one_by_one)
        return np.asarray(found.held.max(axis=0))

    assert held(()).max() <= 20
    assert not held((20, 20, 20)).any()
    assert held((18, 20, 20)).tolist() == [2, 0, 0]
    job = JobCase(
        case.markets,
        case.market,
        case.start,
        1,
        144,
        DeadlineJob(5 * 3600.0, 24 * 3600.0, 720.0, nodes=4),
        0.096,
    )
    assert not replay_job(job, "greedy", World(taken=(17, 17, 17))).hours[:, :-1].any()
    assert replay_job(job, "greedy", World(taken=(16, 17, 17))).hours[:, 0].any()


def test_policies_side_by_side_decide_each_for_its_rows(market: Market) -> None:
    own = cases(market, 2)
    rows = np.repeat([1, 0], 4)
    policies = tuple(load_policy(name, "service") for name in ("spothedge-2", "static-mix-50"))
    first, second = replay_cases(own, lambda n: Several(policies, rows), run=one_by_one)
    (mix,) = replay_cases(own[:1], lambda n: policies[1], run=one_by_one)
    (hedge,) = replay_cases(own[1:], lambda n: policies[0], run=one_by_one)
    assert np.array_equal(first.cost, mix.cost)
    assert np.array_equal(second.cost, hedge.cost)


def scarce_report(quick: Callable[..., Found], folder: Path, most: int) -> Report:
    paths = []
    for seed, name in enumerate(TYPES):
        capped(made_market(name, seed), most).save(folder / f"{name}.npz")
        paths.append(folder / f"{name}.npz")
    return quick(markets=paths).report


def named(report: Report, name: str) -> WorkloadReport:
    return next(one for one in report.workloads if one.name == name)


def test_shared_pools_with_enough_are_told_and_change_nothing(recommended: Found) -> None:
    (shared,) = recommended.report.shared_pools
    assert set(shared.workloads) == {"web-frontend", "payments-core"}
    assert shared.replay == "not-needed"
    assert shared.most_asked <= shared.least_capacity == 20
    assert shared.extra_usd == 0
    assert any("always enough" in text for text in recommended.report.notes)


def test_who_finds_not_enough_left_does_not_move(quick: Callable[..., Found], tmp_path: Path) -> None:
    report = scarce_report(quick, tmp_path, 6)
    (shared,) = report.shared_pools
    assert shared.most_asked > shared.least_capacity == 6
    assert shared.workloads == ("web-frontend",)
    assert shared.not_moved == ("payments-core",)
    stays = named(report, "payments-core").decision
    assert stays.action == "change-nothing"
    assert "also wanted by web-frontend" in stays.reasons[0]
    assert any("not enough for all: payments-core" in text for text in report.notes)
    total = next(one for one in report.total if one.role == "recommended")
    each = [one.scenario(one.decision.role) for one in report.workloads]
    assert total.monthly_usd == pytest.approx(sum(one.monthly_usd for one in each if one is not None))


def test_who_moves_with_others_costs_what_it_costs_with_them(
    quick: Callable[..., Found], tmp_path: Path
) -> None:
    enough, tight = scarce_report(quick, tmp_path, 100), scarce_report(quick, tmp_path, 13)
    (shared,) = tight.shared_pools
    assert shared.replay == "together"
    assert shared.workloads == ("web-frontend", "payments-core")
    changes = 0.0
    for name in shared.workloads:
        decision = named(tight, name).decision
        assert any("also wanted by" in reason for reason in decision.reasons)
        scenario = named(tight, name).scenario(decision.role)
        assert scenario is not None
        assert scenario.sla is not None
        assert scenario.sla.holds
        assert decision.saving_usd == scenario.saving_usd
        alone = named(enough, name).scenario(decision.role)
        assert alone is not None
        changes += scenario.monthly_usd - alone.monthly_usd
    assert shared.extra_usd == pytest.approx(changes)


def test_shared_report_is_the_same_with_one_worker(
    quick: Callable[..., Found], scene: Scene, tmp_path: Path
) -> None:
    report = scarce_report(quick, tmp_path, 9)
    again = quick(markets=[tmp_path / path.name for path in scene.markets], workers=1).report
    assert report.shared_pools
    assert again.to_json() == report.to_json()


def test_jobs_leave_one_another_what_they_never_hold(quick: Callable[..., Found], tmp_path: Path) -> None:
    roomy = job_in(quick, tmp_path, 100)
    assert isinstance(roomy.subject.case, JobCase)
    nodes = roomy.subject.case.job.nodes

    def settled(most: int) -> Settled:
        job = job_in(quick, tmp_path, most)
        named_twin = job.subject.workload.model_copy(update={"name": "twin"})
        twin = replace(job, subject=replace(job.subject, workload=named_twin))
        return settle([job, twin], [decide(job), decide(twin)], lambda title, tasks: one_by_one(tasks))

    enough = settled(2 * nodes)
    assert [one.replay for one in enough.shared] == ["not-needed"]
    assert [one.action for one in enough.decisions] == ["move", "move"]
    scarce = settled(2 * nodes - 1)
    (shared,) = scarce.shared
    assert shared.replay == "apart"
    assert (shared.workloads, shared.not_moved) == (("twin",), ("nightly-etl",))
    assert [one.action for one in scarce.decisions] == ["change-nothing", "move"]
    assert "also wanted by twin" in scarce.decisions[0].reasons[0]


def job_in(quick: Callable[..., Found], folder: Path, most: int) -> Judged:
    capped(made_market("c5.2xlarge", 1), most).save(folder / f"c5-{most}.npz")
    found = quick(markets=[folder / f"c5-{most}.npz"])
    return next(one for one in found.judged if one.subject.workload.name == "nightly-etl")
