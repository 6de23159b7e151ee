"""A fake AWS for each test."""

from collections.abc import Iterator
from typing import Any

import pytest

from optimizer.fake_aws import FakeAws, Options
from simulator.market import Market
from tests.optimizer.fake_aws.scene import MakeFake, small_market


@pytest.fixture
def make_fake() -> Iterator[MakeFake]:
    made: list[FakeAws] = []

    def make(market: Market | None = None, **options: Any) -> FakeAws:
        made.append(FakeAws(market or small_market(), Options(**options)))
        return made[-1]

    yield make
    for fake in made:
        fake.close()


@pytest.fixture
def fake(make_fake: MakeFake) -> FakeAws:
    return make_fake()
