"""What a synthetic export is known to contain, so that a test can compare and not only look."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optimizer.billing.sample.scenario import OPTIONS


@dataclass
class Truth:
    """The planted facts of one export.

    Attributes:
        files: Files written, in order.
        billed: Σ of what is invoiced, per (invoice or billing period, currency).
        effective: Σ of the amortised cost of everything.
        unused: Σ of the cost of unused commitments.
        lines: Per file name, the purchase option of every data line that is instance time, else "".
        instance_hours: Instance-hours per purchase option.
    """

    files: list[Path] = field(default_factory=list)
    billed: dict[tuple[str, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    effective: Decimal = Decimal(0)
    unused: Decimal = Decimal(0)
    lines: dict[str, list[str]] = field(default_factory=dict)
    instance_hours: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OPTIONS, 0))

    def count(self, options: NDArray[np.int64]) -> None:
        """Add instance-hours given as indices into `OPTIONS`."""
        for index, name in enumerate(OPTIONS):
            self.instance_hours[name] += int((options == index).sum())


def money(values: NDArray[np.float64] | list[float] | float) -> Decimal:
    """Return the exact sum of amounts as they are written (shortest decimal text of each double)."""
    return sum((Decimal(repr(float(v))) for v in np.atleast_1d(values)), Decimal(0))
