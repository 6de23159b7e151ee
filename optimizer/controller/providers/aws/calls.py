"""Every call to AWS passes here: one request bucket for all, patience with throttling, errors told apart."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from optimizer.controller.config import AwsSettings
from optimizer.controller.providers.protocol import CloudError, NoCapacity, Partly, Refused, Unavailable

THROTTLED = frozenset(
    {
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "EC2ThrottledException",
        "ResourceCountExceeded",
        "SlowDown",
    }
)
WITHOUT_CAPACITY = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientCapacity",
        "SpotMaxPriceTooLow",
        "UnfulfillableCapacity",
    }
)
T = TypeVar("T")
SECRET = re.compile(
    r"(?i)((?:x-amz-security-token|x-amz-signature|x-amz-credential|signature|credential|secret\w*)"
    r"['\"]?\s*[:=]\s*['\"]?)[^\s'\",&;]+"
)
LONGEST_MESSAGE = 1000
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 16.0


class Caller:
    """Sends calls one at a time.

    A throttled call makes every call wait, longer each time until one succeeds, though none longer than its
    patience: a throttled account gets one error per round, not one per call.
    """

    def __init__(
        self,
        settings: AwsSettings,
        *,
        sleep: Callable[[float], None] = time.sleep,
        steady: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        """Begin with a full bucket."""
        self._settings, self._sleep, self._steady = settings, sleep, steady
        self._random = random.Random(seed)  # noqa: S311 -- jitter, no secret
        self._tokens, self._filled_at = float(settings.call_burst), steady()
        self._pause, self._paused_until = 0.0, 0.0
        self.throttles = 0

    def __call__(self, call: Callable[..., Any], **parameters: Any) -> Any:
        """Call it until it answers or the patience ends. Only calls that may be sent twice belong here.

        Raises:
            NoCapacity: The pool has none.
            Refused: AWS said no; nothing happened.
            Unavailable: No answer, a server error or throttling to the end of the patience.
        """
        import botocore.exceptions as errors

        until = self._steady() + self._settings.patience_seconds
        tries = 0
        while True:
            self._take_turn()
            try:
                answer = call(**parameters)
            except errors.ClientError as error:
                code = str(error.response.get("Error", {}).get("Code", ""))
                status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
                if code in WITHOUT_CAPACITY:
                    self._pause = 0.0
                    raise NoCapacity(_said(error)) from error
                if code in THROTTLED:
                    self.throttles += 1
                    self._slow_down()
                elif status < 500:
                    self._pause = 0.0
                    raise Refused(_said(error)) from error
                problem: Exception = error
            except errors.ParamValidationError as error:
                raise Refused(_said(error)) from error
            except errors.BotoCoreError as error:
                problem = error
            else:
                self._pause = 0.0
                return answer
            tries += 1
            left = until - self._steady()
            if left <= 0.0:
                raise Unavailable(f"{getattr(call, '__name__', 'call')}: {_said(problem)}") from problem
            if self._paused_until <= self._steady():
                self._sleep(min(FIRST_PAUSE_SECONDS * 2**tries, left))

    def _take_turn(self) -> None:
        wait = min(self._paused_until - self._steady(), self._settings.patience_seconds)
        if wait > 0:
            self._sleep(wait)
        now = self._steady()
        rate = self._settings.calls_per_second
        self._tokens = min(self._settings.call_burst, self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._tokens < 1.0:
            self._sleep((1.0 - self._tokens) / rate)
            self._tokens, self._filled_at = 1.0, self._steady()
        self._tokens -= 1.0

    def _slow_down(self) -> None:
        self._pause = min(max(2.0 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        self._paused_until = self._steady() + self._pause * self._random.uniform(0.75, 1.25)


def _said(error: Exception) -> str:
    """What an error says, without what must not be in logs or the journal.

    AWS repeats the request in some messages, session token and signature included.
    """
    return SECRET.sub(r"\1…", str(error))[:LONGEST_MESSAGE]


def ask_regions(regions: Iterable[str], ask: Callable[[str], list[T]]) -> list[T]:
    """Ask every region, and keep what the others say where one does not answer.

    Raises:
        Partly: A region does not answer.
        CloudError: None does.
    """
    found: list[T] = []
    failed: dict[str, str] = {}
    answered = False
    for region in regions:
        try:
            found += ask(region)
            answered = True
        except CloudError as error:
            failed[region] = str(error)
            last = error
    if failed and not answered:
        raise last
    if failed:
        raise Partly(found, failed)
    return found
