"""The link whose view in MLflow's UI shows a sweep's speedups and latencies at once.

The UI's default list collapses nested runs and shows no metric, and no setting of its address changes that. Its
share button keeps a view as an experiment tag, which ``?viewStateShareKey=`` brings back: this writes such a tag
per sweep. Read out of the UI of MLflow 3.17; a UI that ignores it still shows the runs.
"""

import json
import shlex
import sys
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from src.config.paths import in_environment
from src.records.connection import Connection

_TAG = "mlflow.sharedViewState."
_NAME = "attributes.`Run Name`"
_COLUMNS = {  # in this order, with their widths in pixels
    "params.`quant`": 110,
    "params.`compile`": 90,
    "params.`batch`": 70,
    "params.`gpu`": 90,
    "tags.`verdict`": 100,
    "metrics.`speedup/ratio`": 140,
    "metrics.`speedup/ci_low`": 130,
    "metrics.`speedup/ci_high`": 130,
    "metrics.`speedup/processes`": 150,
    "metrics.`latency/median_ms`": 150,
    "metrics.`latency/p10_ms`": 130,
    "metrics.`latency/p90_ms`": 130,
    "metrics.`latency/baseline_median_ms`": 200,
    "metrics.`quality/sqnr_db`": 130,
    "tags.`outcome`": 110,
    "tags.`device`": 160,
    "tags.`reason`": 400,
}
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
_PAIRS_OF_AXES = (("speedup/ratio", "quality/sqnr_db"), ("latency/median_ms", "memory/model_gib"))


def publish_view(connection: Connection, sweep: str) -> None:
    """Keep the sweep's view in the experiment, as the UI's share button would."""
    view = json.dumps(_facets(sweep) | _table() | _charts(), separators=(",", ":"))
    connection.client.set_experiment_tag(connection.experiment_id, _TAG + sweep, view)


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
    view = f"{root}/#/experiments/{connection.experiment_id}/runs?workflowType=machine_learning"
    view += f"&viewStateShareKey={sweep}"
    return "\n".join([*command, f"charts: {view}&compareRunsMode=CHART", f"table:  {view}"])


def _facets(sweep: str) -> dict[str, Any]:
    """The sweep's runs and no other, flat, the fastest first."""
    return {
        "searchFilter": f"tags.sweeps LIKE '% {sweep} %'",
        "orderByKey": "metrics.`speedup/ratio`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
    }


def _table() -> dict[str, Any]:
    return {
        "selectedColumns": list(_COLUMNS),
        "columnOrder": [_NAME, *_COLUMNS],
        "columnWidths": {_NAME: 330} | _COLUMNS,
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
    }


def _charts() -> dict[str, Any]:
    """Bars of speedup and latency, latency against percentile, and what it costs in quality and memory."""
    cards = [_bar("speedup/ratio", "speedup"), _bar("latency/median_ms", "latency, ms per call")]
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
