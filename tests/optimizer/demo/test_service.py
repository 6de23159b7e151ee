"""The demo's service: what is drawn is what the kernel granted, lost and had ready."""

import numpy as np
import pytest

from optimizer.demo.service import (
    CHAMPION,
    POLICIES,
    SPOT_ONLY,
    TARGET,
    Course,
    ServiceResult,
    Storm,
    interrupted,
    judge_service,
    ready_by_pool,
    worst_storm,
)
from optimizer.demo.service_charts import storm_chart
from optimizer.demo.service_part import BOUND, in_words, numbers, part
from policies.registry import load_policy
from simulator.deadline import MarketStack
from simulator.deadline.observation import IntArray
from simulator.market import Market, sample_market
from simulator.service import Service, ServiceBatch
from simulator.service.batch import AVAILABLE_TICKS, COUNTED_TICKS, INTERRUPTIONS
from simulator.service.replay import service_windows

TICKS = 1440


@pytest.fixture(scope="module")
def result() -> ServiceResult:
    return judge_service(0, lambda text: None)


def played(
    market: Market, service: Service, label: str, start: int
) -> tuple[ServiceBatch, IntArray, IntArray]:
    """The batch after one window, what was asked and what was granted, both (1, P + 1, T)."""
    batch = ServiceBatch(MarketStack.of([market]), service, 0, [start])
    policy = load_policy(label, "service")
    memory = policy.reset(1, len(market.pools))
    asked, granted = [], []
    while not batch.done.all():
        want, memory = policy.act(batch.observe(), memory)
        batch.step(want)
        asked.append(want.copy())
        granted.append(batch.observe().granted)
    return batch, np.stack(asked, axis=2), np.stack(granted, axis=2)


@pytest.mark.parametrize("label", [CHAMPION, SPOT_ONLY, "static-mix-50", "spothedge-1"])
def test_interruptions_and_readiness_are_those_of_the_kernel(label: str) -> None:
    market = sample_market("fleet")
    service = Service.of(5, ticks=TICKS, tick_seconds=60, cold_start_seconds=120)
    batch, asked, granted = played(market, service, label, 5000)
    assert interrupted(asked, granted).sum() == batch.counts[0, INTERRUPTIONS] > 0
    course = Course(ready_by_pool(granted[0], service.cold_start_ticks), interrupted(asked, granted)[0])
    short = course.short(service.demand)[service.cold_start_ticks :]
    assert short.sum() == batch.counts[0, COUNTED_TICKS] - batch.counts[0, AVAILABLE_TICKS] > 0


def test_an_instance_is_ready_after_it_was_held_for_the_whole_cold_start() -> None:
    held = np.array([[1, 1, 2, 2, 2, 0, 1], [0, 0, 0, 3, 3, 3, 3]])
    np.testing.assert_array_equal(ready_by_pool(held, 2), [[0, 0, 1, 1, 2, 0, 0], [0, 0, 0, 0, 0, 3, 3]])
    np.testing.assert_array_equal(ready_by_pool(held, 0), held)


def test_storm_is_the_hour_with_the_most_interruptions_of_the_champion(result: ServiceResult) -> None:
    storm = result.storm
    lost = storm.courses[CHAMPION].lost.sum(axis=0)
    windows = service_windows([("fleet", result.market)], result.service.ticks)
    week = int(np.searchsorted(windows.start, storm.start_tick, side="right")) - 1
    _, asked, granted = played(result.market, result.service, CHAMPION, int(windows.start[week]))
    whole = np.convolve(interrupted(asked, granted)[0].sum(axis=0), np.ones(60, np.int64))
    assert np.convolve(lost, np.ones(60, np.int64)).max() == whole.max()
    first = storm.start_tick - windows.start[week]
    np.testing.assert_array_equal(
        storm.courses[CHAMPION].ready,
        ready_by_pool(granted[0], result.service.cold_start_ticks)[:, first : first + len(storm.demand)],
    )


