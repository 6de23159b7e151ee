"""The page and the Markdown: right figures, hostile names, no outside request; and the page in a browser."""

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from optimizer.recommend.markdown import escape, render_markdown
from optimizer.recommend.page import render_page
from optimizer.recommend.run import Found

ROOT = Path(__file__).resolve().parents[3]
SCREENSHOTS = ROOT / "build" / "screenshots"
"""Where the browser tests leave their pictures."""
HOSTILE = "<script>alert(1)</script>\"'|`[x](javascript:alert(2))\n# @all https://evil.example"
BROWSER = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--window-size=1280,2200", "--virtual-time-budget=6000", "--enable-logging=stderr",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(recommended: Found) -> str:
    return render_page(recommended)


@pytest.fixture(scope="module")
def hostile(recommended: Found) -> Found:
    """The report with a name, tags and pools that try to get out of the page."""
    report = recommended.report
    first = report.workloads[0]
    changed = first.model_copy(update={"name": HOSTILE, "key": {"tag:app": HOSTILE}, "region": HOSTILE})
    timeline = recommended.details[first.name].timeline
    assert timeline is not None
    details = dict(recommended.details)
    details[HOSTILE] = replace(
        details.pop(first.name),
        timeline=replace(timeline, title=HOSTILE, places=(HOSTILE,) * len(timeline.places)),
    )
    return replace(
        recommended,
        report=report.model_copy(update={"workloads": (changed, *report.workloads[1:]), "notes": (HOSTILE,)}),
        details=details,
    )


class _Resources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [str(v) for k, v in attrs if k in ("src", "href", "data", "action") and v]
        self.scripts += tag == "script"


def test_figures_on_the_page_are_those_of_the_report(recommended: Found, page: str) -> None:
    for workload in recommended.report.workloads:
        assert f"{workload.billed.cost:,.2f} {workload.billed.currency} over the span" in page
        for scenario in workload.scenarios:
            assert f">{scenario.monthly_usd:,.2f}</td>" in page
    assert recommended.report.headline in page


def test_page_asks_nobody_for_anything(page: str) -> None:
    resources = _Resources()
    resources.feed(page)
    assert resources.found == ["data:,"]
    assert not re.search(r"@import|url\(\s*['\"]?https?:", page.split("<script>")[0])


def test_hostile_names_stay_text_on_the_page(hostile: Found, page: str) -> None:
    text = render_page(hostile)
    assert "<script>alert(1)" not in text
    ours, theirs = _Resources(), _Resources()
    ours.feed(page)
    theirs.feed(text)
    assert theirs.scripts == ours.scripts
    assert theirs.found == ours.found


def test_hostile_names_stay_text_in_markdown(hostile: Found) -> None:
    text = render_markdown(hostile.report)
    assert "<script>" not in text
    assert "](" not in text.replace("\\](", "")
    assert "https://" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert widths == {5, 7}


@pytest.mark.parametrize("text", ["a|b", "*x*", "_x_", "`x`", "<b>", "[x](y)", "# x", "a\nb"])
def test_markdown_that_is_escaped_means_nothing(text: str) -> None:
    found = escape(text)
    assert "\n" not in found
    assert not re.search(r"(?<!\\)[|*_`<\[\]#]", found)


def test_markdown_fits_a_message(recommended: Found) -> None:
    text = render_markdown(recommended.report)
    assert len(text) < 8000
    assert recommended.report.workloads[0].name in text


def test_long_names_are_cut_and_nothing_is_minus_nothing(recommended: Found) -> None:
    report = recommended.report
    first = report.workloads[0]
    tiny = first.scenarios[0].model_copy(update={"saving_usd": -0.001, "saving_share": -0.00001})
    long = first.model_copy(update={"name": "x" * 5000, "scenarios": (tiny, *first.scenarios[1:])})
    changed = report.model_copy(
        update={
            "workloads": (long, *report.workloads[1:]),
            "total": (tiny, *report.total[1:]),
            "notes": ("y" * 5000,) * 50,
        }
    )
    details = {**recommended.details, long.name: recommended.details[first.name]}
    shown = replace(recommended, report=changed, details=details)
    seen = re.sub(r"<script.*?</script>|<[^>]*>", "\n", render_page(shown).split("<h1>")[1], flags=re.DOTALL)
    for text in (render_markdown(changed), seen):
        assert "-0.00" not in text
        assert "-0%" not in text
        assert "x" * 59 + "…" in text
        assert "x" * 130 not in text
    assert len(render_markdown(changed)) < 16_000


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_opens_in_a_browser(recommended: Found, page: str, tmp_path: Path, scheme: str) -> None:
    opened = _open(page, tmp_path, "--dump-dom")
    charted = sum(1 for detail in recommended.details.values() if detail.timeline is not None)
    assert opened.stdout.count('class="main-svg"') >= 1 + 3 * charted
    assert "CONSOLE" not in opened.stderr, opened.stderr
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture = SCREENSHOTS / f"recommend-{scheme}.png"
    dark = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
    _open(page, tmp_path, f"--screenshot={picture}", *dark)
    assert picture.stat().st_size > 50_000


@pytest.mark.browser
def test_tables_sort_in_a_browser(page: str, tmp_path: Path, recommended: Found) -> None:
    third = "document.querySelectorAll('table.sortable')[0].querySelectorAll('th button')[2]"
    click = f"<script>{third}.click();</script>"
    opened = _open(page.replace("</body>", click + "</body>"), tmp_path, "--dump-dom")
    table = opened.stdout[opened.stdout.index('<table class="sortable">') :]
    first_cells = r'<tr><td[^>]*>[^<]*</td><td[^>]*>[^<]*</td><td data-value="([^"]+)"'
    shown = [float(each) for each in re.findall(first_cells, table)]
    count = len(recommended.report.workloads)
    assert shown[:count] == sorted(workload.billed.monthly for workload in recommended.report.workloads)


@pytest.mark.browser
def test_charts_have_the_width_of_a_page_when_printed(page: str, tmp_path: Path) -> None:
    def widths(*events: str) -> set[float]:
        script = "".join(f"dispatchEvent(new Event('{event}'));" for event in events)
        text = page.replace("</body>", f"<script>{script}</script></body>")
        opened = _open(text, tmp_path, "--dump-dom")
        return {float(each) for each in re.findall(r'class="main-svg"[^>]* width="([0-9.]+)"', opened.stdout)}

    assert widths("beforeprint") == {690.0}
    assert 690.0 not in widths("beforeprint", "afterprint")


@pytest.mark.browser
def test_hostile_page_runs_nothing_in_a_browser(hostile: Found, tmp_path: Path) -> None:
    opened = _open(render_page(hostile), tmp_path, "--dump-dom")
    assert "CONSOLE" not in opened.stderr, opened.stderr
    assert "<script>alert(1)" not in opened.stdout


def _open(page: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed; apt-get install chromium"
    path = folder / "report.html"
    path.write_text(page)
    return subprocess.run(
        [chromium, *BROWSER, f"--user-data-dir={folder / 'profile'}", *arguments, path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
