"""Tags of EC2 resources."""

from __future__ import annotations

from typing import Any

from optimizer.fake_aws.api.call import Action, Reply, Request, page, passes
from optimizer.fake_aws.errors import AwsError, invalid

MOST_TAGS = 50
_KINDS = {"i": "instance", "lt": "launch-template", "fleet": "fleet"}


def create_tags(request: Request) -> Reply:
    """Set tags on all resources named, or on none."""
    resources = _resources(request)
    tags = {tag["Key"]: tag.get("Value", "") for tag in request.parameters["Tags"]}
    for key, value in tags.items():
        if not key or len(key) > 127 or len(value) > 255 or key.startswith("aws:"):
            raise invalid(
                f"Tag {key[:50]!r}: accepted: keys of 1 to 127 characters without the prefix aws:, values of "
                "at most 255"
            )
    for found in resources:
        own = {key for key in found | tags if not key.startswith("aws:")}
        if len(own) > MOST_TAGS:
            raise AwsError("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
    request.stop_dry_run()
    for found in resources:
        found.update(tags)
    return {}


def delete_tags(request: Request) -> Reply:
    """Remove tags by key, or by key and value."""
    resources = _resources(request)
    request.stop_dry_run()
    for found in resources:
        for tag in request.parameters.get("Tags", []):
            if tag.get("Value") in (None, found.get(tag["Key"])):
                found.pop(tag["Key"], None)
    return {}


def describe_tags(request: Request) -> Reply:
    """Tags of the region's resources."""
    rows = []
    region = request.region
    for kind, resources in (
        ("instance", region.instances),
        ("launch-template", region.templates),
        ("fleet", region.fleets),
    ):
        for name, resource in resources.items():
            for key, value in resource.tags.items():
                values = {
                    "resource-id": name,
                    "resource-type": kind,
                    "key": key,
                    "value": value,
                }
                if passes(request.parameters.get("Filters", []), values):
                    rows.append((name, key, kind, value))
    shown, token = page(rows, lambda row: "\n".join(row[:2]), request)
    return {
        "Tags": [
            {"ResourceId": name, "ResourceType": kind, "Key": key, "Value": value}
            for name, key, kind, value in shown
        ],
        "NextToken": token,
    }


def _resources(request: Request) -> list[dict[str, str]]:
    found = []
    for name in request.parameters["Resources"]:
        region = request.region
        kinds: dict[str, dict[str, Any]] = {
            "i": region.instances,
            "lt": region.templates,
            "fleet": region.fleets,
        }
        resource = kinds.get(name.partition("-")[0], {}).get(name)
        if resource is None:
            raise AwsError("InvalidID", f"The ID '{name[:100]}' is not valid")
        found.append(resource.tags)
    return found


ACTIONS = {
    "CreateTags": Action(create_tags, mutating=True),
    "DeleteTags": Action(delete_tags, mutating=True),
    "DescribeTags": Action(describe_tags),
}
