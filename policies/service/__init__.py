"""Who decides for services: the protocol, the policies users know, and the look-ahead planner."""

from policies.service.fixed import EvenSpread, OnDemandOnly
from policies.service.lookahead import LookAhead, LookAheadSettings, Survival
from policies.service.protocol import ServicePolicy
from policies.service.spothedge import SpotHedge
from policies.service.static_mix import RoundRobin, StaticMix

__all__ = [
    "EvenSpread",
    "LookAhead",
    "LookAheadSettings",
    "OnDemandOnly",
    "RoundRobin",
    "ServicePolicy",
    "SpotHedge",
    "StaticMix",
    "Survival",
]
