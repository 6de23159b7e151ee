"""Who decides: heuristics, planners, learned bundles run in NumPy, behind the safety shield."""

from policies.bundle import Bundle, BundleManifest, read_bundle, write_bundle
from policies.protocol import DeadlinePolicy, Memory
from policies.registry import load_policy, policy_names
from policies.shield import Shielded, apply_shield, legal_actions

__all__ = [
    "Bundle",
    "BundleManifest",
    "DeadlinePolicy",
    "Memory",
    "Shielded",
    "apply_shield",
    "legal_actions",
    "load_policy",
    "policy_names",
    "read_bundle",
    "write_bundle",
]
