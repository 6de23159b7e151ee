"""Services: demand per tick with an availability target, and their exact dynamics."""

from simulator.service.batch import ServiceBatch, ServiceObservation
from simulator.service.service import Service

__all__ = ["Service", "ServiceBatch", "ServiceObservation"]
