"""Workloads: what ran, hour by hour, in a file that a person reviews and the simulator loads."""

from optimizer.billing.workloads.derive import derive, write_workloads
from optimizer.billing.workloads.file import Workload, WorkloadFile, load_workloads

__all__ = ["Workload", "WorkloadFile", "derive", "load_workloads", "write_workloads"]
