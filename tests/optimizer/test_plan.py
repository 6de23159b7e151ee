"""Plan files: sealed, strict, and refused with the reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.job_terms import HIGHEST_THROUGHPUT, LOWEST_THROUGHPUT
from optimizer.plan import DeadlineWorkload, Plan, checksum_of, file_sha256, read_plan, write_plan
from simulator.deadline import DeadlineJob, terms
from simulator.deadline.terms import Move, PoolTerms
from simulator.errors import InputError

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
POOL = {
    "provider": "aws",
    "region": "us-east-1",
    "zone": "us-east-1a",
    "instance_type": "p3.2xlarge",
    "on_demand_price": 3.06,
}


def content(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "created": NOW,
        "expires": NOW + timedelta(days=7),
        "tick_seconds": 600,
        "inputs": {"ledger.duckdb": "a" * 64},
        "policies": [{"name": "planner", "kind": "deadline"}, {"name": "on-demand", "kind": "service"}],
        "caps": {"usd_per_hour": 100.0, "launches_per_tick": 20, "terminations_per_tick": 10},
        "workloads": [
            {
                "name": "nightly",
                "kind": "deadline",
                "pools": [POOL],
                "policy": "planner",
                "begins": NOW,
                "deadline": NOW + timedelta(hours=52),
                "work_hours": 48.0,
                "restart_overhead_minutes": 12.0,
                "expected": {"hours": 52.0, "cost_usd": 70.5, "on_demand_usd": 146.88},
                "reasons": ["spot is 68 % below on-demand"],
            },
            {
                "name": "web",
                "kind": "service",
                "pools": [POOL],
                "policy": "on-demand",
                "demand": {"source": "group", "group": "web-asg", "region": "us-east-1"},
                "placement_now": {
                    "on_demand": 2,
                    "spot": [{"pool": "aws/us-east-1a/p3.2xlarge", "instances": 1}],
                },
            },
        ],
    }
    return values | changes


def test_a_plan_survives_the_file(tmp_path: Path) -> None:
    plan = Plan.seal(**content())
    path = tmp_path / "plan.yaml"
    write_plan(plan, path)
    assert read_plan(path, now=NOW) == plan
    assert list(tmp_path.iterdir()) == [path]


@given(
    cost=st.floats(0, 1e12), share=st.floats(1e-300, 0.999), name=st.from_regex(r"\A[a-z][a-z0-9.-]{0,20}\Z")
)
@settings(max_examples=40)
def test_the_checksum_survives_any_number_and_name(
    tmp_path_factory: pytest.TempPathFactory, cost: float, share: float, name: str
) -> None:
    values = content()
    values["workloads"][0]["expected"]["cost_usd"] = cost
    values["workloads"][1]["availability_target"] = share
    values["workloads"][1]["name"] = name
    plan = Plan.seal(**values)
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    write_plan(plan, path)
    assert read_plan(path) == plan


def test_a_layout_that_changes_no_content_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    write_plan(Plan.seal(**content()), path)
    path.write_text("# a note\n" + path.read_text().replace("usd_per_hour: 100.0", "usd_per_hour:    1.0e+2"))
    assert read_plan(path).caps.usd_per_hour == 100.0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("usd_per_hour: 100.0", "usd_per_hour: 1000.0", "edited or damaged"),
        ("work_hours: 48.0", "work_hours: 47.0", "edited or damaged"),
        ("usd_per_hour: 100.0", "usd_per_hour: .inf", "field caps.usd_per_hour"),
        ("usd_per_hour: 100.0", "usd_per_hour: true", "field caps.usd_per_hour"),
        ("launches_per_tick: 20", "launches_per_tick: 20\n  fleet: 1", "field caps.fleet"),
        ("launches_per_tick: 20", "launches_per_tick: 20\n  launches_per_tick: 21", "given twice"),
        (
            "version: 3",
            "version: 1",
            "plan of version 1; this release reads 2 and 3; run `spotwise recommend` again",
        ),
        ("name: nightly", "name: 'two\n\n    lines'", "field workloads.0.name"),
        ("work_hours: 48.0", "work_hours: 52.0", "infeasible"),
        ("nodes: 1", "nodes: 2\n  committed: 2", "field workloads.0: .*accepted: 0 to 1"),
        ("due: null", "due: '2026-11-28T00:00:00Z'", "which is after the deadline"),
        ("due: null", "due: '2026-11-23T00:00:00Z'", "due time of -129600"),
        ("due: null", "due: '2026-11-25T00:00:00'", "field workloads.0.due"),
        ("lateness_usd_per_hour: 0.0", "lateness_usd_per_hour: 1.0", "without a due time"),
        ("lateness_usd_per_hour: 0.0", "lateness_usd_per_hour: .nan", "lateness_usd_per_hour"),
        ("checkpoint_cost_minutes: 0.0", "checkpoint_cost_minutes: 3.0", "only with an interval"),
        ("work_hours: 48.0", "work_hours: 48.0\n  moves: []", "field workloads.0.moves"),
        ("throughput: 1.0", "throughput: .nan", "field workloads.0.pools.0.throughput"),
        ("throughput: 1.0", "throughput: 0.0", "field workloads.0.pools.0.throughput"),
        ("throughput: 1.0", "throughput: -1.0", "field workloads.0.pools.0.throughput"),
        ("throughput: 1.0", "throughput: 1.0e+300", "field workloads.0.pools.0.throughput"),
        ("throughput: 1.0", "throughput: 0.5", "field workloads.0: .*throughput of 1 or more"),
        ("checkpoint_size_gb: 0.0", "checkpoint_size_gb: -1.0", "field workloads.0.checkpoint_size_gb"),
        ("checkpoint_size_gb: 0.0", "checkpoint_size_gb: 1.0e+300", "field workloads.0.checkpoint_size_gb"),
        ("egress_usd_per_gb: 0.02", "egress_usd_per_gb: .inf", "field workloads.0.egress_usd_per_gb"),
        (
            "bandwidth_mb_per_second: 100.0",
            "bandwidth_mb_per_second: 0",
            "workloads.0.bandwidth_mb_per_second",
        ),
        (
            "data_region: null",
            "data_region: eu-west-1",
            "data_region eu-west-1: no pool is there; .*us-east-1",
        ),
        (
            "transfers: []",
            "transfers: [{from_region: us-east-1, to_region: eu-west-1}]",
            "no pool is in region eu-west-1",
        ),
        ("policy: planner", "policy: nobody", "not under policies"),
        ("inputs:", "inputs: &x", "field inputs"),
        ("zone: us-east-1a", "zone: '../../etc'", "line "),
        ("name: web", "name: nightly", "twice"),
    ],
)
def test_what_is_wrong_is_refused_with_the_reason(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "plan.yaml"
    write_plan(Plan.seal(**content()), path)
    text = path.read_text()
    assert old in text
    if "committed" in new:
        text = text.replace("  committed: 0\n", "", 1)
    path.write_text(text.replace(old, new, 1))
    if new == "inputs: &x":
        path.write_text(
            text.replace("inputs:\n", "inputs: &x\n", 1).replace("policies:", "policies: *x #", 1)
        )
        says = "aliases"
    with pytest.raises(InputError, match=says):
        read_plan(path)


def test_a_job_of_the_plan_is_the_simulators(tmp_path: Path) -> None:
    values = content()
    values["workloads"][0] |= {
        "due": NOW + timedelta(hours=50),
        "lateness_usd_per_hour": 0.75,
        "work_hours": 40.0,
        "checkpoint_interval_minutes": 120.0,
        "checkpoint_cost_minutes": 6.0,
        "nodes": 4,
        "committed": 1,
    }
    write_plan(Plan.seal(**values), tmp_path / "plan.yaml")
    workload = read_plan(tmp_path / "plan.yaml").workloads[0]
    assert isinstance(workload, DeadlineWorkload)
    # 19 of the 20 checkpoints are followed by more work
    assert workload.job == DeadlineJob(
        work_seconds=40 * 3600 + 19 * 360,
        deadline_seconds=52 * 3600,
        restart_overhead_seconds=720,
        checkpoint_interval_seconds=126 * 60,
        nodes=4,
        due_seconds=50 * 3600,
        lateness_usd_per_hour=0.75,
        committed=1,
    )


WEST = {**POOL, "region": "us-west-2", "zone": "us-west-2a", "on_demand_price": 3.4}
FASTER = {**WEST, "instance_type": "p3.8xlarge", "throughput": 1.9, "on_demand_price": 6.0}


def wide(**changes: Any) -> dict[str, Any]:
    """A plan whose job may run in two regions and on two types; its checkpoint takes 200 GB."""
    values = content()
    values["workloads"][0] |= {
        "pools": [POOL, WEST, FASTER],
        "data_region": "us-east-1",
        "checkpoint_size_gb": 200.0,
        "bandwidth_mb_per_second": 400.0,
        "transfers": [{"from_region": "us-west-2", "to_region": "us-east-1", "egress_usd_per_gb": 0.01}],
        **changes,
    }
    return values


def test_throughputs_and_copies_of_the_plan_are_the_simulators(tmp_path: Path) -> None:
    write_plan(Plan.seal(**wide()), tmp_path / "plan.yaml")
    workload = read_plan(tmp_path / "plan.yaml").workloads[0]
    assert isinstance(workload, DeadlineWorkload)
    assert workload.job.terms == PoolTerms(
        throughput=(("aws/us-west-2a/p3.8xlarge", 1.9),),
        move_seconds=500.0,
        move_usd=4.0,
        moves=(Move("us-west-2", "us-east-1", 500.0, 2.0),),
        data_region="us-east-1",
    )


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"pools": [POOL], "transfers": []}, None),
        ({"pools": [POOL, WEST], "checkpoint_size_gb": 0.0}, None),
        ({"pools": [POOL], "checkpoint_size_gb": 0.0, "transfers": []}, None),
        ({"checkpoint_size_gb": 0.0}, PoolTerms(throughput=(("aws/us-west-2a/p3.8xlarge", 1.9),))),
    ],
    ids=["one region", "nothing to copy", "neither", "throughput only"],
)
def test_a_job_whose_pools_differ_in_price_only_has_no_terms(
    changes: dict[str, Any], wanted: PoolTerms | None
) -> None:
    workload = Plan.seal(**wide(**changes)).workloads[0]
    assert isinstance(workload, DeadlineWorkload)
    assert workload.job.terms == wanted


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pools": [POOL, {**WEST, "throughput": 0.5}]}, "region us-west-2: no pool has a throughput of 1"),
        (
            {"transfers": [{"from_region": "us-east-1", "to_region": "us-east-1"}]},
            "from us-east-1 to itself",
        ),
        ({"transfers": [{"from_region": "us-east-1", "to_region": "us-west-2"}] * 2}, "given twice"),
    ],
)
def test_terms_that_cannot_be_kept_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Plan.seal(**wide(**changes))


def test_instances_of_a_service_count_alike() -> None:
    values = content()
    values["workloads"][1]["pools"] = [POOL | {"throughput": 2.0}]
    with pytest.raises(InputError, match="instances of a service count alike"):
        Plan.seal(**values)


VERSION_2 = """\
version: 2
created: '2026-11-24T12:00:00Z'
expires: '2026-12-01T12:00:00Z'
tick_seconds: 600
inputs: {}
policies:
- {name: planner, kind: deadline, bundle_sha256: null}
- {name: on-demand, kind: service, bundle_sha256: null}
caps: {usd_per_hour: 100.0, launches_per_tick: 20, terminations_per_tick: 10}
workloads:
- name: nightly
  pools:
  - {provider: aws, region: us-east-1, zone: us-east-1a, instance_type: p3.2xlarge, on_demand_price: 3.06}
  policy: planner
  placement_now: {on_demand: 0, spot: []}
  on_demand_floor: 0
  expected: null
  reasons: []
  kind: deadline
  begins: '2026-11-24T12:00:00Z'
  deadline: '2026-11-26T16:00:00Z'
  due: null
  lateness_usd_per_hour: 0.0
  work_hours: 48.0
  restart_overhead_minutes: 12.0
  checkpoint_interval_minutes: 0.0
  checkpoint_cost_minutes: 0.0
  nodes: 1
  committed: 0
