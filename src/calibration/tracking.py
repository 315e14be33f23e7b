"""Calibrations in MLflow: a run each, with the tag ``kind=calibration``, beside the measured runs.

What is published stands in ``calibration.json``, so that `src.collect` can do it later.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from src.calibration.record import RECORD_NAME, SCHEMA_VERSION
from src.records.mlflow.connection import Connection, UnpublishableError, explained
from src.records.mlflow.content import artifacts, milliseconds
from src.records.mlflow.tagged import TaggedRuns
from src.records.store import mark_published, published_run


def publish(folder: Path, connection: Connection) -> str:
    """Publish a calibration's folder, once; returns MLflow's run id. The tag ``published`` comes last.

    Raises:
        UnpublishableError: its ``calibration.json`` cannot be read; the message names it.
        TrackingError: the tracker cannot be used.
    """
    content = _read(folder / RECORD_NAME)
    connection.probe()
    with explained(connection.uri, f"{folder} cannot be published"):
        run_id = _fill(folder, content, connection)
    mark_published(folder, connection.destination, run_id, content["finished_at"])
    return run_id


def waiting(outputs: Path, destination: dict[str, Any]) -> Iterator[Path]:
    """The folders of finished calibrations that a tracker does not hold; of interrupted ones none is published."""
    for path in sorted((outputs / "calibration").glob(f"*/*/{RECORD_NAME}")):
        if published_run(path.parent, destination) is None and not _read(path)["interrupted"]:
            yield path.parent


def _fill(folder: Path, content: dict[str, Any], connection: Connection) -> str:
    client, runs, tracked = connection.client, TaggedRuns(connection), content["tracked"]
    finished = milliseconds(content["finished_at"])
    identity = {"kind": "calibration", "recorded_at": content["finished_at"]}
    name = f"calibration of {content['device']['name']}"
    run = runs.get_or_create(identity, {}, name, content["started_at"])
    run_id = str(run.info.run_id)
    if run.data.tags.get("published") == "1":
        return run_id
    for path in artifacts(folder):
        client.log_artifact(run_id, str(path))
    points = [(name, value, 0) for name, value in tracked["metrics"].items()]
    runs.log(run_id, points, {}, tracked["tags"], finished)
    client.set_terminated(run_id, "FINISHED", finished)
    client.set_tag(run_id, "published", "1")
    return run_id


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
        if version > SCHEMA_VERSION:
            raise UnpublishableError(f"{path}: calibration schema {version} is newer; update quantpay")
        return {
            name: content[name] for name in ("device", "started_at", "finished_at", "interrupted", "tracked")
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnpublishableError(
            f"{path}: not a readable calibration ({error!r}); move it away to publish the rest"
        ) from error
