"""Resampling: the exact sample rule, step functions, and the clock that several files share."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.market.clock import Span, common_clock
from simulator.market.resample import sample_index, step_values


@given(
    ticks=st.integers(1, 500),
    tick=st.integers(1, 10_000),
    gap=st.fractions(Fraction(1, 100), 5000, max_denominator=100),
    offset=st.fractions(0, 10**6, max_denominator=1000),
)
def test_sample_index_is_the_exact_floor(ticks: int, tick: int, gap: Fraction, offset: Fraction) -> None:
    index = sample_index(ticks, tick, gap, offset_seconds=offset)
    assert index.tolist() == [int((offset + i * tick) // gap) for i in range(ticks)]


def test_golden_rule() -> None:
    assert sample_index(5, 600, Fraction(195)).tolist() == [0, 3, 6, 9, 12]
    assert sample_index(14, 600, Fraction(195))[-1] == 13 * 600 // 195 == 40


@given(
    events=st.dictionaries(st.integers(0, 1000), st.floats(0, 10), min_size=1, max_size=30),
    later=st.lists(st.integers(0, 2000), min_size=1, max_size=30),
)
def test_step_values_carry_the_last_value_forward(events: dict[int, float], later: list[int]) -> None:
    times = np.array(sorted(events))
    moments = times[0] + np.array(sorted(later))
    values = step_values(times, np.array([events[t] for t in times.tolist()]), moments)
    for moment, value in zip(moments.tolist(), values, strict=True):
        assert value == events[max(time for time in events if time <= moment)]


def test_nothing_is_known_before_the_first_event() -> None:
    with pytest.raises(ValueError, match="no value is known at 4"):
        step_values(np.array([5, 6]), np.array([1.0, 2.0]), np.array([4, 5]))


def at(hours: float) -> int:
    return round(hours * 3_600_000)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_common_clock_is_the_whole_ticks_of_the_shared_span() -> None:
    clock = common_clock([Span("a", at(1), at(10)), Span("b", at(2.1), at(9.95))], tick_seconds=600)
    assert clock.start == EPOCH + timedelta(hours=2.1)
    assert clock.ticks == 47  # 7.85 h
    aligned = common_clock(
        [Span("a", at(1), at(10)), Span("b", at(2.1), at(9.95))], tick_seconds=600, align=True
    )
    assert aligned.start == EPOCH + timedelta(hours=2, minutes=10)
    assert aligned.moments_ms()[:2].tolist() == [at(2) + 600_000, at(2) + 1_200_000]


def test_start_and_end_cut_a_window() -> None:
    clock = common_clock(
        [Span("a", at(0), at(10))],
        tick_seconds=3600,
        start=EPOCH + timedelta(hours=2),
        end=EPOCH + timedelta(hours=7.5),
    )
    assert (clock.start_ms, clock.ticks) == (at(2), 5)


@pytest.mark.parametrize(
    ("spans", "options", "message"),
    [
        ([Span("a", at(0), at(1)), Span("b", at(2), at(3))], {}, "share no span: b begins at .*, a ends at"),
        ([Span("a", at(0), at(0.1))], {}, "less than one tick"),
        ([Span("a", at(1), at(2))], {"start": EPOCH}, "--start .* lies outside the data: a begins at"),
        ([Span("a", at(1), at(2))], {"start": EPOCH + timedelta(hours=2)}, "--start"),
        ([Span("a", at(1), at(2))], {"end": EPOCH + timedelta(hours=3)}, "--end .* lies outside"),
        ([Span("a", at(1), at(2))], {"end": EPOCH + timedelta(hours=1)}, "--end"),
    ],
)
def test_a_clock_that_does_not_fit_is_refused(
    spans: list[Span], options: dict[str, datetime], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        common_clock(spans, tick_seconds=600, start=options.get("start"), end=options.get("end"))
