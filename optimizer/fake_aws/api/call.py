"""What an action gets to see, and what all actions share: dry runs, client tokens, pages and filters."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from optimizer.fake_aws.clock import moment
from optimizer.fake_aws.cloud.cloud import Cloud
from optimizer.fake_aws.cloud.region import Region
from optimizer.fake_aws.errors import AwsError, invalid
from optimizer.fake_aws.limits import RateLimits

Item = TypeVar("Item")
Reply = dict[str, Any]
TOKEN_MS = 48 * 3_600_000
"""How long client tokens are remembered."""


@dataclass(frozen=True)
class Request:
    """One call on its way to its handler.

    Attributes:
        cloud: The cloud.
        region: The region called.
        action: The action.
        parameters: Typed parameters.
        id: Request id.
        access_key: Key id of the caller.
        limits: Request buckets; None if nothing is limited.
        endpoint: URL at which the fake is reached.
        wait: Waits a while for something to happen; False if waiting is of no use.
    """

    cloud: Cloud
    region: Region
    action: str
    parameters: dict[str, Any]
    id: str
    access_key: str
    limits: RateLimits | None
    endpoint: str
    wait: Callable[[int], bool]

    @property
    def now(self) -> datetime:
        """The time."""
        return moment(self.cloud.now)

    @property
    def seen_ms(self) -> int:
        """The moment that describe calls show: eventual consistency."""
        return self.cloud.now - int(self.cloud.options.consistency_seconds * 1000)

    def stop_dry_run(self) -> None:
        """End a dry run whose checks have passed.

        Raises:
            AwsError: `DryRunOperation`.
        """
        if self.parameters.get("DryRun"):
            raise AwsError(
                "DryRunOperation", "Request would have succeeded, but DryRun flag is set.", status=412
            )


@dataclass(frozen=True)
class Action:
    """What carries out an action, and whether it changes anything."""

    handler: Callable[[Request], Reply]
    mutating: bool = False


def once(request: Request, act: Callable[[], Reply]) -> Reply:
    """Act once per client token: the same token and parameters get the same reply.

    Raises:
        AwsError: `IdempotentParameterMismatch`, the token was used with other parameters.
    """
    token = request.parameters.get("ClientToken")
    if not token:
        return act()
    asked = {name: value for name, value in request.parameters.items() if name != "ClientToken"}
    print_ = json.dumps(asked, sort_keys=True, default=str)
    tokens, now = request.region.tokens, request.cloud.now
    key = (request.action, token)
    known = tokens.get(key)
    if known is not None and now - known[1] <= TOKEN_MS:
        if known[0] != print_:
            raise AwsError(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous "
                "request(s).",
            )
        return known[2]
    reply = act()
    while tokens and now - next(iter(tokens.values()))[1] > TOKEN_MS:
        del tokens[next(iter(tokens))]
    tokens[key] = (print_, now, reply)
    return reply


def page(
    items: Iterable[Item],
    key: Callable[[Item], Any],
    request: Request,
    *,
    most: int = 1000,
    default: int | None = None,
    size_name: str = "MaxResults",
) -> tuple[list[Item], str | None]:
    """One page of `items`, in the order of their keys, and the token of the next.

    A page goes on behind the last key shown, so nothing is left out when items come or go between pages.

    Args:
        items: All items.
        key: A number or string per item, all different.
        request: The call, with `NextToken` and the size of the page.
        most: Largest page.
        default: Size of a page if the call names none; None means everything up to `most`.
        size_name: Name of the parameter with the size.

    Raises:
        AwsError: The token or the size is unusable.
    """
    size = request.parameters.get(size_name)
    if size is not None and size < 1:
        raise invalid(f"Value ({size}) for parameter {size_name} is invalid. Accepted: 1 to {most}")
    size = min(size or default or most, most)
    ordered = sorted(items, key=key)
    token = request.parameters.get("NextToken")
    if token:
        after = _open(token)
        if ordered and type(after) is not type(key(ordered[0])):
            raise _bad_token()
        ordered = [item for item in ordered if key(item) > after]
    shown = ordered[:size]
    return shown, _seal(key(shown[-1])) if len(ordered) > size else None


def _seal(key: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _open(token: str) -> Any:
    try:
        key = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error, RecursionError):
        raise _bad_token() from None
    if not isinstance(key, (int, str)):
        raise _bad_token()
    return key


def _bad_token() -> AwsError:
    return AwsError("InvalidNextToken", "The NextToken is not one that this service gave out.")


def matches(pattern: str, text: str) -> bool:
    """Whether `text` matches a filter value, in which `*` stands for any text and `?` for one character."""
    at_pattern = at_text = mark = 0
    star = -1
    while at_text < len(text):
        if at_pattern < len(pattern) and pattern[at_pattern] == "*":
            star, mark = at_pattern, at_text
            at_pattern += 1
        elif at_pattern < len(pattern) and pattern[at_pattern] in ("?", text[at_text]):
            at_pattern, at_text = at_pattern + 1, at_text + 1
        elif star >= 0:
            mark += 1
            at_pattern, at_text = star + 1, mark
        else:
            return False
    return not pattern[at_pattern:].strip("*")


def passes(
    filters: Sequence[dict[str, Any]],
    values: Mapping[str, str | None],
    tags: dict[str, str] | None = None,
) -> bool:
    """Whether an item passes all filters of a describe call.

    Args:
        filters: `Filters` of the call: name and values, of which any may match.
        values: Value of each filter that is not about tags; None never matches.
        tags: Tags, for `tag:KEY` and `tag-key`; None if the item has none by nature.

    Raises:
        AwsError: There is no such filter.
    """
    for wanted in filters:
        name, accepted = wanted.get("Name", ""), wanted.get("Values", [])
        if tags is not None and name.startswith("tag:"):
            found = [tags[name[4:]]] if name[4:] in tags else []
        elif tags is not None and name == "tag-key":
            found = list(tags)
        elif name in values:
            value = values[name]
            found = [] if value is None else [value]
        else:
            raise invalid(f"The filter '{name[:100]}' is invalid")
        if not any(matches(pattern, text) for pattern in accepted for text in found):
            return False
    return True


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags as EC2 shows them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tags_for(parameters: dict[str, Any], resource_type: str) -> dict[str, str]:
    """Tags that a call's `TagSpecifications` give to one kind of resource."""
    return {
        tag["Key"]: tag.get("Value", "")
        for specification in parameters.get("TagSpecifications", [])
        if specification.get("ResourceType") == resource_type
        for tag in specification.get("Tags", [])
    }
