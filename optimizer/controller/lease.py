"""One leader among several controllers of one name: a lease that expires, with a number that only grows.

The leader renews the lease at each look; the others look on. A leader that could not renew in time is
deposed: it knows by its own steady clock, before anybody else may take over, and its calls do not leave any
more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from optimizer.controller.providers import Capacity, Group, Groups, Instance, Launch, LaunchResult, Refused
from optimizer.plan import PlanPool


class Lease(Protocol):
    """Who may act."""

    @property
    def problem(self) -> str:
        """Why nobody could be asked the last time; empty if somebody could."""
        ...

    def hold(self) -> bool:
        """Renew, or take it if it is free; whether it is held now."""
        ...

    def valid(self) -> bool:
        """Whether it is certainly still held, without asking anybody."""
        ...

    def release(self) -> None:
        """Give it back, so that another need not wait."""
        ...


class DynamoLease:
    """A lease in a DynamoDB table with the partition key `name` (string).

    Attributes:
        fence: Grows by one with each change of leader.
        problem: Why the table could not be asked the last time; empty if it could.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        name: str,
        owner: str,
        *,
        seconds: float,
        now: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        """Do not hold it yet.

        Args:
            client: boto3 client of DynamoDB.
            table: The table.
            name: Of the lease: the controllers' common name.
            owner: Unique to this process.
            seconds: The lease lasts so long after a renewal; clocks of the controllers may differ by a third.
            now: Wall clock, seconds since 1970.
            steady: Clock that never jumps, seconds.
        """
        self._client, self._table, self._name, self._owner = client, table, name, owner
        self._seconds, self._now, self._steady = seconds, now, steady
        self._until = float("-inf")
        self.fence = 0
        self.problem = ""

    def hold(self) -> bool:
        """Renew, or take it if it has expired; an unreachable table leaves it as it is."""
        from botocore.exceptions import BotoCoreError, ClientError

        asked = self._steady()
        try:
            if not (self.fence and self._renew()):
                self._take()
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                self._until, self.fence = float("-inf"), 0
            else:
                self.problem = str(error)
            return self.valid()
        except BotoCoreError as error:
            self.problem = str(error)
            return self.valid()
        self.problem = ""
        # a third is kept back for clocks that differ and for calls on their way
        self._until = asked + self._seconds * 2.0 / 3.0
        return True

    def valid(self) -> bool:
        """Whether nobody else can have it yet."""
        return self._steady() < self._until

    def release(self) -> None:
        """Let it expire now, if it is held."""
        if self.fence:
            self._update("SET expires = :zero", "#o = :me AND fence = :fence", {":zero": _number(0.0)})
            self._until, self.fence = float("-inf"), 0

    def _renew(self) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._update("SET expires = :expires", "#o = :me AND fence = :fence", {})
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            self._until, self.fence = float("-inf"), 0
            return False
        return True

    def _take(self) -> None:
        answer = self._update(
            "SET #o = :me, expires = :expires ADD fence :one",
            "attribute_not_exists(expires) OR expires < :now",
            {":now": _number(self._now()), ":one": {"N": "1"}},
        )
        self.fence = int(answer["Attributes"]["fence"]["N"])

    def _update(self, update: str, condition: str, more: dict[str, Any]) -> dict[str, Any]:
        values = {
            ":me": {"S": self._owner},
            ":expires": _number(self._now() + self._seconds),
            ":fence": {"N": str(self.fence)},
            **more,
        }
        text = f"{update} {condition}"
        found: dict[str, Any] = self._client.update_item(
            TableName=self._table,
            Key={"name": {"S": self._name}},
            UpdateExpression=update,
            ConditionExpression=condition,
            **({"ExpressionAttributeNames": {"#o": "owner"}} if "#o" in text else {}),
            ExpressionAttributeValues={key: value for key, value in values.items() if key in _words(text)},
            ReturnValues="UPDATED_NEW",
        )
        return found


def _words(expression: str) -> set[str]:
    return set(expression.replace(",", " ").replace("(", " ").replace(")", " ").split())


def _number(value: float) -> dict[str, str]:
    return {"N": f"{value:.3f}"}


class FencedCapacity:
    """A capacity whose calls leave only while the lease is certainly held."""

    def __init__(self, inner: Capacity, lease: Lease) -> None:
        """Guard a capacity."""
        self._inner, self._lease = inner, lease

    def instances(self) -> Sequence[Instance]:
        """As the capacity behind."""
        return self._inner.instances()

    def offers(self, pools: Sequence[PlanPool]) -> Mapping[str, int]:
        """As the capacity behind."""
        return self._inner.offers(pools)

    def launch(self, request: Launch) -> LaunchResult:
        """As the capacity behind, if this is the leader."""
        _check(self._lease)
        return self._inner.launch(request)

    def terminate(self, ids: Sequence[str]) -> None:
        """As the capacity behind, if this is the leader."""
        _check(self._lease)
        self._inner.terminate(ids)


class FencedGroups:
    """Groups whose calls leave only while the lease is certainly held."""

    def __init__(self, inner: Groups, lease: Lease) -> None:
        """Guard groups."""
        self._inner, self._lease = inner, lease

    def describe(self, region: str, names: Sequence[str]) -> Mapping[str, Group]:
        """As the groups behind."""
        return self._inner.describe(region, names)

    def shape(self, region: str, name: str, desired: int | None, base: int, percentage: int) -> None:
        """As the groups behind, if this is the leader."""
        _check(self._lease)
        self._inner.shape(region, name, desired, base, percentage)

    def remove(self, region: str, instance: str) -> None:
        """As the groups behind, if this is the leader."""
        _check(self._lease)
        self._inner.remove(region, instance)


def _check(lease: Lease) -> None:
    if not lease.valid():
        raise Refused("this controller is not the leader any more; the call did not leave")
