"""Launch templates: named, versioned sets of launch parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from optimizer.fake_aws.errors import AwsError


@dataclass(eq=False)
class LaunchTemplate:
    """One launch template.

    Attributes:
        id: `lt-` and 17 hexadecimal digits.
        name: Unique in its region.
        created_ms: When it was made.
        versions: Data and description of version 1, 2, ….
        default: Number of the default version.
        tags: Tags.
    """

    id: str
    name: str
    created_ms: int
    versions: list[tuple[dict[str, Any], str]]
    default: int = 1
    tags: dict[str, str] = field(default_factory=dict)

    def version(self, wanted: str | None) -> int:
        """The number that `$Default`, `$Latest` or a number stands for.

        Raises:
            AwsError: There is no such version.
        """
        if wanted in (None, "", "$Default"):
            return self.default
        if wanted == "$Latest":
            return len(self.versions)
        number = int(wanted) if wanted and wanted.isascii() and wanted.isdigit() and len(wanted) < 9 else 0
        if not 1 <= number <= len(self.versions):
            raise AwsError(
                "InvalidLaunchTemplateId.VersionNotFound",
                f"Could not find the specified version {str(wanted)[:50]} for the launch template with ID "
                f"{self.id}.",
            )
        return number

    def data(self, wanted: str | None) -> dict[str, Any]:
        """The launch parameters of a version."""
        return self.versions[self.version(wanted) - 1][0]
