"""Options and clocks of the fake."""

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from optimizer.fake_aws import FakeAws, ManualClock, Options, ScaledClock
from simulator.errors import InputError, SpotwiseError
from tests.optimizer.fake_aws.scene import START, ZONE_A, MakeFake, instance_of, run, small_market, states


@pytest.mark.parametrize(
    ("wrong", "accepted"),
    [
        ({"notice_seconds": -1}, "0 to 1e9 seconds"),
        ({"boot_seconds": float("nan")}, "0 to 1e9 seconds"),
        ({"lost_share": 1.5}, "0 to 1"),
        ({"rebalance_recall": -0.1}, "0 to 1"),
        ({"rebalance_precision": 0}, "above 0"),
        ({"healing_seconds": 0}, "above 0"),
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any], accepted: str) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))} .*accepted: {accepted}"):
        Options(**wrong)


def test_usual_options_can_be_changed_one_by_one() -> None:
    usual, changed = Options.like_aws(), Options.like_aws(boot_seconds=5, seed=3)
    assert usual.rate_limits
    assert (changed.boot_seconds, changed.seed) == (5, 3)
    assert changed.consistency_seconds == usual.consistency_seconds > 0


def test_a_scaled_clock_runs_at_its_speed() -> None:
    clock = ScaledClock(START, speed=10_000)
    time.sleep(0.05)
    assert clock.now() - START >= timedelta(seconds=500)
    with pytest.raises(InputError, match="speed"):
        ScaledClock(START, speed=float("inf"))
    with FakeAws(small_market(), clock=clock) as fake, pytest.raises(SpotwiseError, match="ManualClock"):
        fake.advance(1)


def test_one_clock_can_be_shared() -> None:
    clock = ManualClock(START.astimezone(timezone(timedelta(hours=5))))
    with FakeAws(small_market(), clock=clock) as fake:
        clock.advance(650)
        assert (fake.tick(), fake.now()) == (1, START + timedelta(seconds=650))


def test_the_market_can_begin_at_another_time() -> None:
    now = datetime(2030, 6, 1, tzinfo=UTC)
    with FakeAws(small_market(), clock=ManualClock(now), anchor=now - timedelta(seconds=1200)) as fake:
        assert fake.tick() == 2
        (launched,) = run(fake)
        assert instance_of(fake, launched)["LaunchTime"] == now
        history = fake.client("ec2").describe_spot_price_history(StartTime=now - timedelta(days=1))
        at_a = [e for e in history["SpotPriceHistory"] if e["AvailabilityZone"] == ZONE_A]
        assert [event["Timestamp"] for event in at_a] == [now, now - timedelta(seconds=1200)]


def test_the_market_stands_still_after_its_last_tick(fake: FakeAws) -> None:
    fake.advance(4 * 600)
    launched = run(fake, 3)
    fake.advance(30 * 86_400)
    assert states(fake) == dict.fromkeys(launched, "running")
    assert float(fake.bill().total) == pytest.approx(3 * 30 * 24 * 0.2)


def test_a_launch_template_can_be_there_from_the_start(make_fake: MakeFake) -> None:
    fake = make_fake()
    fake.add_template("ready")
    for region, name in (("us-east-1", "m5.large"), ("us-west-2", "c5.large")):
        reply = fake.client("ec2", region).run_instances(
            LaunchTemplate={"LaunchTemplateName": "ready"}, InstanceType=name, MinCount=1, MaxCount=1
        )
        assert reply["Instances"][0]["ImageId"].startswith("ami-")


def test_what_is_not_there_is_named(fake: FakeAws) -> None:
    with pytest.raises(InputError, match=r"accepted: aws/us-east-1a/m5\.large"):
        fake.limit_on_demand("aws/us-east-1a/x9.huge", 1)
    with pytest.raises(InputError, match="us-east-1, us-west-2"):
        fake.publish("mars-north-1", "Test", "i-1", {})
    (on_demand,) = run(fake, spot=False)
    with pytest.raises(InputError, match="a spot instance that runs"):
        fake.interrupt(on_demand)
