"""Spot prices from DescribeSpotPriceHistory: what is in force now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optimizer.controller.providers.aws.calls import Caller, ask_regions
from optimizer.controller.providers.aws.clients import Clients
from optimizer.controller.providers.protocol import Partly, Quote
from optimizer.plan import PlanPool


class SpotPrices:
    """Prices of Linux instances."""

    def __init__(self, clients: Clients, call: Caller, now: Callable[[], float]) -> None:
        """Ask with these clients."""
        self._clients, self._call, self._now = clients, call, now

    def quotes(self, pools: Sequence[PlanPool]) -> Mapping[str, Quote]:
        """The price in force per pool; AWS answers with the last change before the time that is asked for."""
        now = self._now()

        def ask(region: str) -> list[Mapping[str, Any]]:
            return self._rows(region, sorted({p.instance_type for p in pools if p.region == region}), now)

        regions = sorted({pool.region for pool in pools})
        try:
            return _quotes(pools, ask_regions(regions, ask), now)
        except Partly as error:
            raise Partly(_quotes(pools, error.found, now), error.regions) from error

    def _rows(self, region: str, types: Sequence[str], now: float) -> list[Mapping[str, Any]]:
        client = self._clients("ec2", region)
        moment = datetime.fromtimestamp(now, UTC)
        found: list[Mapping[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            reply = self._call(
                client.describe_spot_price_history,
                InstanceTypes=list(types),
                ProductDescriptions=["Linux/UNIX"],
                StartTime=moment,
                EndTime=moment,
                **more,
            )
            found += reply.get("SpotPriceHistory", [])
            if not reply.get("NextToken"):
                return found
            more = {"NextToken": reply["NextToken"]}


def _quotes(pools: Sequence[PlanPool], rows: Sequence[Mapping[str, Any]], now: float) -> dict[str, Quote]:
    found: dict[str, tuple[datetime, float]] = {}
    for row in rows:
        _keep_newest(found, row)
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
