"""Hourly usage metrics per workload: from CSV, parquet, or a Prometheus range query."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from simulator.errors import InputError, SpotwiseError

HOUR = timedelta(hours=1)
MAX_RESPONSE = 256 * 1024 * 1024
"""A longer answer of Prometheus is refused: ask for a coarser step or fewer series."""


@dataclass(frozen=True)
class Metric:
    """How much was done per workload and hour.

    Attributes:
        values: (workload, hour in naive UTC) → amount; what is absent is not known, which is not zero.
        source: Where it came from, for messages.
    """

    values: dict[tuple[str, datetime], float]
    source: str


def read_metric(path: Path) -> Metric:
    """Read a CSV or parquet file with the columns `time`, `workload` and `value`.

    Times are ISO 8601, UTC if they have no offset. Amounts of different times in the same hour are added up.

    Raises:
        InputError: The file or a line of it is wrong, or a time of a workload is there twice; the message
            names the line.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
        else:
            text = pa.csv.ConvertOptions(
                column_types=dict.fromkeys(("time", "workload", "value"), pa.string())
            )
            table = pa.csv.read_csv(path, convert_options=text)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: {error}") from error
    missing = [name for name in ("time", "workload", "value") if name not in table.column_names]
    if missing:
        raise InputError(f"{path}: columns missing: {', '.join(missing)}; accepted: time, workload, value")
    values: dict[tuple[str, datetime], float] = {}
    seen: dict[tuple[str, datetime], int] = {}
    columns = (table[name].to_pylist() for name in ("time", "workload", "value"))
    for number, (time, workload, value) in enumerate(zip(*columns, strict=True), start=2):
        try:
            moment, amount = _moment(time), float(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: line {number}: {error}") from error
        before = seen.setdefault((str(workload), moment), number)
        if before != number:
            raise InputError(
                f"{path}: line {number}: {workload} at {time} is in line {before} too; accepted: each time of"
                " a workload once"
            )
        _add(values, str(workload), _hour(moment), amount, f"{path}: line {number}")
    return Metric(values, str(path))


def read_prometheus(
    url: str, query: str, *, label: str, start: datetime, end: datetime, timeout: float = 30.0
) -> Metric:
    """Ask a Prometheus server for one value per hour and series.

    The query should give what was done in the hour before each point, such as
    `sum by (app) (increase(http_requests_total[1h]))`: a point at 10:00 counts for the hour from 09:00.

    Args:
        url: Address of the server.
        query: PromQL.
        label: Label of the result that names the workload.
        start: First hour, UTC.
        end: End, exclusive, UTC.
        timeout: Seconds to wait.

    Raises:
        InputError: The address or the query is wrong, or series lack the label.
        SpotwiseError: The server does not answer.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url}; accepted: http:// or https:// and the address of Prometheus")
    first, last = (moment.replace(tzinfo=UTC) for moment in (start + HOUR, end))
    asked = {
        "query": query,
        "start": f"{first.timestamp():.0f}",
        "end": f"{last.timestamp():.0f}",
        "step": "3600",
    }
    address = f"{url.rstrip('/')}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
    try:
        with urllib.request.urlopen(address, timeout=timeout) as response:  # noqa: S310 (http or https, checked above)
            body = response.read(MAX_RESPONSE + 1)
    except urllib.error.HTTPError as error:
        said = error.read(1000).decode(errors="replace")
        raise InputError(f"{url}: {query}: {error.code} {said}") from error
    except OSError as error:
        raise SpotwiseError(f"{url}: {error}") from error
    if len(body) > MAX_RESPONSE:
        raise InputError(f"{url}: {query}: the answer is too long; ask for fewer series")
    return Metric(_series(url, query, label, body), f"{url} {query}")


def _series(url: str, query: str, label: str, body: bytes) -> dict[tuple[str, datetime], float]:
    try:
        answer = json.loads(body)
        result = answer["data"]["result"]
        if answer["status"] != "success" or answer["data"]["resultType"] != "matrix":
            raise KeyError(answer["status"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{url}: {query}: not an answer of Prometheus to a range query ({error!r})"
        ) from error
    values: dict[tuple[str, datetime], float] = {}
    for series in result:
        workload = series["metric"].get(label)
        if not workload:
            raise InputError(f"{url}: {query}: a series without the label {label}: {series['metric']}")
        for moment, value in series["values"]:
            hour = datetime.fromtimestamp(float(moment), UTC).replace(tzinfo=None) - HOUR
            amount = float(value)
            # Prometheus says NaN where a rate has no sample: nothing is known.
            if not math.isnan(amount):
                _add(
                    values,
                    workload,
                    _hour(hour),
                    amount,
                    f"{url}: {hour}",
                )
    return values


def _moment(time: object) -> datetime:
    """Return a time as naive UTC."""
    moment = time if isinstance(time, datetime) else datetime.fromisoformat(str(time))
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo is not None else moment


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _add(
    values: dict[tuple[str, datetime], float], workload: str, hour: datetime, amount: float, where: str
) -> None:
    if not math.isfinite(amount) or amount < 0:
        raise InputError(f"{where}: a value of {amount}; accepted: 0 or more")
    values[workload, hour] = values.get((workload, hour), 0.0) + amount
