"""Cost per unit, and why it changed."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.billing.ingest import ingest
from optimizer.billing.ledger import Ledger
from optimizer.billing.sample import demo_scenario, write_cur
from optimizer.billing.units import Metric, read_metric, read_prometheus, unit_costs
from optimizer.billing.units.cost import _explain, _Sum
from optimizer.cli import main
from simulator.errors import InputError, SpotwiseError

START = datetime(2024, 3, 25)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    write_cur(demo_scenario(days=9), tmp_path / "export")
    ingest([str(tmp_path / "export")], tmp_path / "ledger.duckdb")
    return tmp_path / "ledger.duckdb"


def every_hour(amount: Callable[[int], float], hours: int = 9 * 24) -> Metric:
    return Metric({("web-frontend", START + timedelta(hours=h)): amount(h) for h in range(hours)}, "made up")


def test_unit_cost_is_cost_over_amount(ledger: Path) -> None:
    with Ledger.open(ledger) as opened:
        found = unit_costs(opened, every_hour(lambda h: 10.0), unit="request", per="day")
        spent = opened.rows(
            "SELECT date_trunc('day', ChargePeriodStart), sum(EffectiveCost)::DOUBLE FROM ledger"
            " WHERE Tags->>'app' = 'web-frontend' GROUP BY 1 ORDER BY 1"
        )
    assert [p.start for p in found.points] == [day for day, _ in spent]
    assert [p.cost for p in found.points] == pytest.approx([cost for _, cost in spent])
    # The export lost three hours of the fifth day: what was done in them has no cost beside it.
    assert [p.units for p in found.points] == [240.0] * 4 + [210.0] + [240.0] * 4
    assert all(p.unmatched_cost == 0 for p in found.points)


def test_hours_without_a_count_are_kept_apart(ledger: Path) -> None:
    with Ledger.open(ledger) as opened:
        whole = unit_costs(opened, every_hour(lambda h: 1.0), per="month")
        half = unit_costs(opened, every_hour(lambda h: 1.0, hours=4 * 24), per="month")
    assert sum(p.cost for p in whole.points) == pytest.approx(
        sum(p.cost + p.unmatched_cost for p in half.points)
    )
    assert sum(p.unmatched_cost for p in half.points) > 0


parts = st.dictionaries(
    st.sampled_from([("m5", "spot"), ("m5", "on-demand"), ("c5", "spot")]),
    st.tuples(st.floats(0.1, 1e4), st.floats(0, 1e4)),
    max_size=3,
)


@given(parts, parts, st.floats(0.1, 1e6), st.floats(0.1, 1e6), st.floats(0, 1e3), st.floats(0, 1e3))
def test_the_explanation_adds_up(
    a: dict[tuple[str, str], tuple[float, float]],
    b: dict[tuple[str, str], tuple[float, float]],
    units_a: float,
    units_b: float,
    other_a: float,
    other_b: float,
) -> None:
    sums = []
    for amounts, units, other in ((a, units_a, other_a), (b, units_b, other_b)):
        one = _Sum(units=units, other=other)
        for part, (hours, cost) in amounts.items():
            one.hours[part], one.costs[part] = hours, cost
        sums.append(one)
    change = next(iter(_explain("w", "USD", [(START, sums[0]), (START + timedelta(days=1), sums[1])])))
    total = change.volume + change.usage + change.mix + change.price + change.other
    scale = max(abs(v) for v in (change.volume, change.usage, change.mix, change.price, change.other, 1.0))
    assert total == pytest.approx(change.after - change.before, abs=1e-9 * scale)


@pytest.mark.parametrize(
    ("later", "units", "reason"),
    [
        ({("m5", "spot"): (20.0, 2.0)}, 200.0, "volume"),
        ({("m5", "spot"): (10.0, 2.0)}, 100.0, "price"),
        ({("m5", "spot"): (20.0, 2.0)}, 100.0, "usage"),
        ({("m5", "on-demand"): (10.0, 3.0)}, 100.0, "mix"),
    ],
)
def test_a_pure_change_has_one_reason(
    later: dict[tuple[str, str], tuple[float, float]], units: float, reason: str
) -> None:
    first, second = _Sum(units=100.0), _Sum(units=units)
    first.hours["m5", "spot"], first.costs["m5", "spot"] = 10.0, 1.0
    for part, (hours, cost) in later.items():
        second.hours[part], second.costs[part] = hours, cost
    change = next(iter(_explain("w", "USD", [(START, first), (START + timedelta(days=1), second)])))
    found = {name: getattr(change, name) for name in ("volume", "usage", "mix", "price", "other")}
    assert found.pop(reason) == pytest.approx(change.after - change.before)
    assert list(found.values()) == pytest.approx([0.0] * 4)


class FakePrometheus(BaseHTTPRequestHandler):
    """Answers range queries with ten per hour; the query `bad` is an error, `bare` lacks the label."""

    asked: ClassVar[list[dict[str, list[str]]]] = []

    def do_GET(self) -> None:
        asked = parse_qs(urlparse(self.path).query)
        self.asked.append(asked)
        query = asked["query"][0]
        if query == "bad":
            self._send(400, {"status": "error", "error": "parse error"})
            return
        times = range(int(asked["start"][0]), int(asked["end"][0]) + 1, int(asked["step"][0]))
        metric = {} if query == "bare" else {"app": "web-frontend"}
        values = [[t, "NaN" if n == 1 else "10"] for n, t in enumerate(times)]
        result = [{"metric": metric, "values": values}]
        kind = "vector" if query == "vector" else "matrix"
        self._send(200, {"status": "success", "data": {"resultType": kind, "result": result}})

    def _send(self, code: int, data: dict[str, Any]) -> None:
        body = json.dumps(data).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name of the base class)
        """Say nothing."""


@pytest.fixture
def prometheus() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), FakePrometheus) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_prometheus_points_count_for_the_hour_before_them(prometheus: str) -> None:
    def ask(url: str, query: str) -> Metric:
        return read_prometheus(url, query, label="app", start=START, end=START + timedelta(hours=4))

    metric = ask(prometheus, "sum by (app) (x)")
    # The second hour has no sample, which is not zero.
    assert metric.values == {("web-frontend", START + timedelta(hours=h)): 10.0 for h in (0, 2, 3)}
    for query, message in (
        ("bad", "400 .*parse error"),
        ("bare", "a series without the label app"),
        ("vector", "not an answer of Prometheus to a range query"),
    ):
        with pytest.raises(InputError, match=message):
            ask(prometheus, query)
    with pytest.raises(InputError, match="accepted: http://"):
        ask("file:///etc/passwd", "x")
    with pytest.raises(SpotwiseError, match="refused"):
        ask("http://127.0.0.1:9", "x")


def test_metric_files_are_checked(tmp_path: Path, ledger: Path) -> None:
    path = tmp_path / "m.csv"
    for text, message in (
        ("time,value\n2024-03-25,1\n", "columns missing: workload"),
        ("time,workload,value\nnoon,a,1\n", "line 2: Invalid isoformat"),
        ("time,workload,value\n2024-03-25T00:00,a,-1\n", "line 2: a value of -1.0; accepted: 0 or more"),
        ("time,workload,value\n2024-03-25T00:00,a,nan\n", "line 2: a value of nan"),
        (
            "time,workload,value\n2024-03-25T02:00+02:00,a,1\n2024-03-25T00:00,b,1\n2024-03-25T00:00,a,1\n",
            "line 4: a at 2024-03-25T00:00 is in line 2 too; accepted: each time of a workload once",
        ),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_metric(path)
    path.write_text("time,workload,value\n2024-03-25T02:10:00+02:00,a,1\n2024-03-25T00:50,a,2\n")
    assert read_metric(path).values == {("a", START): 3.0}
    with Ledger.open(ledger) as opened:
        with pytest.raises(InputError, match=r"every value of its workloads \(web-frontend\) is 0"):
            unit_costs(opened, every_hour(lambda h: 0.0))
        with pytest.raises(InputError, match="no hour of its workloads"):
            unit_costs(opened, read_metric(path))
        with pytest.raises(InputError, match="--per year; accepted: hour, day"):
            unit_costs(opened, read_metric(path), per="year")


def test_the_command(
    ledger: Path,
    tmp_path: Path,
    prometheus: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = ["time,workload,value", "2024-03-25T00:00,ghost,5"]
    for hour in range(9 * 24):
        lines.append(
            f"{(START + timedelta(hours=hour)).isoformat()},web-frontend,{100 if hour < 120 else 300}"
        )
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(
            sys, "argv", ["spotwise", "ledger", "unit-cost", "--ledger", str(ledger), *arguments]
        )
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        return code, capsys.readouterr().out

    chart = tmp_path / "chart.html"
    code, out = run("--metric", str(tmp_path / "m.csv"), "--unit", "page", "--chart", str(chart))
    assert code == 0
    assert "per page" in out
    assert "note: no cost under tag:app ghost" in out
    page = chart.read_text()
    assert "web-frontend (USD)" in page
    assert 'src="http' not in page
    code, out = run("--metric", str(tmp_path / "m.csv"), "--json", "--per", "week")
    found = json.loads(out)
    change = found["changes"][0]
    explained = sum(change[name] for name in ("volume", "usage", "mix", "price", "other"))
    assert explained == pytest.approx(change["after"] - change["before"])
    assert run("--prometheus", prometheus, "--query", "x")[0] == 0
    assert run()[0] == 2
    assert run("--prometheus", prometheus)[0] == 2
