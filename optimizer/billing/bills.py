"""What a bill is: provider, billing account and month, under one spelling whichever export names them.

Exports of one bill must meet under one key, or they would count twice: Azure writes the account of a bill as
a number in its cost details and as a path in FOCUS, providers have several names, and an invoice month begins
at midnight in Los Angeles in one export and at midnight UTC in another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

if TYPE_CHECKING:
    import ibis.expr.types as ir

_PROVIDERS = (
    (r"(?i)^(aws|amazon|amazon web services\b.*|amazon\.com\b.*)$", "AWS"),
    (r"(?i)^(azure|microsoft|microsoft azure|microsoft corporation)$", "Microsoft"),
    (r"(?i)^(gcp|google|google (cloud|llc|inc\.?)|google cloud (platform|emea\b.*))$", "Google Cloud"),
)
"""Names in use for the clouds that have an export of their own, and the one that the ledger has."""

_LATEST_BEGIN_HOURS = 15
"""Time zones are up to 14 hours ahead of UTC: a month that begins there begins on the last day in UTC."""


def provider_name(name: ir.StringValue) -> ir.StringValue:
    """Return the one name of a provider; a name that is not known is kept."""
    return ibis.cases(*((name.re_search(pattern), known) for pattern, known in _PROVIDERS), else_=name)


def account_id(text: ir.StringValue) -> ir.StringValue:
    """Return a billing account without its path: `/providers/…/billingAccounts/123` → `123`.

    Of a customer agreement the profile is the account, since each profile has invoices of its own.
    """
    profile = text.re_extract(r"(?i)billingProfiles/([^/]+)", 1).nullif("")
    account = text.re_extract(r"(?i)billingAccounts/([^/]+)", 1).nullif("")
    return ibis.coalesce(profile, account, text)


def bill_month(period: ir.TimestampValue) -> ir.TimestampValue:
    """Return the first day of the month that a billing period begins in, in any time zone."""
    return (period + ibis.interval(hours=_LATEST_BEGIN_HOURS)).truncate("M")


def month_sql(column: str) -> str:
    """Return `bill_month` of a column as DuckDB SQL."""
    return f"date_trunc('month', {column} + INTERVAL {_LATEST_BEGIN_HOURS} HOUR)::TIMESTAMP"


def key_sql(provider: str, account: str, period: str) -> str:
    """Return a bill's key, made of three columns, as a row in DuckDB SQL; accounts differ not by case."""
    return f"({provider}, lower({account}), {month_sql(period)})"
