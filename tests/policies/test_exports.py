import policies


def test_public_names_are_pinned() -> None:
    assert sorted(policies.__all__) == [
        "Bundle",
        "BundleManifest",
        "DeadlinePolicy",
        "Memory",
        "Shielded",
        "apply_shield",
        "legal_actions",
        "load_policy",
        "policy_names",
        "read_bundle",
        "write_bundle",
    ]
    for name in policies.__all__:
        assert getattr(policies, name) is not None
