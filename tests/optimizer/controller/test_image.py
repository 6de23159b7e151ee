"""The image is built and run: `make image-tests`, which needs root, buildah, podman, crun and debootstrap.

No registry of images is asked: the base is made by debootstrap from Debian's packages. What pip is configured
to use on this machine is shown to the build and not part of the image. The containers have no network but
loopback.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.controller.policies import bundle_file
from optimizer.plan import Plan, PolicyReference, file_sha256, write_plan
from policies.bundle import Kind
from simulator.market import Market, Pool

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[3]
BASE = "localhost/python:3.11-slim"
IMAGE = "localhost/spotwise:test"
USER = 10001
PORT = 4570
NOW = 240
"""Tick of the market at which the rehearsal begins."""
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
AWS = {
    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "fake",
    "AWS_SECRET_ACCESS_KEY": "fake",
}
POLICIES: tuple[tuple[Kind, str], ...] = (
    ("deadline", "deadline-champion"),
    ("deadline", "planner"),
    ("deadline", "uniform-progress"),
    ("service", "service-champion"),
    ("service", "spothedge-1"),
)


class Engine:
    """buildah and podman on a storage of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._storage = [f"--root={folder}/storage", f"--runroot={folder}/run", "--storage-driver=overlay"]

    def buildah(self, *words: str) -> str:
        return _run(["buildah", *self._storage, *words])

    def podman(self, *words: str) -> list[str]:
        """The command. crun refuses the hybrid of control groups 1 and 2, so it does not see the latter."""
        hide = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'
        options = [*self._storage, "--runtime=crun", "--cgroup-manager=cgroupfs", "--events-backend=none"]
        return ["unshare", "--mount", "sh", "-c", hide, "sh", "podman", *options, *words]

    def run(self, *words: str, network: str = "none") -> list[str]:
        """The command that runs a container as the Dockerfile says."""
        # limits that a machine gives which is itself a container; the defaults may be above its own
        limits = ("--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096")
        return self.podman("run", "--rm", f"--network={network}", *limits, *HARDENED, *words)


def _run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """With the image in its storage; the folder is a gigabyte or more and goes at the end."""
    assert os.geteuid() == 0, "needs root"
    folder = tmp_path_factory.mktemp("image")
    made = Engine(folder)
    try:
        _make_base(made)
        volumes = [f"--volume={here}:{there}:ro" for here, there in _pip_files(folder).items()]
        made.buildah(
            *("bud", "--isolation=chroot", "--format=docker", "--pull-never", *volumes),
            *(f"--build-arg=BASE={BASE}", f"--file={ROOT}/deploy/Dockerfile", f"--tag={IMAGE}", str(ROOT)),
        )
        yield made
    finally:
        subprocess.run(["umount", f"{folder}/storage/overlay"], capture_output=True, check=False)
        _run(["rm", "-rf", str(folder)])


def _make_base(engine: Engine) -> None:
    """Debian with its own Python under the name that Python has in the official image."""
    root, archive = engine.folder / "root", engine.folder / "root.tar"
    _run(
        [
            "debootstrap",
            "--variant=minbase",
            "--include=python3,python3-venv",
            "bookworm",
            str(root),
            *_mirror(),
        ]
    )
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    _run(["tar", "-C", str(root), "-cf", str(archive), "--exclude=./var/cache/apt/archives/*.deb", "."])
    container = engine.buildah("from", "scratch").strip()
    engine.buildah("add", container, str(archive), "/")
    engine.buildah("commit", "--rm", container, BASE)
    _run(["rm", "-rf", str(root), str(archive)])


def _mirror() -> list[str]:
    """Where this machine has Debian's packages from; nothing where that is not told."""
    for file in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        if found := re.search(r"^(?:URIs:|deb(?: \[.*\])?) +(\S+)", text, re.MULTILINE):
            return [found[1]]
    return []


def _pip_files(folder: Path) -> dict[str, str]:
    """What pip is configured to use here, as files for the build: path here to path there."""
    settings = {}
    for line in _run([sys.executable, "-m", "pip", "config", "list"]).splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    (folder / "pip.conf").write_text("[global]\n" + "".join(f"{k} = {v}\n" for k, v in settings.items()))
    files = {str(folder / "pip.conf"): "/etc/pip.conf"}
    for index, path in re.findall(r"(?:^|\s)(file://)?(/\S+)", "\n".join(settings.values())):
        # the pages of an index name files beside their folder
        used = Path(path).parent if index else Path(path)
        if used.exists():
            files[str(used)] = str(used)
    return files


