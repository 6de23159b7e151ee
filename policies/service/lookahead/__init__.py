"""The look-ahead planner for services."""

from policies.service.lookahead.policy import LookAhead, LookAheadSettings
from policies.service.lookahead.survival import Survival

__all__ = ["LookAhead", "LookAheadSettings", "Survival"]
