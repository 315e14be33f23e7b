"""The link whose view in MLflow's UI shows a sweep's speedups and latencies at once.

The UI's default list collapses nested runs and shows no metric, and no setting of its address changes that. Its
share button keeps a view as an experiment tag, which ``?viewStateShareKey=`` brings back: this writes such a tag
per sweep. Read out of the UI of MLflow 3.17; a UI that ignores it still shows the runs.
"""

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from src.config.paths import in_environment
from src.records.mlflow.connection import Connection
from src.records.mlflow.content import param_name
from src.records.record import Record

_TAG = "mlflow.sharedViewState."
_OF_BATCH = "-batch-"
_NAME = "attributes.`Run Name`"
_COLUMNS = {  # in this order, with their widths in pixels; then the axes that differ, and the device
    "tags.`outcome`": 90,
    "tags.`verdict`": 90,
    "metrics.`speedup`": 95,
    "metrics.`low`": 85,
    "metrics.`high`": 85,
    "metrics.`pairs`": 70,
    "metrics.`ms`": 90,
    "metrics.`saved_percent`": 120,
    "metrics.`sqnr_db`": 85,
    "tags.`weights`": 120,
    "tags.`reason`": 330,
}
_DEVICE = {"tags.`device`": 160}
_AXIS_PX = 100
_USUAL_AXES = ("quant", "compile", "batch")  # of a sweep without runs yet
_HEADLINES = "sweep"  # a section of its own, above those that the UI makes of metric families
_FOLDED = (
    "compile",
    "distribution",
    "energy",
    "latency",
    "memory",
    "quality",
    "quantize",
    "roofline",
    "rounds",
)
_PAIRS_OF_AXES = (("speedup", "sqnr_db"), ("speedup", "saved_percent"))
_BATCH = "batch"


def publish_view(connection: Connection, sweep: str, records: Sequence[Record] = ()) -> None:
    """Keep the sweep's view in the experiment, as the UI's share button would; one more for each of several batches.

    Args:
        records: of its runs, where there are any yet: an axis in which they agree has no column.
    """
    whole = f"tags.sweeps LIKE '% {sweep} %'"
    views = {sweep: whole}
    for batch in _values(records, _BATCH) if len(_values(records, _BATCH)) > 1 else ():
        views[f"{sweep}{_OF_BATCH}{batch}"] = f"{whole} and params.{_BATCH} = '{batch}'"
    for key, query in views.items():
        view = json.dumps(_facets(query) | _table(_differing(records)) | _charts(), separators=(",", ":"))
        connection.client.set_experiment_tag(connection.experiment_id, _TAG + key, view)


def _values(records: Sequence[Record], axis: str) -> list[str]:
    """What an axis is in the records, each once."""
    found = [(record.axes | record.shape).get(axis) for record in records]
    return [str(value) for value in sorted(dict.fromkeys(found), key=_by_size)]


def _by_size(value: Any) -> tuple[float, str]:
    return (float(value) if isinstance(value, int | float) else 0.0), str(value)


def _differing(records: Sequence[Record]) -> list[str]:
    names = dict.fromkeys(name for record in records for name in (*record.axes, *record.shape))
    if not names:
        return list(_USUAL_AXES)
    return [name for name in names if len(_values(records, name)) > 1]


def ui_command(uri: str) -> str:
    """The line for a shell that shows a local database in MLflow's UI.

    MLflow's server does not start where a folder above its own has a % (`mend_folder`): there it is called by a link.
    """
    asked = shlex.join(["ui", "--workers", "1", "--backend-store-uri", uri])
    place = find_spec("mlflow")
    if place is None or "%" not in str(place.origin):
        return f"{shlex.join(in_environment('mlflow'))} {asked}"
    link = f"ln -s {shlex.quote(sys.prefix)} $d/env"
    return f"d=$(mktemp -d /tmp/mlflow.XXXXXX) && {link} && $d/env/bin/python -m mlflow {asked}"


def sweep_link(connection: Connection, sweep: str) -> str:
    """The lines to print for a sweep; for a local database the command that shows it comes first."""
    command, root = [], connection.uri.rstrip("/")
    if urlsplit(connection.uri).scheme not in ("http", "https"):
        command = [f"look at it with: {ui_command(connection.uri)}"]
        root = "http://127.0.0.1:5000"
    view = f"{root}/#/experiments/{connection.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey="
    charts = [
        f"charts{f', batch {batch}' if batch else ''}: {view}{key}&compareRunsMode=CHART"
        for key, batch in _charted(connection, sweep).items()
    ]
    return "\n".join([*command, *charts, f"table:  {view}{sweep}"])


def _charted(connection: Connection, sweep: str) -> dict[str, str]:
    """The views whose charts are worth a look -> their batch: bars of several batches say nothing side by side."""
    tags = connection.client.get_experiment(connection.experiment_id).tags
    head = f"{_TAG}{sweep}{_OF_BATCH}"
    found = {tag.removeprefix(_TAG): tag.removeprefix(head) for tag in tags if tag.startswith(head)}
    by_size = sorted(found.items(), key=lambda item: (len(item[1]), item[1]))
    return dict(by_size) or {sweep: ""}


def _facets(query: str) -> dict[str, Any]:
    """The runs that a query finds, flat, the fastest first."""
    return {
        "searchFilter": query,
        "orderByKey": "metrics.`speedup`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
    }


def _table(axes: Iterable[str]) -> dict[str, Any]:
    columns = _COLUMNS | {f"params.`{param_name(axis)}`": _AXIS_PX for axis in axes} | _DEVICE
    return {
        "selectedColumns": list(columns),
        "columnOrder": [_NAME, *columns],
        "columnWidths": {_NAME: 330} | columns,
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
    }


def _charts() -> dict[str, Any]:
    """Bars of the time gained and of latency, latency against percentile, and what it costs in quality and memory.

    MLflow's charts draw no line of ours, so bars show what is gained: those that lose go to the other side of 0.
    """
    cards = [_bar("faster_percent", "faster, %"), _bar("ms", "latency, ms per call")]
    cards += [
        _line("distribution/treated_ms", "latency distribution: ms per call against percentile"),
        _line("rounds/speedup", "speedup of each pair"),
    ]
    cards += [_scatter(x, y) for x, y in _PAIRS_OF_AXES]
    sections = [_section(_HEADLINES, shown=True)] + [_section(name, shown=False) for name in _FOLDED]
    return {"compareRunCharts": cards, "compareRunSections": sections, "isAccordionReordered": True}


def _card(kind: str, title: str) -> dict[str, Any]:
    return {
        "uuid": f"quantpay-{kind}-{title}".lower().replace(" ", "-"),
        "type": kind,
        "displayName": title,
        "metricSectionId": _HEADLINES,
        "runsCountToCompare": 50,
        "deleted": False,
        "isGenerated": False,
    }


def _bar(metric: str, title: str) -> dict[str, Any]:
    return _card("BAR", title) | {"metricKey": metric}


def _line(metric: str, title: str) -> dict[str, Any]:
    return _card("LINE", title) | {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "range": {},
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _scatter(x: str, y: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}
    return _card("SCATTER", f"{y} against {x}") | axes


def _section(name: str, *, shown: bool) -> dict[str, Any]:
    flags = {"display": shown, "isReordered": True, "deleted": False, "isGenerated": False}
    return {"uuid": name, "name": name, **flags}
