"""Actions that are none are refused in words."""

from typing import Any

import numpy as np
import pytest

from envs.service_env import ServiceEnv
from simulator.errors import InputError


@pytest.mark.parametrize("action", [None, "all", [float("nan")] * 3, [[1, 2], [3]], [1], {"spot": 1}])
def test_odd_actions_are_refused(action: Any) -> None:
    env = ServiceEnv()
    env.reset(seed=0)
    with pytest.raises(InputError, match="accepted"):
        env.step(action)


def test_plain_lists_are_counts() -> None:
    env = ServiceEnv()
    env.reset(seed=0)
    counts = [0] * len(np.atleast_1d(env.action_space.sample()))
    _, reward, terminated, _, _ = env.step(counts)  # type: ignore[arg-type]  # a list, as users type it
    assert np.isfinite(reward)
    assert not terminated
