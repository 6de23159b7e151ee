"""Writes the four files of a report, each whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from optimizer.plan import write_plan
from optimizer.recommend.markdown import render_markdown
from optimizer.recommend.page import render_page
from optimizer.recommend.plan import make_plan
from optimizer.recommend.run import Found
from simulator.errors import InputError
from simulator.whole_file import write_whole


@dataclass(frozen=True)
class Written:
    """Where a report lies.

    Attributes:
        report: The page.
        markdown: The same in short.
        recommendation: All figures.
        plan: The plan; None if nothing is to be moved.
        notes: Why a workload is not in the plan, and what the plan rests on.
    """

    report: Path
    markdown: Path
    recommendation: Path
    plan: Path | None
    notes: tuple[str, ...]


def write_report(found: Found, folder: Path, now: datetime) -> Written:
    """Write report.html, report.md, recommendation.json and, if something is to be moved, plan.yaml.

    A plan of an earlier report in the folder is removed before anything is written: it is another report's.

    Raises:
        InputError: The folder cannot be written.
    """
    plan, notes = make_plan(found, now)
    page, short, figures = (folder / name for name in ("report.html", "report.md", "recommendation.json"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / "plan.yaml"
        # First: killed in between, a new report must not lie beside the plan of an earlier one.
        target.unlink(missing_ok=True)
        write_whole(page, render_page(found))
        write_whole(short, render_markdown(found.report))
        write_whole(figures, found.report.to_json())
        if plan is not None:
            write_plan(plan, target)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
    return Written(page, short, figures, target if plan else None, notes)
