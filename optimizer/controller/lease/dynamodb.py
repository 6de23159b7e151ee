"""A lease in DynamoDB: conditional writes, by the controllers' own clocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optimizer.controller.lease.protocol import Hold


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
        self._seconds, self._now = seconds, now
        self._hold = Hold(seconds, steady)
        self.fence = 0
        self.problem = ""

    def hold(self) -> bool:
        """Renew, or take it if it has expired; an unreachable table leaves it as it is."""
        return self._ask(take=True)

    def keep(self) -> bool:
        """Renew it if it is held."""
        return self._ask(take=False)

    def _ask(self, *, take: bool) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        asked = self._hold.asking()
        try:
            if not (self.fence and self._renew()):
                if not take:
                    return False
                self._take()
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                self._lost()
            else:
                self.problem = str(error)
            return self.valid()
        except BotoCoreError as error:
            self.problem = str(error)
            return self.valid()
        self.problem = ""
        self._hold.renewed(asked)
        return True

    def valid(self) -> bool:
        """Whether nobody else can have it yet."""
        return self._hold.valid()

    def fresh(self) -> bool:
        """Whether it will be held for a good while."""
        return self._hold.fresh()

    def release(self) -> None:
        """Let it expire now, if it is held."""
        from botocore.exceptions import BotoCoreError, ClientError

        if not self.fence:
            return
        try:
            self._update("SET expires = :zero", "#o = :me AND fence = :fence", {":zero": _number(0.0)})
        except (BotoCoreError, ClientError) as error:
            self.problem = str(error)
        self._lost()

    def _lost(self) -> None:
        self._hold.lost()
        self.fence = 0

    def _renew(self) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._update("SET expires = :expires", "#o = :me AND fence = :fence", {})
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            self._lost()
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
