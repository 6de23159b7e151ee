"""Interruption bands: the AWS spot advisor's JSON, or column `IF` of SpotLake rows.

Both say which share of instances was taken back during the last month, in five bands, and nothing about how
long a pool then stays without capacity. They are assumptions for pools that have no trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.errors import InputError
from simulator.market.market import Pool
from simulator.market.readers.files import json_of, read_bytes
from simulator.market.readers.tables import read_table

MONTHLY_INTERRUPTION = (0.025, 0.075, 0.125, 0.175, 0.25)
"""Probability assumed per band: <5 %, 5-10 %, 10-15 %, 15-20 % (their middles) and >20 %."""
_SPOTLAKE_SCORES = {3.0: 0, 2.5: 1, 2.0: 2, 1.5: 3, 1.0: 4}
MONTH_SECONDS = 30 * 86_400


@dataclass(frozen=True)
class InterruptionBands:
    """Bands 0 to 4 by (place, instance type); the place is a region or a zone.

    Attributes:
        file: Where they were read.
        bands: All bands of the file.
    """

    file: str
    bands: dict[tuple[str, str], int]

    def band(self, pool: Pool) -> int | None:
        """The band of `pool`, by its zone or else its region; None if the file has none."""
        by_zone = self.bands.get((pool.zone, pool.instance_type))
        return self.bands.get((pool.region, pool.instance_type)) if by_zone is None else by_zone


def hazard_per_tick(band: int, tick_seconds: int) -> float:
    """Probability that an instance of `band` is taken back during one tick.

    h = 1 - (1 - p)^(tick / 30 days) with the monthly probability p of the band.
    """
    return float(1.0 - (1.0 - MONTHLY_INTERRUPTION[band]) ** (tick_seconds / MONTH_SECONDS))


def read_interruption_bands(path: Path, *, operating_system: str = "Linux") -> InterruptionBands:
    """Read bands from the AWS spot advisor's JSON or from SpotLake CSV (its latest row per pool counts).

    Args:
        path: The file.
        operating_system: `Linux` or `Windows`; only the advisor's JSON tells them apart.

    Raises:
        InputError: The file is neither, or a band is out of range.
    """
    data = read_bytes(path)
    if data.lstrip()[:1] == b"{":
        return InterruptionBands(
            str(path), _advisor_json(str(path), json_of(str(path), data), operating_system)
        )
    return InterruptionBands(str(path), _spotlake(str(path), data))


def _advisor_json(file: str, content: Any, operating_system: str) -> dict[tuple[str, str], int]:
    regions = content.get("spot_advisor")
    if not isinstance(regions, dict):
        raise InputError(
            f"{file}: no `spot_advisor` object; accepted: the spot advisor's JSON or SpotLake CSV"
        )
    bands: dict[tuple[str, str], int] = {}
    for region, systems in regions.items():
        types = systems.get(operating_system, {}) if isinstance(systems, dict) else None
        if not isinstance(types, dict):
            raise InputError(
                f"{file}: `spot_advisor.{region}` is damaged; accepted: {{system: {{type: {{r}}}}}}"
            )
        for instance_type, entry in types.items():
            band = entry.get("r") if isinstance(entry, dict) else None
            if type(band) is not int or not 0 <= band < len(MONTHLY_INTERRUPTION):
                raise InputError(
                    f"{file}: `spot_advisor.{region}.{operating_system}.{instance_type}.r` is "
                    f"{str(band)[:40] if isinstance(band, str | float) else type(band).__name__}; "
                    f"accepted: 0 to {len(MONTHLY_INTERRUPTION) - 1}"
                )
            bands[region, instance_type] = band
    if not bands:
        raise InputError(f"{file}: no band for {operating_system!r}; accepted: Linux, Windows")
    return bands


def _spotlake(file: str, data: bytes) -> dict[tuple[str, str], int]:
    table = read_table(file, data, needed=("time", "instancetype", "az", "if"))
    zone, instance = table.text("az"), table.text("instancetype")
    scores, times = table.prices("if", missing_number=-1.0), table.times_ms("time")
    bands: dict[tuple[str, str], int] = {}
    for row in times.argsort(kind="stable").tolist():
        score = float(scores[row])
        if score != score:  # missing
            continue
        if score not in _SPOTLAKE_SCORES:
            raise InputError(f"{table.at(row)}: `IF` is {score:g}; accepted: 3, 2.5, 2, 1.5, 1")
        bands[zone[row], instance[row]] = _SPOTLAKE_SCORES[score]
    return bands