- name: web
  pools:
  - {provider: aws, region: us-east-1, zone: us-east-1a, instance_type: p3.2xlarge, on_demand_price: 3.06}
  policy: on-demand
  placement_now: {on_demand: 0, spot: []}
  on_demand_floor: 0
  expected: null
  reasons: []
  kind: service
  demand: {source: fixed, instances: 2}
  availability_target: 0.99
  cold_start_minutes: 0.0
  committed: 0
checksum: 896b249d548e9b30223b6a39c8999aac746dfc1c22412588a43ff696320b1549
"""
"""A plan as the release before wrote it, in fewer lines; its checksum is that release's."""


def test_a_plan_of_version_2_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(VERSION_2)
    plan = read_plan(path, now=NOW)
    job = plan.workloads[0]
    assert isinstance(job, DeadlineWorkload)
    assert (plan.version, job.job.terms, job.pools[0].throughput) == (2, None, 1.0)
    write_plan(plan, path)
    assert "throughput" not in path.read_text()
    assert read_plan(path) == plan


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("work_hours: 48.0", "work_hours: 47.0", "edited or damaged"),
        ("on_demand_price: 3.06}", "on_demand_price: 3.06, throughput: 1.0}", "pools.throughput: not in"),
        (
            "nodes: 1",
            "nodes: 1\n  checkpoint_size_gb: 200.0",
            "checkpoint_size_gb: not in a plan of version 2",
        ),
    ],
)
def test_a_plan_of_version_2_has_only_its_own_fields(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(VERSION_2.replace(old, new, 1))
    with pytest.raises(InputError, match=says):
        read_plan(path)


def test_the_limits_of_throughputs_are_the_simulators() -> None:
    assert (LOWEST_THROUGHPUT, HIGHEST_THROUGHPUT) == (terms.LOWEST_THROUGHPUT, terms.HIGHEST_THROUGHPUT)


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{a: " * 50_000,
        b"- 1\n- 2\n",
        b"version: 2\n? [a, b]\n: c\n",
        b"!!python/object/apply:os.system ['true']",
        b"version: 2\nx: !!python/name:os.system\n",
        b"version: 2026-13-45\n",
        b"version: 2\nworkloads: 7\n",
        b"a: 1\0",
        b"&a [*a]",
    ],
)
def test_hostile_files_are_refused_as_input_errors(tmp_path: Path, hostile: bytes) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(hostile)
    with pytest.raises(InputError):
        read_plan(path)


