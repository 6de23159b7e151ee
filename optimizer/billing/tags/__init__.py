"""Tag governance: which spend is tagged as the policy asks, and whether a Terraform plan keeps it."""

from optimizer.billing.tags.ledger import Compliance, check_spend
from optimizer.billing.tags.policy import TagPolicy, load_policy
from optimizer.billing.tags.terraform import Violation, check_plan

__all__ = ["Compliance", "TagPolicy", "Violation", "check_plan", "check_spend", "load_policy"]