@pytest.fixture
def settled(tmp_path: Path) -> Path:
    """A folder with plan, market and configuration in `etc`, and a state that belongs to the image's user."""
    etc, state = tmp_path / "etc", tmp_path / "state"
    etc.mkdir()
    state.mkdir(mode=0o700)
    os.chown(state, USER, USER)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    market = Market.build(
        [Pool("aws", "us-east-1", f"us-east-1{zone}", "m5.large") for zone in "abc"],
        tick_seconds=60,
        start=now - timedelta(minutes=NOW),
        spot_price=[[1.0], [1.1], [1.2]],
        spot_capacity=np.full((3, 3000), 100),
        on_demand_price=3.0,
    )
    market.save(etc / "market.npz")
    write_plan(_plan(market, now), etc / "plan.yaml")
    launch = "{default: {template: spotwise}}"
    (etc / "controller.yaml").write_text(
        "state_dir: /state\nmode: apply\nprovider:\n  kind: aws\n  aws:\n"
        f"    queue_url: {AWS['AWS_ENDPOINT_URL']}/123456789012/spotwise-notices\n"
        f"    queue_region: us-east-1\n    launch: {launch}\n"
    )
    tmp_path.chmod(0o755)
    for file in etc.iterdir():
        file.chmod(0o644)
    return tmp_path


def _plan(market: Market, now: datetime) -> Plan:
    pools = [
        {
            "provider": pool.provider,
            "region": pool.region,
            "zone": pool.zone,
            "instance_type": pool.instance_type,
            "on_demand_price": 3.0,
        }
        for pool in market.pools
    ]
    terms: dict[Kind, dict[str, Any]] = {
        "deadline": {
            "begins": now,
            "deadline": now + timedelta(hours=30),
            "work_hours": 24.0,
            "restart_overhead_minutes": 2.0,
        },
        "service": {"demand": {"source": "fixed", "instances": 3}, "cold_start_minutes": 2.0},
    }
    data = {"data_region": "us-east-1", "checkpoint_size_gb": 50.0}
    fast = [pools[0] | {"throughput": 1.5}, *pools[1:]]
    references = [PolicyReference(name=name, kind=kind) for kind, name in POLICIES]
    bundles = [bundle_file(one) for one in references]
    return Plan.seal(
        created=now,
        expires=now + timedelta(days=1),
        tick_seconds=market.tick_seconds,
        inputs={},
        policies=[
            one.model_copy(update={"bundle_sha256": bundle and file_sha256(bundle)})
            for one, bundle in zip(references, bundles, strict=True)
        ],
        caps={"usd_per_hour": 1e3, "launches_per_tick": 100, "terminations_per_tick": 100},
        workloads=[
            {"name": f"{kind}-{name}", "kind": kind, "policy": name, "pools": pools} | terms[kind]
            for kind, name in POLICIES
        ]
        + [
            {"name": f"{name}-data", "kind": "deadline", "policy": name, "pools": fast}
            | terms["deadline"]
            | data
            for name in ("deadline-champion", "planner")
        ],
    )


