"""The fake as one object: takes requests, keeps time, and lets a test look and meddle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any

from optimizer.fake_aws.api import (
    fleets,
    group_reports,
    groups,
    identity,
    instances,
    messages,
    places,
    prices,
    templates,
)
from optimizer.fake_aws.api import tags as tag_api
from optimizer.fake_aws.api.call import Action, Request
from optimizer.fake_aws.clock import Clock, ManualClock, milliseconds, moment
from optimizer.fake_aws.cloud.cloud import Bill, Cloud
from optimizer.fake_aws.cloud.notices import Event
from optimizer.fake_aws.cloud.templates import LaunchTemplate
from optimizer.fake_aws.control import PREFIX, answer_control
from optimizer.fake_aws.errors import AwsError
from optimizer.fake_aws.faults import Fault, Faults
from optimizer.fake_aws.journal import Call, CallLog
from optimizer.fake_aws.limits import RateLimits, throttled
from optimizer.fake_aws.options import Options
from optimizer.fake_aws.server import Server
from optimizer.fake_aws.wire import HttpRequest, RawCall, identify, operation, protocol, read_parameters
from optimizer.fake_aws.wire.models import SERVICES
from optimizer.fake_aws.wire.reply import HttpReply, render_error, render_reply
from simulator.errors import InputError, SpotwiseError
from simulator.market import Market

if TYPE_CHECKING:
    import boto3

ACTIONS: dict[str, dict[str, Action]] = {
    "ec2": {
        **instances.ACTIONS,
        **fleets.ACTIONS,
        **templates.ACTIONS,
        **prices.ACTIONS,
        **places.ACTIONS,
        **tag_api.ACTIONS,
    },
    "autoscaling": {**groups.ACTIONS, **group_reports.ACTIONS},
    "sqs": messages.ACTIONS,
    "sts": identity.ACTIONS,
}
"""What the fake can do, by service."""

LONGEST_WAIT_SECONDS = 0.1
"""Real seconds after which a waiting receive looks again whether time has brought anything."""


@lru_cache(maxsize=1)
def _session() -> boto3.Session:
    """One session for all fakes: it reads the service models once."""
    import boto3

    return boto3.Session()


class FakeAws:
    """A stateful EC2, Auto Scaling, SQS and STS on the loopback interface, on top of a market.

    Use it as a context manager, and reach it with any AWS client whose endpoint is `endpoint`:

        with FakeAws(market) as fake:
            ec2 = fake.client("ec2", "us-east-1")
            ...
            fake.advance(600)

    Attributes:
        clock: Its time. By default it stands at the market's start and moves by `advance` only.
        log: Calls that it got.
        faults: Faults in force; `fault` adds one.
        before_call: Called with each call when its parameters are read, before anything happens; may sleep,
            kill or advance.
        after_call: Called with each call when its outcome is known, before the reply leaves.
    """

    def __init__(
        self,
        market: Market,
        options: Options | None = None,
        *,
        clock: Clock | None = None,
        anchor: datetime | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: RateLimits | None = None,
        log_limit: int | None = None,
    ) -> None:
        """Listen at `port` of a loopback address.

        Args:
            market: Pools with capacity and prices.
            options: How the cloud behaves.
            clock: Its time; by default a `ManualClock` at `anchor`.
            anchor: When tick 0 of the market begins; by default the market's own start.
            host: A loopback address.
            port: TCP port; 0 takes a free one.
            limits: Request buckets of your own; by default those of AWS if the options ask for them.
            log_limit: Most calls and events that are kept; None keeps all.

        Raises:
            InputError: The market or the address cannot be used.
        """
        anchor = anchor or market.start
        self.clock: Clock = clock or ManualClock(anchor)
        self.log = CallLog(log_limit)
        self.faults = Faults()
        self.before_call: list[Callable[[Call], None]] = []
        self.after_call: list[Callable[[Call], None]] = []
        self._options = options or Options()
        self._limits = limits or (RateLimits() if self._options.rate_limits else None)
        self._cloud = Cloud(market, self._options, anchor, milliseconds(self.clock.now()), log_limit)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._numbers = count(1)
        self._closing = False
        self._clients: dict[tuple[str, ...], Any] = {}
        self._server = Server(self.handle, host, port)

    # ---------------------------------------------------------------------------------------- lifetime
    @property
    def endpoint(self) -> str:
        """URL at which it listens."""
        return self._server.url

    def client(
        self, service: str, region: str | None = None, *, access_key: str = "fake", **settings: Any
    ) -> Any:
        """A boto3 client of the fake that does not retry; `settings` go to `botocore.config.Config`.

        Args:
            service: `ec2`, `autoscaling`, `sqs` or `sts`.
            region: A region of the market; by default its first.
            access_key: Key id by which the log tells callers apart.
            settings: For example `retries={"mode": "standard", "total_max_attempts": 3}`.
        """
        from botocore.config import Config

        region = region or next(iter(self._cloud.regions))
        key = (service, region, access_key, repr(sorted(settings.items())))
        with self._lock:
            if key not in self._clients:
                config = Config(**{"retries": {"total_max_attempts": 1}, **settings})
                connect: Callable[..., Any] = _session().client  # its stubs know literal service names only
                self._clients[key] = connect(
                    service,
                    region_name=region,
                    endpoint_url=self.endpoint,
                    aws_access_key_id=access_key,
                    aws_secret_access_key="fake",  # noqa: S106 - no secret
                    config=config,
                )
            return self._clients[key]

    def close(self) -> None:
        """Stop listening and drop all connections."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            for client in self._clients.values():
                client.close()
        self._server.close()

    def __enter__(self) -> FakeAws:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------ for the test
    def now(self) -> datetime:
        """The cloud's time; never goes back, even when its clock does."""
        with self._lock:
            return moment(self._settle())

    def tick(self) -> int:
        """The market's tick in force."""
        with self._lock:
            self._settle()
            return self._cloud.tick

    def advance(self, seconds: float) -> None:
        """Move the clock and let everything happen that is due.

        Raises:
            SpotwiseError: The clock is not a `ManualClock`.
        """
        if not isinstance(self.clock, ManualClock):
            raise SpotwiseError("the fake runs on a clock that moves by itself; accepted: a ManualClock")
        with self._lock:
            self.clock.advance(seconds)
            self._settle()

    def bill(self) -> Bill:
        """What every instance cost so far."""
        with self._lock:
            self._settle()
            return self._cloud.bill()

    def events(self) -> list[Event]:
        """Every event that the cloud published."""
        with self._lock:
            self._settle()
            return list(self._cloud.notices.events)

    def held(self) -> dict[str, int]:
        """Spot instances held, by name of the pool."""
        with self._lock:
            self._settle()
            cloud = self._cloud
            return {place.name: cloud.holdings.count(pool) for pool, place in enumerate(cloud.pools.pools)}

    def fault(self, fault: Fault) -> Fault:
        """Put a fault in force."""
        with self._lock:
            return self.faults.add(fault, self._settle())

    def publish(
        self, region: str, kind: str, instance_id: str, detail: dict[str, Any], copies: int = 1
    ) -> None:
        """Send an event of your own to the notice queue, several times if wanted.

        Raises:
            InputError: There is no such region.
        """
        with self._changed:
            self._settle()
            if region not in self._cloud.regions:
                raise InputError(f"region {region}; accepted: {', '.join(self._cloud.regions)}")
            for _ in range(copies):
                self._cloud.notices.publish_raw(
                    region, kind, instance_id, detail, resource=f"arn:aws:ec2:{region}:instance/{instance_id}"
                )
            self._changed.notify_all()

    def queue_urls(self) -> dict[str, str]:
        """URL of the notice queue by region."""
        account, name = self._options.account, self._options.notice_queue
        return dict.fromkeys(self._cloud.regions, f"{self.endpoint}/{account}/{name}")

    def add_template(self, name: str, image: str = "ami-00000000000000001") -> None:
        """Make a launch template with an image, and nothing else, in every region."""
        with self._lock:
            self._settle()
            for region in self._cloud.regions.values():
                made = LaunchTemplate(
                    self._cloud.identifier("lt"), name, self._cloud.now, [({"ImageId": image}, "")]
                )
                region.templates[made.id] = made

    def limit_on_demand(self, pool: str, instances: int | None) -> None:
        """Let a pool hold no more than so many on-demand instances, those it has included; None lifts it.

        Raises:
            InputError: There is no such pool.
        """
        with self._lock:
            names = [place.name for place in self._cloud.pools.pools]
            if pool not in names:
                raise InputError(f"pool {pool}; accepted: {', '.join(names[:10])}")
            self._cloud.on_demand_limits[names.index(pool)] = instances

    def interrupt(self, *instance_ids: str) -> None:
        """Warn of, and after `notice_seconds` take, spot instances although there is capacity.

        Raises:
            InputError: One of them is no spot instance that runs.
        """
        with self._changed:
            self._settle()
            for name in instance_ids:
                self._cloud.interruptions.interrupt(name)
            self._changed.notify_all()

    def interrupt_youngest(self, count: int) -> list[str]:
        """Warn of, and then take, the youngest spot instances that run and are not warned yet.

        Returns:
            Their ids, the youngest first; fewer where there are fewer.

        Raises:
            InputError: The count is below 1.
        """
        if count < 1:
            raise InputError(f"youngest {count}; accepted: 1 or more")
        with self._lock:
            self._settle()
            held = [i for region in self._cloud.regions.values() for i in region.instances.values()]
            open_to = [i for i in held if i.held and i.lifecycle == "spot" and i.taken_ms is None]
            ids = [i.id for i in sorted(open_to, key=lambda i: -i.number)[:count]]
            self.interrupt(*ids)
            return ids

    # ---------------------------------------------------------------------------------------- requests
    def handle(self, http: HttpRequest) -> HttpReply | None:
        """Answer one HTTP request; None drops the connection without an answer."""
        if http.path.startswith(PREFIX):
            return answer_control(self, http)
        number = next(self._numbers)
        request_id = f"00000000-0000-4000-8000-{number:012x}"
        spoken, call = "json" if "x-amz-target" in http.headers else "ec2", None
        try:
            raw = identify(http)
            if raw.service not in SERVICES:
                raise AwsError("UnrecognizedClientException", f"The fake has no service {raw.service[:50]!r}")
            spoken = protocol(raw.service)
            model = operation(raw.service, raw.action)
            action = ACTIONS[raw.service].get(raw.action)
            if action is None:
                raise AwsError("NotImplemented", f"The fake does not implement {raw.action}", 501)
            call = self._begin(number, raw, action, read_parameters(raw, model, spoken))
            fault = self._carry_out(call, action, request_id)
        except AwsError as error:
            if call is not None:
                self._finish(call, error.code)
            return render_error(error, spoken, request_id)
        self._finish(call, "" if call.acted else "Unreachable")
        if fault and fault.kind == "slow_reply":
            time.sleep(fault.delay)
        if call.reply is None or (fault and fault.kind == "lost_reply"):
            return None
        return render_reply(call.reply, model, spoken, request_id)

    def _begin(self, number: int, raw: RawCall, action: Action, parameters: dict[str, Any]) -> Call:
        region = raw.region or next(iter(self._cloud.regions))
        if raw.service == "sts" and region not in self._cloud.regions:
            region = next(iter(self._cloud.regions))
        if region not in self._cloud.regions:
            raise AwsError(
                "InvalidParameterValue",
                f"The market has no region {region[:50]!r}; accepted: {', '.join(self._cloud.regions)}",
            )
        call = Call(
            number, self.now(), region, raw.service, raw.action, action.mutating, parameters, raw.access_key
        )
        for hook in self.before_call:
            hook(call)
        return call

    def _carry_out(self, call: Call, action: Action, request_id: str) -> Fault | None:
        """Carry out a call, unless a fault forbids; the fault that struck it."""
        with self._changed:
            now = self._settle()
            call.at = moment(now)
            fault = self.faults.strike(call.service, call.region, call.action, now)
            call.fault = fault.kind if fault else ""
            if fault and fault.kind == "unreachable":
                return fault
            if fault and fault.kind == "throttle":
                raise throttled(call.service)
            if fault and fault.kind == "error":
                raise AwsError(fault.code, fault.message, fault.status)
            if self._limits is not None:
                self._limits.check_call(call.service, call.region, call.action, call.mutating, now)
            call.reply = action.handler(self._request(call, request_id))
            call.acted = True
            if call.mutating:
                self.log.calls.append(call)  # in the order of the acts
            self._changed.notify_all()
        return fault

    def _finish(self, call: Call, outcome: str) -> None:
        call.outcome = outcome
        with self._lock:
            self.log.count(call)
        for hook in self.after_call:
            hook(call)

    def _request(self, call: Call, request_id: str) -> Request:
        return Request(
            cloud=self._cloud,
            region=self._cloud.regions[call.region],
            action=call.action,
            parameters=call.parameters,
            id=request_id,
            access_key=call.access_key,
            limits=self._limits,
            endpoint=self.endpoint,
            wait=self._wait,
        )

    def _wait(self, ms: int) -> bool:
        """Let others act for a while; False if the clock only moves by hand, or the fake closes."""
        seconds = min(self.clock.real_seconds(ms / 1000), LONGEST_WAIT_SECONDS)
        if seconds <= 0 or self._closing:
            return False
        self._changed.wait(seconds)
        self._settle()
        return not self._closing

    def _settle(self) -> int:
        self._cloud.schedule.settle(milliseconds(self.clock.now()))
        return self._cloud.now
