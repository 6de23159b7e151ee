"""One leader among several controllers of one name: a lease that expires, with a number that only grows.

The leader renews the lease at each look and between looks; the others look on. A leader that could not renew
in time is deposed: it knows by its own steady clock, before anybody else may take over, and its calls do not
leave any more.
"""

from optimizer.controller.lease.dynamodb import DynamoLease
from optimizer.controller.lease.postgresql import PostgresLease
from optimizer.controller.lease.protocol import FencedCapacity, FencedGroups, FencedInterruptions, Lease

__all__ = ["DynamoLease", "FencedCapacity", "FencedGroups", "FencedInterruptions", "Lease", "PostgresLease"]
