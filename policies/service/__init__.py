"""Who decides for services: the protocol and the policies users know."""

from policies.service.fixed import EvenSpread, OnDemandOnly
from policies.service.protocol import ServicePolicy

__all__ = ["EvenSpread", "OnDemandOnly", "ServicePolicy"]
