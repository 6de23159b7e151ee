"""Billing: any export in, one FOCUS 1.2 ledger out, and what can be learned from it."""
