"""What was lost since the last look: from what the cloud describes, and from what it announces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from optimizer.controller.inventory import Inventory
from optimizer.controller.journal import InstanceRow
from optimizer.controller.observe import Sight

WARNING_SECONDS = 120.0
"""From the warning to the interruption."""


def take_in(
    inventory: Inventory,
    sight: Sight,
    grace_seconds: float,
    hides: Callable[[InstanceRow], bool],
) -> tuple[dict[str, list[InstanceRow]], list[InstanceRow]]:
    """Merge what was seen into the inventory.

    Args:
        inventory: Changed in place.
        sight: With instances.
        grace_seconds: How long a launched instance may be absent from answers.
        hides: Instances about which the look says nothing.

    Returns:
        Instances that ended, or are announced to, without the controller's doing, by workload; and those that
        carry the controller's tag but were not known.
    """
    changes = inventory.merge(sight.instances or (), sight.now, grace_seconds, hides)
    lost: dict[str, list[InstanceRow]] = {}
    warned = {n.instance: n.at for n in sight.notices if n.kind == "interruption"}
    for row in changes.lost:
        ended = row.ended_at
        if ended is None and row.id in warned:
            ended = min(warned[row.id] + WARNING_SECONDS, sight.now)
        lost.setdefault(row.workload, []).append(replace(row, ended_at=ended))
    for instance, at in warned.items():
        taken = inventory.taken(instance, min(at, sight.now))
        if taken is not None:
            lost.setdefault(taken.workload, []).append(taken)
    return lost, changes.adopted
