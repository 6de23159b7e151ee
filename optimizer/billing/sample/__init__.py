"""Synthetic billing exports with planted truth, for the demo, the tests and the benchmarks.

Every row these writers emit carries the tag `synthetic`: nothing here can be mistaken for a bill.
"""

from optimizer.billing.sample.aws import write_cur
from optimizer.billing.sample.azure import write_azure
from optimizer.billing.sample.focus import write_focus
from optimizer.billing.sample.gcp import write_gcp
from optimizer.billing.sample.scenario import (
    Anomaly,
    PlantedWorkload,
    Scenario,
    demo_scenario,
    place,
    snowflake_scenario,
)
from optimizer.billing.sample.truth import Truth, write_truth

__all__ = [
    "Anomaly",
    "PlantedWorkload",
    "Scenario",
    "Truth",
    "demo_scenario",
    "place",
    "snowflake_scenario",
    "write_azure",
    "write_cur",
    "write_focus",
    "write_gcp",
    "write_truth",
]
