"""The compiled rule of the shield against its definition in words, one job and one action at a time."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.shield import legal_actions
from simulator.deadline.observation import DeadlineObservation

MINUTES = st.integers(0, 400).map(lambda minutes: minutes * 60.0)


@given(
    slack=MINUTES,
    overhead=MINUTES,
    checkpoint=st.one_of(st.just(0.0), MINUTES),
    unsaved=MINUTES,
    available=st.lists(st.booleans(), min_size=1, max_size=3),
    data=st.data(),
)
@settings(max_examples=300)
def test_an_action_is_legal_exactly_if_its_slack_suffices(
    slack: float,
    overhead: float,
    checkpoint: float,
    unsaved: float,
    available: list[bool],
    data: st.DataObject,
) -> None:
    tick, pools = 600.0, len(available)
    places = [0, 1, *(2 + p for p in range(pools) if available[p])]
    placement = data.draw(st.sampled_from(places))
    legal = legal_actions(
        DeadlineObservation(
            tick_seconds=tick,
            work_left=np.array([7200.0]),
            time_left=np.array([7200.0 + slack]),
            work_total=np.array([9000.0]),
            time_total=np.array([90000.0]),
            placement=np.array([placement]),
            pending_overhead=np.zeros(1),
            unsaved_work=np.array([unsaved]),
            restart_overhead=np.array([overhead]),
            checkpoint_interval=np.array([checkpoint]),
            spot_available=np.array([available]),
            spot_price=np.ones((1, pools)),
            on_demand_price=np.ones(1),
        )
    )[0]
    at_risk = min(unsaved + tick, checkpoint)
    assert legal[0] == (slack >= overhead + tick)
    assert legal[1]
    for p in range(pools):
        launches = 1 if placement == 2 + p else 2
        assert legal[2 + p] == (available[p] and slack - at_risk >= launches * overhead + tick)
