"""Options that say how pools differ beside their prices."""

from typing import Any

import pytest

from optimizer.cli.terms import pool_terms
from simulator.deadline.terms import Move, PoolTerms
from simulator.errors import InputError

NOTHING: dict[str, Any] = {
    "throughput": (),
    "moves": (),
    "move_minutes": 0.0,
    "move_usd": 0.0,
    "data_gb": 0.0,
    "egress_usd_per_gb": 0.02,
    "copy_mb_per_second": 100.0,
    "data_region": None,
}


def test_options_that_say_nothing_are_no_terms() -> None:
    assert pool_terms(**NOTHING) is None


def test_every_option_ends_up_in_the_terms() -> None:
    terms = pool_terms(
        throughput=("g5.xlarge=0.7", "aws/us-east-1a/p3=1.2", "on-demand=0.9"),
        moves=("us-east-1:us-west-2=30,4.5",),
        move_minutes=10.0,
        move_usd=1.0,
        data_gb=60.0,
        egress_usd_per_gb=0.02,
        copy_mb_per_second=100.0,
        data_region="us-east-1",
    )
    assert terms == PoolTerms(
        throughput=(("g5.xlarge", 0.7), ("aws/us-east-1a/p3", 1.2)),
        on_demand_throughput=0.9,
        move_seconds=600.0 + 600.0,
        move_usd=1.0 + 1.2,
        moves=(Move("us-east-1", "us-west-2", 1800.0, 4.5),),
        data_region="us-east-1",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"throughput": ("0.7",)}, "--throughput '0.7'; accepted: NAME=FACTOR"),
        ({"throughput": ("a=fast",)}, "--throughput 'a=fast'"),
        ({"throughput": ("on-demand=1", "on-demand=2")}, "on-demand is given twice"),
        ({"throughput": ("a=0",)}, "throughput of a is 0.0"),
        ({"moves": ("a:b=1",)}, "--move 'a:b=1'; accepted: FROM:TO=MINUTES,USD"),
        ({"moves": ("a:b=1,x",)}, "--move 'a:b=1,x'"),
        ({"move_minutes": -1.0}, "accepted: 0 or more"),
        ({"copy_mb_per_second": 0.0}, "copies at 0.0 MB/s"),
        ({"data_region": "us-east-1"}, "--data-region us-east-1: moves take nothing"),
    ],
)
def test_bad_options_are_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pool_terms(**{**NOTHING, **options})
