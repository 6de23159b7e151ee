"""Compliance by spend: what share of the cost of taggable resources carries the tags it must."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimizer.billing.tags.policy import Resource, Status, TagPolicy, judge

if TYPE_CHECKING:
    from optimizer.billing.ledger import Ledger


@dataclass(frozen=True, slots=True)
class KeyCompliance:
    """Spend of one key in one currency, by how the resources stand with it."""

    key: str
    currency: str
    valid: float
    inferred: float
    invalid: float
    missing: float

    @property
    def share(self) -> float:
        """Share of the spend that carries a valid tag itself; 1 where there is no spend."""
        total = self.valid + self.inferred + self.invalid + self.missing
        return self.valid / total if total > 0 else 1.0

    @property
    def share_with_inferred(self) -> float:
        """Share of the spend whose value is known, carried or inferred."""
        total = self.valid + self.inferred + self.invalid + self.missing
        return (self.valid + self.inferred) / total if total > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Offender:
    """A resource that lacks tags.

    Attributes:
        resource: Its id.
        kind: Kind in the policy.
        account: Account it is in.
        owner: Who owns it as far as can be told: the Owner tag, carried or inferred, else the name of the
            account.
        cost: Its amortised cost in the span of the ledger.
        currency: Currency of that.
        problems: Per key, what is wrong.
    """

    resource: str
    kind: str
    account: str
    owner: str
    cost: float
    currency: str
    problems: dict[str, str]


@dataclass(frozen=True)
class Compliance:
    """What a ledger says about its tags.

    Attributes:
        keys: Per mandatory key and currency.
        offenders: Resources with a missing or invalid tag, dearest first.
        taggable: Spend on resources that must carry something, per currency.
        untaggable: All other spend, per currency: taxes, fees, resources of kinds that no key is for.
    """

    keys: tuple[KeyCompliance, ...]
    offenders: tuple[Offender, ...]
    taggable: dict[str, float]
    untaggable: dict[str, float]

    @property
    def lowest_share(self) -> float:
        """The lowest compliance of any key."""
        return min((key.share for key in self.keys), default=1.0)


_RESOURCES = (
    "SELECT ResourceId, max(ResourceType), SubAccountId, max(SubAccountName), max(ResourceName),"
    " Tags, BillingCurrency,"
    " sum(EffectiveCost)::DOUBLE FROM ledger GROUP BY ResourceId, SubAccountId, Tags, BillingCurrency"
    " ORDER BY ResourceId, SubAccountId, Tags"
)


def check_spend(ledger: Ledger, policy: TagPolicy) -> Compliance:
    """Judge every resource of the ledger by the tags on its rows, weighted by its amortised cost."""
    sums: dict[tuple[str, str], dict[Status, float]] = defaultdict(lambda: defaultdict(float))
    taggable: dict[str, float] = defaultdict(float)
    untaggable: dict[str, float] = defaultdict(float)
    offenders: dict[tuple[str, str, str], Offender] = {}
    for resource_id, kind_text, account, account_name, name, tags, currency, cost in ledger.rows(_RESOURCES):
        kind = policy.kind_in_ledger(kind_text)
        keys = policy.keys_for(kind) if resource_id else ()
        if not keys:
            untaggable[currency] += cost
            continue
        taggable[currency] += cost
        resource = Resource(_tags(tags), account, account_name, name or resource_id)
        problems = {}
        for rule in keys:
            status, value = judge(policy, rule, resource)
            sums[rule.key, currency][status] += cost
            if status == "missing":
                problems[rule.key] = "missing"
            elif status == "invalid":
                problems[rule.key] = f"{value!r} is not {rule.wanted}"
        if problems:
            place = (resource_id, account or "", currency)
            before = offenders.get(place)
            offenders[place] = Offender(
                resource=resource_id,
                kind=kind or "",
                account=account or "",
                owner=_owner(policy, resource),
                cost=cost + (before.cost if before else 0.0),
                currency=currency,
                problems=problems | (before.problems if before else {}),
            )
    return Compliance(
        keys=tuple(
            KeyCompliance(
                key, currency, *(spend[status] for status in ("valid", "inferred", "invalid", "missing"))
            )
            for (key, currency), spend in sorted(sums.items())
        ),
        offenders=tuple(sorted(offenders.values(), key=lambda o: (-o.cost, o.resource))),
        taggable=dict(taggable),
        untaggable=dict(untaggable),
    )


def _tags(text: str | None) -> dict[str, str]:
    data: Any = json.loads(text) if text else {}
    return {str(key): str(value) for key, value in data.items() if value is not None}


def _owner(policy: TagPolicy, resource: Resource) -> str:
    rule = next((rule for rule in policy.mandatory if rule.key.lower() == "owner"), None)
    value = judge(policy, rule, resource)[1] if rule else None
    return value or resource.account_name or resource.account or "unknown"
