"""Clouds behind narrow interfaces: prices, capacity, interruptions, groups."""

from optimizer.controller.providers.protocol import (
    Capacity,
    Clock,
    CloudError,
    Group,
    Groups,
    Instance,
    Interruptions,
    Launch,
    LaunchResult,
    NoCapacity,
    Notice,
    Prices,
    Provider,
    Quote,
    Refused,
    Unavailable,
)

__all__ = [
    "Capacity",
    "Clock",
    "CloudError",
    "Group",
    "Groups",
    "Instance",
    "Interruptions",
    "Launch",
    "LaunchResult",
    "NoCapacity",
    "Notice",
    "Prices",
    "Provider",
    "Quote",
    "Refused",
    "Unavailable",
]