def test_storm_at_the_begin_of_a_window_is_cut_there() -> None:
    market = sample_market("fleet").window(0, 600)
    windows = service_windows([("fleet", market)], 600)
    service = Service.of(5, ticks=600, tick_seconds=60, cold_start_seconds=120)
    storm = worst_storm(market, windows, service)
    assert storm.start_tick >= 0
    assert storm.start_tick + len(storm.demand) <= 600
    assert {course.ready.shape for course in storm.courses.values()} == {(7, len(storm.demand))}


def test_part_shows_the_figures_of_the_evaluation(result: ServiceResult) -> None:
    shown = part(result)
    rows = shown["rows"]
    assert isinstance(rows, list)
    texts = {row["cells"][0]["text"]: [cell["text"] for cell in row["cells"]] for row in rows}
    assert list(texts) == [*POLICIES, BOUND]
    for label in POLICIES:
        row = result.summary["policies"][label]
        cost = row["cost_relative_to_on_demand"]["mean"]
        assert f"{row['availability']['mean']:.2%}" == texts[label][1]
        assert f"{cost:.1%}" == texts[label][4]
    bound = result.summary["clairvoyant_optimum"][f"{TARGET:g}"]["cost_relative_to_on_demand"]
    assert f"{bound:.1%}" == texts[BOUND][4]
    met = [label for label in POLICIES if result.summary["policies"][label]["target_met_windows"] == 4]
    cost_of = {
        label: result.summary["policies"][label]["cost_relative_to_on_demand"]["mean"] for label in met
    }
    assert f"in every week: {min(cost_of, key=lambda label: cost_of[label])} with" in str(shown["words"])


def test_words_say_what_the_champion_reached_also_when_it_failed(result: ServiceResult) -> None:
    champion = result.summary["policies"][CHAMPION]
    assert f"the target was met in {champion['target_met_windows']} of 4 weeks" in in_words(result)
    assert f"{1 - champion['cost_relative_to_on_demand']['mean']:.0%} less" in in_words(result)
    before = dict(champion)
    try:
        champion["target_met_windows"] = 0
        champion["availability"] = {**before["availability"], "mean": 0.5}
        champion["cost_relative_to_on_demand"] = {"mean": 1.25, "ci95": [1.2, 1.3]}
        assert "costs 25% more" in in_words(result)
        assert "50.00% of the time, and the target was met in 0 of 4 weeks" in in_words(result)
        assert [number["value"] for number in numbers(result)] == ["-25%", "50.00%", "0 of 4"]
    finally:
        champion.update(before)


def test_chart_stacks_ready_instances_and_marks_every_interruption() -> None:
    quiet = Course(np.array([[2, 2, 2, 2], [0, 0, 0, 0], [0, 0, 0, 1]]), np.zeros((2, 4), np.int64))
    hit = Course(np.array([[2, 0, 0, 0], [0, 0, 0, 2], [0, 0, 1, 0]]), np.array([[0, 2, 0, 0], [0, 0, 1, 0]]))
    storm = Storm(7, 60, ("a", "b"), np.full(4, 2), {CHAMPION: quiet, SPOT_ONLY: hit})
    figure = storm_chart(storm)
    areas = [trace for trace in figure.data if trace.stackgroup]
    assert [trace.name for trace in areas] == ["a", "b", "on-demand"] * 2
    assert [list(trace.y[:-1]) for trace in areas[3:]] == hit.ready.tolist()
    first, second = (trace for trace in figure.data if trace.name == "interrupted")
    assert list(first.x) == []
    assert list(second.text) == ["2 in a", "1 in b"]
    assert list(second.x) == pytest.approx([1 / 60, 2 / 60])
    bands = [(shape.x0, shape.x1) for shape in figure.layout.shapes]
    assert bands == [pytest.approx((1 / 60, 3 / 60))]
    assert storm.figures() == {
        "start_tick": 7,
        "ticks": 4,
        "policies": {
            CHAMPION: {"interruptions": 0, "short_minutes": 0.0, "fewest_ready": 2},
            SPOT_ONLY: {"interruptions": 3, "short_minutes": 2.0, "fewest_ready": 0},
        },
    }
