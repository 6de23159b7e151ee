"""Launch templates: create, describe, delete, and how a launch uses one."""

from __future__ import annotations

from typing import Any

from optimizer.fake_aws.api.call import Action, Reply, Request, once, page, passes, tag_list, tags_for
from optimizer.fake_aws.clock import moment
from optimizer.fake_aws.cloud.templates import LaunchTemplate
from optimizer.fake_aws.errors import AwsError, missing

_SHOWN = ("ImageId", "InstanceType", "KeyName", "UserData", "InstanceMarketOptions")
"""Launch parameters that descriptions of a version repeat."""


def merged_template(request: Request, parameters: dict[str, Any]) -> dict[str, Any]:
    """Launch parameters on top of those of the launch template they name, if any."""
    wanted = parameters.get("LaunchTemplate")
    if not wanted:
        return parameters
    template = find_template(request, wanted)
    data = template.data(wanted.get("Version"))
    return {**data, **{name: value for name, value in parameters.items() if value not in (None, [], {})}}


def find_template(request: Request, wanted: dict[str, Any]) -> LaunchTemplate:
    """The template that a specification names by id or name.

    Raises:
        AwsError: There is none, or the specification names none or both.
    """
    name, template_id = wanted.get("LaunchTemplateName"), wanted.get("LaunchTemplateId")
    if (name is None) == (template_id is None):
        raise AwsError(
            "InvalidParameterCombination", "Give either LaunchTemplateId or LaunchTemplateName, and only one."
        )
    for template in request.region.templates.values():
        if template_id == template.id or (name is not None and name == template.name):
            found: LaunchTemplate = template
            return found
    if template_id is not None:
        raise AwsError(
            "InvalidLaunchTemplateId.NotFound",
            f"The specified launch template, with template ID {template_id[:100]}, does not exist.",
        )
    raise AwsError(
        "InvalidLaunchTemplateName.NotFoundException",
        f"The specified launch template, with template name {str(name)[:100]}, does not exist.",
    )


def create_launch_template(request: Request) -> Reply:
    """Make a template with its version 1."""
    parameters = request.parameters
    name = parameters["LaunchTemplateName"]
    if not 3 <= len(name) <= 128:
        raise AwsError(
            "InvalidLaunchTemplateName.MalformedException",
            f"Name {name[:50]!r}; accepted: 3 to 128 characters",
        )

    def act() -> Reply:
        if any(template.name == name for template in request.region.templates.values()):
            raise AwsError(
                "InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use."
            )
        cloud = request.cloud
        template = LaunchTemplate(
            cloud.identifier("lt"),
            name,
            cloud.now,
            [(parameters["LaunchTemplateData"], parameters.get("VersionDescription", ""))],
            tags=tags_for(parameters, "launch-template"),
        )
        request.region.templates[template.id] = template
        return {"LaunchTemplate": _shown(template)}

    request.stop_dry_run()
    return once(request, act)


def create_launch_template_version(request: Request) -> Reply:
    """Add a version, on top of `SourceVersion` if one is given."""
    parameters = request.parameters
    template = find_template(request, parameters)

    def act() -> Reply:
        source = parameters.get("SourceVersion")
        data = {**(template.data(source) if source else {}), **parameters["LaunchTemplateData"]}
        template.versions.append((data, parameters.get("VersionDescription", "")))
        return {"LaunchTemplateVersion": _version(request, template, len(template.versions))}

    request.stop_dry_run()
    return once(request, act)


def modify_launch_template(request: Request) -> Reply:
    """Set the default version."""
    template = find_template(request, request.parameters)
    wanted = request.parameters.get("DefaultVersion")
    if wanted is None:
        raise missing("SetDefaultVersion")
    number = template.version(wanted)
    request.stop_dry_run()
    template.default = number
    return {"LaunchTemplate": _shown(template)}


def describe_launch_templates(request: Request) -> Reply:
    """Templates by id or name, or all."""
    parameters, templates = request.parameters, list(request.region.templates.values())
    ids, names = parameters.get("LaunchTemplateIds", []), parameters.get("LaunchTemplateNames", [])
    if ids or names:
        templates = [find_template(request, {"LaunchTemplateId": i}) for i in ids]
        templates += [find_template(request, {"LaunchTemplateName": n}) for n in names]
    found = [
        template
        for template in templates
        if passes(parameters.get("Filters", []), {"launch-template-name": template.name}, template.tags)
    ]
    shown, token = page(found, lambda template: template.id, request, most=200)
    return {"LaunchTemplates": [_shown(template) for template in shown], "NextToken": token}


def describe_launch_template_versions(request: Request) -> Reply:
    """Versions of one template."""
    parameters = request.parameters
    template = find_template(request, parameters)
    wanted = parameters.get("Versions") or [str(n + 1) for n in range(len(template.versions))]
    numbers = sorted({template.version(version) for version in wanted})
    shown, token = page(numbers, lambda number: number, request, most=200)
    return {
        "LaunchTemplateVersions": [_version(request, template, number) for number in shown],
        "NextToken": token,
    }


def delete_launch_template(request: Request) -> Reply:
    """Delete a template with all its versions."""
    template = find_template(request, request.parameters)
    request.stop_dry_run()
    del request.region.templates[template.id]
    return {"LaunchTemplate": _shown(template)}


def _shown(template: LaunchTemplate) -> dict[str, Any]:
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "CreateTime": moment(template.created_ms),
        "DefaultVersionNumber": template.default,
        "LatestVersionNumber": len(template.versions),
        "Tags": tag_list(template.tags),
    }


def _version(request: Request, template: LaunchTemplate, number: int) -> dict[str, Any]:
    data, description = template.versions[number - 1]
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionNumber": number,
        "VersionDescription": description,
        "CreateTime": moment(template.created_ms),
        "DefaultVersion": number == template.default,
        "LaunchTemplateData": {name: value for name, value in data.items() if name in _SHOWN},
    }


ACTIONS = {
    "CreateLaunchTemplate": Action(create_launch_template, mutating=True),
    "CreateLaunchTemplateVersion": Action(create_launch_template_version, mutating=True),
    "ModifyLaunchTemplate": Action(modify_launch_template, mutating=True),
    "DescribeLaunchTemplates": Action(describe_launch_templates),
    "DescribeLaunchTemplateVersions": Action(describe_launch_template_versions),
    "DeleteLaunchTemplate": Action(delete_launch_template, mutating=True),
}
