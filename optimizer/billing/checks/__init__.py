"""Checks on every row of a ledger, stronger than the official validator's on columns."""

from optimizer.billing.checks.run import CheckReport, Finding, check_ledger

__all__ = ["CheckReport", "Finding", "check_ledger"]
