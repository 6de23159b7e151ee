"""Spot prices from DescribeSpotPriceHistory: what is in force now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optimizer.controller.providers.aws.calls import Caller
from optimizer.controller.providers.aws.clients import Clients
from optimizer.controller.providers.protocol import Quote
from optimizer.plan import PlanPool


class SpotPrices:
    """Prices of Linux instances."""

    def __init__(self, clients: Clients, call: Caller, now: Callable[[], float]) -> None:
        """Ask with these clients."""
        self._clients, self._call, self._now = clients, call, now

    def quotes(self, pools: Sequence[PlanPool]) -> Mapping[str, Quote]:
        """The price in force per pool; AWS answers with the last change before the time that is asked for."""
        now = self._now()
        moment = datetime.fromtimestamp(now, UTC)
        found: dict[str, tuple[datetime, float]] = {}
        for region in sorted({pool.region for pool in pools}):
            client = self._clients("ec2", region)
            more: dict[str, str] = {}
            while True:
                reply = self._call(
                    client.describe_spot_price_history,
                    InstanceTypes=sorted({p.instance_type for p in pools if p.region == region}),
                    ProductDescriptions=["Linux/UNIX"],
                    StartTime=moment,
                    EndTime=moment,
                    **more,
                )
                for row in reply.get("SpotPriceHistory", []):
                    _keep_newest(found, row)
                if not reply.get("NextToken"):
                    break
                more = {"NextToken": reply["NextToken"]}
        return {pool.name: Quote(found[pool.name][1], now) for pool in pools if pool.name in found}


def _keep_newest(found: dict[str, tuple[datetime, float]], row: Mapping[str, Any]) -> None:
    name = f"aws/{row['AvailabilityZone']}/{row['InstanceType']}"
    try:
        price = float(row["SpotPrice"])
    except ValueError:
        # told and refused by the observer, which names the pool
        price = float("nan")
    if name not in found or row["Timestamp"] > found[name][0]:
        found[name] = (row["Timestamp"], price)
