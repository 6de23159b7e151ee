"""A side door for tests in another process: time, faults, interruptions, the bill and the calls, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from optimizer.fake_aws.faults import Fault
from optimizer.fake_aws.journal import Call
from optimizer.fake_aws.wire import HttpRequest
from optimizer.fake_aws.wire.reply import HttpReply
from simulator.errors import InputError, SpotwiseError

if TYPE_CHECKING:
    from optimizer.fake_aws.fake import FakeAws

PREFIX = "/_fake/"
_FAULT_FIELDS = {field.name for field in fields(Fault) if field.name not in ("struck", "_until")}


def answer_control(fake: FakeAws, http: HttpRequest) -> HttpReply:
    """Answer a request below `/_fake/`.

    GET `status`, `bill` and `calls?after=N` look; POST `advance`, `fault`, `clear-faults` and `interrupt`
    act, and want a JSON object as `application/json`, which no web page can send here unasked.
    """
    url = urlsplit(http.path)
    name = url.path.removeprefix(PREFIX)
    try:
        if name in _LOOK and not http.body:
            return _json(200, _LOOK[name](fake, dict(parse_qsl(url.query))))
        if name in _ACT:
            if http.headers.get("content-type", "").partition(";")[0] != "application/json":
                raise InputError("content type; accepted: application/json")
            document = json.loads(http.body or b"{}")
            if not isinstance(document, dict):
                raise InputError("body; accepted: a JSON object")
            return _json(200, _ACT[name](fake, document))
    except (SpotwiseError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        return _json(400, {"error": f"{error}" or repr(error)})
    return _json(404, {"error": f"accepted: GET {', '.join(_LOOK)}; POST {', '.join(_ACT)}"})


def _json(status: int, value: Any) -> HttpReply:
    return HttpReply(status, {"Content-Type": "application/json"}, json.dumps(value, default=str).encode())


def _status(fake: FakeAws, query: dict[str, str]) -> Any:
    del query
    return {
        "now": fake.now().isoformat(),
        "tick": fake.tick(),
        "cost_usd": float(fake.bill().total),
        "spot_held": {pool: count for pool, count in fake.held().items() if count},
        "events": len(fake.events()),
        "calls": dict(fake.log.counts),
        "errors": dict(fake.log.errors),
    }


def _bill(fake: FakeAws, query: dict[str, str]) -> Any:
    del query
    bill = fake.bill()
    return {
        "total_usd": float(bill.total),
        "instances_usd": {name: float(cost) for name, cost in bill.instances.items()},
    }


def _calls(fake: FakeAws, query: dict[str, str]) -> Any:
    after = int(query.get("after", "0"))
    return {"calls": [_call(call) for call in list(fake.log.calls) if call.number > after]}


def _call(call: Call) -> dict[str, Any]:
    return {
        "number": call.number,
        "at": call.at.isoformat(),
        "region": call.region,
        "service": call.service,
        "action": call.action,
        "parameters": call.parameters,
        "access_key": call.access_key,
        "outcome": call.outcome,
        "acted": call.acted,
        "fault": call.fault,
    }


def _advance(fake: FakeAws, document: dict[str, Any]) -> Any:
    fake.advance(float(document["seconds"]))
    return {"now": fake.now().isoformat()}


def _fault(fake: FakeAws, document: dict[str, Any]) -> Any:
    unknown = set(document) - _FAULT_FIELDS
    if unknown:
        raise InputError(f"fault with {sorted(unknown)[0]!r}; accepted: {', '.join(sorted(_FAULT_FIELDS))}")
    fake.fault(Fault(**document))
    return {}


def _clear_faults(fake: FakeAws, document: dict[str, Any]) -> Any:
    del document
    fake.faults.clear()
    return {}


def _interrupt(fake: FakeAws, document: dict[str, Any]) -> Any:
    if "youngest" in document:
        return {"instance_ids": fake.interrupt_youngest(int(document["youngest"]))}
    fake.interrupt(*document["instance_ids"])
    return {"instance_ids": document["instance_ids"]}


_LOOK: dict[str, Callable[[FakeAws, dict[str, str]], Any]] = {
    "status": _status,
    "bill": _bill,
    "calls": _calls,
}
_ACT: dict[str, Callable[[FakeAws, dict[str, Any]], Any]] = {
    "advance": _advance,
    "fault": _fault,
    "clear-faults": _clear_faults,
    "interrupt": _interrupt,
}
