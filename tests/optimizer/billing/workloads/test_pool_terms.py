"""Throughputs of pools, and copies of the checkpoint between regions, in the workloads file."""

import re
from pathlib import Path

import pytest

from optimizer.billing.workloads import load_workloads
from optimizer.billing.workloads.file import save_workloads
from simulator.deadline.terms import Move, PoolTerms
from simulator.errors import InputError
from simulator.market import Pool

WIDE = """\
    committed: 1
    throughput: {m5.xlarge: 1.9, aws/us-east-2b/m5.large: 0.8}
    regions: [us-west-2, eu-west-1]
    checkpoint_size_gb: 200
    bandwidth_mb_per_second: 400
    transfers:
      - {from_region: us-east-2, to_region: us-west-2, egress_usd_per_gb: 0.01}
      - {from_region: us-east-2, to_region: eu-west-1, bandwidth_mb_per_second: 50}
"""


@pytest.fixture
def wide_file(job_file: Path) -> Path:
    """The same job, which may run in three regions and on two types."""
    job_file.write_text(job_file.read_text().replace("    committed: 1\n", WIDE, 1))
    return job_file


def pool(zone: str, instance_type: str = "m5.large") -> Pool:
    return Pool("aws", zone[:-1], zone, instance_type)


def test_throughputs_and_copies_are_the_simulators(wide_file: Path) -> None:
    found = load_workloads(wide_file).find("web")
    assert found.region == "us-east-2"
    pools = [pool("us-east-2a"), pool("us-east-2b"), pool("us-west-2a"), pool("us-west-2a", "m5.xlarge")]
    factors = [found.throughput_of(one, one.instance_type) for one in pools]
    assert factors == [1.0, 0.8, 1.0, 1.9]
    terms = found.pool_terms(pools, factors)
    # no pool is in eu-west-1
    assert terms == PoolTerms(
        throughput=(("aws/us-east-2b/m5.large", 0.8), ("aws/us-west-2a/m5.xlarge", 1.9)),
        move_seconds=500.0,
        move_usd=4.0,
        moves=(Move("us-east-2", "us-west-2", 500.0, 2.0),),
        data_region="us-east-2",
    )
    assert found.deadline_job(terms).terms == terms
    # pools of the accelerator's name are those of the type it is sold as
    assert found.throughput_of(pool("us-east-2a", "fast"), "m5.xlarge") == 1.9


def test_within_a_region_nothing_is_copied(wide_file: Path) -> None:
    found = load_workloads(wide_file).find("web")
    assert found.pool_terms([pool("us-east-2a")], [1.0]) is None
    terms = found.pool_terms([pool("us-east-2a"), pool("us-east-2a", "m5.xlarge")], [1.0, 1.9])
    assert terms == PoolTerms(throughput=(("aws/us-east-2a/m5.xlarge", 1.9),))
    with pytest.raises(InputError, match="region us-west-2: no pool has a throughput of 1 or more"):
        found.pool_terms([pool("us-east-2a"), pool("us-west-2a")], [1.0, 0.5])


def test_terms_survive_the_file(wide_file: Path) -> None:
    found = load_workloads(wide_file)
    save_workloads(wide_file, found)
    assert load_workloads(wide_file).workloads[0].job == found.workloads[0].job


@pytest.mark.parametrize(
    ("old", "new", "field", "problem"),
    [
        ("m5.xlarge: 1.9", "m5.xlarge: .nan", "throughput.m5.xlarge", "finite number"),
        ("m5.xlarge: 1.9", "m5.xlarge: 0", "throughput.m5.xlarge", "greater than or equal to 0.01"),
        ("m5.xlarge: 1.9", "m5.xlarge: -1.9", "throughput.m5.xlarge", "greater than or equal to 0.01"),
        ("m5.xlarge: 1.9", "m5.xlarge: 1e300", "throughput.m5.xlarge", ""),
        ("m5.xlarge: 1.9", "m5.xlarge: 1.0e+300", "throughput.m5.xlarge", "less than or equal to 100"),
        ("m5.xlarge: 1.9", "m5.large: 1.9", "throughput.m5.large", "so it is 1; leave it out"),
        ("us-east-2b/m5.large", "us-east-2b/p3", "throughput.aws/us-east-2b/p3", "no such pool"),
        ("gb: 200", "gb: -200", "checkpoint_size_gb", "greater than or equal to 0"),
        ("gb: 200", "gb: 1.0e+300", "checkpoint_size_gb", "less than or equal to 1000000"),
        ("gb: 200", "gb: .inf", "checkpoint_size_gb", "finite number"),
        ("gb: 200", "gb: true", "checkpoint_size_gb", "valid number"),
        ("second: 400", "second: 0", "bandwidth_mb_per_second", "greater than or equal to 0.001"),
        ("us-west-2, eu", "us-east-2, eu", "regions", "own region"),
        ("us-west-2, eu", "eu-west-1, eu", "regions", "eu-west-1 is there twice"),
        ("to_region: us-west-2", "to_region: ap-south-1", "transfers", "no pool is in region ap-south-1"),
        ("to_region: us-west-2", "to_region: eu-west-1", "transfers", "given twice"),
        ("gb: 0.01", "gb: .nan", "transfers.0.egress_usd_per_gb", "finite number"),
    ],
)
def test_hostile_terms_are_refused_with_line_and_field(
    wide_file: Path, old: str, new: str, field: str, problem: str
) -> None:
    text = wide_file.read_text()
    assert old in text
    wide_file.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        load_workloads(wide_file)
    assert re.search(rf"w.yaml, line \d+, field workloads.0.job.{re.escape(field)}: ", str(error.value))
    assert problem in str(error.value)
