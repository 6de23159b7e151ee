"""Attribution of shared cost: who used the cluster or the database, and who can act on waste."""

from optimizer.billing.allocation.rules import AllocationRules, load_rules
from optimizer.billing.allocation.run import AllocationReport, allocate

__all__ = ["AllocationReport", "AllocationRules", "allocate", "load_rules"]
