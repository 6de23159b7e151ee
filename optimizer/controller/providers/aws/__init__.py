"""AWS behind the controller's interfaces. boto3 is imported when the first client is made."""

from __future__ import annotations

import threading
import time

from optimizer.controller.config import AwsSettings
from optimizer.controller.providers.aws.calls import Caller
from optimizer.controller.providers.aws.capacity import Ec2Capacity
from optimizer.controller.providers.aws.clients import ClientMaker, Clients
from optimizer.controller.providers.aws.groups import AutoScaling
from optimizer.controller.providers.aws.interruptions import SqsInterruptions
from optimizer.controller.providers.aws.prices import SpotPrices
from optimizer.controller.providers.protocol import Clock, Provider
from optimizer.plan import GroupDemand, Plan, ServiceWorkload
from simulator.errors import InputError
from simulator.market.readers.zones import is_zone_id

__all__ = ["WallClock", "aws_provider"]


class WallClock:
    """The machine's clocks; a wait can be cut short."""

    def __init__(self) -> None:
        """Nothing to wake from yet."""
        self._wake = threading.Event()

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def steady(self) -> float:
        """Seconds of the clock that counts through a suspended machine and is never set."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wait_until(self, moment: float) -> bool:
        """Sleep, at most until a moment of the wall clock."""
        woken = self._wake.wait(max(moment - time.time(), 0.0))
        self._wake.clear()
        return woken

    def wake(self) -> None:
        """End the present or the next wait."""
        self._wake.set()


def aws_provider(
    name: str,
    settings: AwsSettings,
    plan: Plan,
    *,
    make_client: ClientMaker | None = None,
    clock: Clock | None = None,
    call: Caller | None = None,
) -> Provider:
    """AWS as a provider.

    Args:
        name: The controller's name, for tags.
        settings: From the configuration.
        plan: Its pools say which regions there are.
        make_client: Instead of boto3 with its usual credentials; AWS_ENDPOINT_URL is honoured.
        clock: Instead of the machine's.
        call: Instead of a bucket of its own.

    Raises:
        InputError: A pool is not on AWS or named by its zone ID, a workload has no launch settings, or the
            queue has no region.
    """
    for one in plan.workloads:
        strangers = [pool.name for pool in one.pools if pool.provider != "aws"]
        if strangers:
            hint = (
                ": the plan was made from a synthetic market and is for the simulated cloud; recommend again "
                "from a price history of your own (spotwise market fetch), or rehearse on spotwise fake-aws "
                "with spotwise market synth --provider aws"
                if strangers[0].startswith("synthetic/")
                else ""
            )
            raise InputError(f"workload {one.name}: pool {strangers[0]} is not on AWS{hint}")
        if isinstance(one, ServiceWorkload) and isinstance(one.demand, GroupDemand):
            continue
        numbered = [pool.zone for pool in one.pools if is_zone_id(pool.zone)]
        if numbered:
            raise InputError(
                f"workload {one.name}: {numbered[0]} is a zone ID, and AWS launches by zone name, which "
                "differs from account to account; recommend again from a market of your own account "
                "(spotwise market fetch)"
            )
        if one.name not in settings.launch and "default" not in settings.launch:
            raise InputError(
                f"workload {one.name} has no launch settings; accepted: provider.aws.launch with its name or "
                "`default`, and a launch template"
            )
    if settings.queue_url is not None and settings.queue_region is None:
        raise InputError("provider.aws.queue_url needs provider.aws.queue_region")
    clock = clock or WallClock()
    clients, caller = Clients(make_client), call or Caller(settings)
    regions = sorted({pool.region for one in plan.workloads for pool in one.pools})
    return Provider(
        "aws",
        clock=clock,
        prices=SpotPrices(clients, caller, clock.now),
        capacity=Ec2Capacity(name, settings, regions, clients, caller, clock.now),
        interruptions=SqsInterruptions(settings.queue_url, settings.queue_region, clients, caller)
        if settings.queue_url is not None and settings.queue_region is not None
        else None,
        groups=AutoScaling(clients, caller),
    )
