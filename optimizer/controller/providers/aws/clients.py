"""boto3 clients by service and region; boto3 is imported when the first one is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optimizer.controller.providers.protocol import LAST_WORD

ClientMaker = Callable[[str, str], Any]
"""Makes a client of a service in a region."""


class Clients:
    """Clients that do not retry by themselves (`Caller` does) and do not wait long."""

    def __init__(self, make: ClientMaker | None = None) -> None:
        """Make clients with a function, or boto3's with its usual credentials and AWS_ENDPOINT_URL."""
        self._make = make
        self._made: dict[tuple[str, str], Any] = {}
        self._session: Any = None

    def __call__(self, service: str, region: str) -> Any:
        """The client of a service in a region."""
        key = (service, region)
        if key not in self._made:
            made = self._make(service, region) if self._make else self._boto3(service, region)
            made.meta.events.register_last("before-send", _ask_once_more)
            self._made[key] = made
        return self._made[key]

    def _boto3(self, service: str, region: str) -> Any:
        import boto3
        from botocore.config import Config

        if self._session is None:
            self._session = boto3.Session()
        config = Config(
            retries={"total_max_attempts": 1},
            connect_timeout=3,
            read_timeout=15,
            user_agent_extra="spotwise-controller",
        )
        connect: Any = self._session.client
        return connect(service, region_name=region, config=config)


def _ask_once_more(**_: Any) -> None:
    """A call may have waited for its turn, or the process may have been stopped, since it was decided."""
    check = LAST_WORD.get()
    if check is not None:
        check()