@contextmanager
def started(words: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file, subprocess.Popen(words, stdout=file, stderr=file) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def eventually(check: Callable[[], bool], log: Path, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, log.read_text(encoding="utf-8")[-4000:]
        time.sleep(0.5)


def test_no_installer_no_training_and_no_tests_are_in_the_image(engine: Engine) -> None:
    code = """
import json, os, pathlib
from importlib.util import find_spec
names = ("torch", "mlflow", "gymnasium", "pip", "setuptools", "pytest")
site = pathlib.Path(find_spec("numba").origin).parents[1]
print(json.dumps([os.getuid(), [name for name in names if find_spec(name)], len(list(site.rglob("tests")))]))
"""
    assert json.loads(_run(engine.run("--entrypoint=/opt/spotwise/bin/python", IMAGE, "-c", code))) == [
        USER,
        [],
        0,
    ]
    (image,) = json.loads(_run(engine.podman("image", "inspect", IMAGE)))
    assert image["Size"] < 1.1e9, "bytes; a library that is not needed is hundreds of millions"


def check_dashboard(metrics: str) -> None:
    """Whatever the dashboard asks for is served, with the labels that its legends name."""
    dashboard = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text(encoding="utf-8"))
    served = set(re.findall(r"^# TYPE (\w+)", metrics, re.MULTILINE))
    for target in (target for panel in dashboard["panels"] for target in panel["targets"]):
        (name,) = re.findall(r"spotwise_\w+", target["expr"])
        assert name in served
        for labels in re.findall(rf"^{name}{{(.*)}} ", metrics, re.MULTILINE):
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert shown == set(re.findall(r'(\w+)="', labels)), name


class Rehearsal:
    """A fake AWS and a controller in two containers that share a loopback."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        environment = [f"--env={name}={value}" for name, value in AWS.items()]
        etc, state = f"--volume={folder}/etc:/etc/spotwise:ro", f"--volume={folder}/state:/state"
        self.fake = engine.run(
            *("--name=fake", etc, IMAGE, "fake-aws", "--market=/etc/spotwise/market.npz"),
            *(f"--port={PORT}", f"--start-tick={NOW}", "--instant", "--json"),
        )
        self.controller = engine.run(
            "--name=controller", *environment, etc, state, IMAGE, network="container:fake"
        )

    def within(self, container: str, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the image in a running container."""
        command = self.engine.podman("exec", container, program, *words)
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def status(self) -> dict[str, Any]:
        """What the controller says; nothing where it does not answer."""
        words = ("controller", "status", "--json", "--config", "/etc/spotwise/controller.yaml")
        done = self.within("controller", "/opt/spotwise/bin/spotwise", *words)
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    def bill(self) -> set[str]:
        """Every instance that was ever launched."""
        code = "from urllib.request import urlopen; print(urlopen({!r}).read().decode())"
        url = f"{AWS['AWS_ENDPOINT_URL']}/_fake/bill"
        done = self.within("fake", "/opt/spotwise/bin/python", "-c", code.format(url))
        return set(json.loads(done.stdout)["instances_usd"])

    def metrics(self) -> str:
        """What Prometheus would read."""
        code = """
import json, pathlib
from urllib.request import urlopen
url = json.loads(pathlib.Path("/state/endpoint.json").read_text())["url"]
print(urlopen(f"{url}/metrics").read().decode())
"""
        return self.within("controller", "/opt/spotwise/bin/python", "-c", code).stdout

    def turn(self, number: int) -> tuple[dict[str, Any], set[str]]:
        """From start to stop; status and instances after the first tick."""
        log = self.folder / f"controller-{number}.log"
        began = time.monotonic()
        with started(self.controller, log) as process:
            eventually(lambda: b'"kind": "tick"' in log.read_bytes(), log)
            sys.stdout.write(f"start {number} to first decision: {time.monotonic() - began:.1f} s\n")
            eventually(lambda: "tick" in self.status(), log)
            found = self.status(), self.bill()
            check_dashboard(self.metrics())
            _run(self.engine.podman("healthcheck", "run", "controller"))
            compiled = self.within(
                "controller", "diff", "-r", "/opt/spotwise/kernels", "/tmp/spotwise-kernels"
            )
            assert (compiled.returncode, compiled.stdout) == (0, ""), "everything was compiled with the image"
            _run(self.engine.podman("stop", "--time=60", "controller"))
            assert process.wait(60) == 0, log.read_text(encoding="utf-8")[-4000:]
        return found


def test_a_controller_starts_compiles_nothing_stops_and_goes_on(engine: Engine, settled: Path) -> None:
    rehearsal, log = Rehearsal(engine, settled), settled / "fake.log"
    with started(rehearsal.fake, log):
        eventually(lambda: str(PORT).encode() in log.read_bytes(), log)
        first, launched = rehearsal.turn(1)
        assert first["instances"] == len(launched) >= len(POLICIES)
        second, later = rehearsal.turn(2)
    assert second["instances"] >= first["instances"]
    assert second["cost_usd"] > first["cost_usd"], "it goes on from its journal"
    assert launched <= later
    jobs = {one["name"] for one in first["workloads"] if one["kind"] == "deadline"}
    assert jobs == {one["name"] for one in second["workloads"] if one["kind"] == "deadline"}
