"""Who decides for services: the protocol and the policies users know."""

from policies.service.fixed import EvenSpread, OnDemandOnly
from policies.service.protocol import ServicePolicy
from policies.service.spothedge import SpotHedge
from policies.service.static_mix import RoundRobin, StaticMix

__all__ = ["EvenSpread", "OnDemandOnly", "RoundRobin", "ServicePolicy", "SpotHedge", "StaticMix"]