def test_an_expired_plan_and_one_from_the_future_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    write_plan(Plan.seal(**content()), path)
    with pytest.raises(InputError, match="expired at 2026-12-01 12:00 UTC"):
        read_plan(path, now=NOW + timedelta(days=7))
    with pytest.raises(InputError, match="check the clock"):
        read_plan(path, now=NOW - timedelta(days=1))


def test_times_are_kept_in_utc_whatever_their_zone() -> None:
    one, other = Plan.seal(**content()), Plan.seal(**content(created="2026-11-24T13:00:00+01:00"))
    assert one.created == other.created
    assert checksum_of(one) == checksum_of(other)
    with pytest.raises(InputError, match="created"):
        Plan.seal(**content(created=datetime(2026, 11, 24)))


def test_writing_refuses_an_unsealed_plan_and_unwritable_places(tmp_path: Path) -> None:
    plan = Plan.seal(**content())
    with pytest.raises(InputError, match=r"Plan\.seal"):
        write_plan(plan.model_copy(update={"tick_seconds": 60}), tmp_path / "plan.yaml")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        write_plan(plan, tmp_path / "file" / "plan.yaml")


def test_file_hashes(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert file_sha256(tmp_path / "empty").startswith("e3b0c44298fc1c14")
    with pytest.raises(InputError, match="cannot be read"):
        file_sha256(tmp_path / "absent")
