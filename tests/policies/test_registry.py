"""Names and files become policies behind the shield, or errors that say what is accepted."""

from pathlib import Path

import numpy as np
import pytest

from policies import registry
from policies.baselines import Greedy
from policies.bundle import BundleManifest, write_bundle
from policies.registry import load_policy, policy_names
from policies.shield import Shielded
from simulator.errors import InputError


@pytest.mark.parametrize(
    "name",
    [
        "on-demand",
        "spot-when-available",
        "greedy",
        "uniform-progress",
        "round-robin-uniform-progress",
        "cheapest-first",
    ],
)
def test_a_built_in_name_gives_that_policy_behind_the_shield(name: str) -> None:
    policy = load_policy(name)
    assert isinstance(policy, Shielded)
    assert policy.name == name
    assert name in policy_names()


def test_an_unknown_name_lists_the_names() -> None:
    with pytest.raises(InputError, match=r"'gredy'.*on-demand.*greedy.*uniform-progress.*\.policy"):
        load_policy("gredy")


def test_a_folder_is_not_a_policy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no deadline policy"):
        load_policy(tmp_path)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="accepted: deadline, service"):
        load_policy("greedy", "batch")  # type: ignore[call-overload]  # what a caller without mypy may do


def manifest(algorithm: str = "greedy-in-a-bundle") -> BundleManifest:
    return BundleManifest(name="mine", kind="deadline", algorithm=algorithm)


def test_a_bundle_becomes_the_policy_of_its_algorithm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        registry.DEADLINE_ALGORITHMS,
        "greedy-in-a-bundle",
        lambda bundle: Greedy(name=f"{bundle.manifest.name}-{bundle.weights['w'].sum():g}"),
    )
    write_bundle(tmp_path / "mine.policy", manifest(), {"w": np.ones(3, np.float32)})
    policy = load_policy(tmp_path / "mine.policy")
    assert policy.name == "mine-3"
    assert isinstance(policy.policy, Greedy)


def test_an_unknown_algorithm_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "mine.policy", manifest("from-the-future"), {})
    with pytest.raises(InputError, match=r"mine\.policy.*'from-the-future'"):
        load_policy(str(tmp_path / "mine.policy"))


def test_a_bundle_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "mine.policy", manifest(), {})
    with pytest.raises(InputError, match="a policy for deadline workloads; accepted here: service"):
        load_policy(tmp_path / "mine.policy", "service")
