"""Processes that do the same at the same moment, forked after the imports: a cluster's jobs, or several drivers.

A line on stdin is a JSON list, the answer one too.
["publish", OUTPUTS, URI, SWEEP]: one process per run that OUTPUTS holds publishes it.
["open", OUTPUTS, URI, SWEEP]: four processes open the sweep; the answer is the parent runs that they got.
"""

import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow.tracking  # noqa: F401

from src.config.schema.root import TrackingConf
from src.launching.publication import publish_own
from src.records.mlflow import connection
from src.records.mlflow.tracking import open_tracker
from src.records.store import MANIFEST_NAME, read_manifest, sweep_folder


def at_once(jobs: Sequence[Callable[[], object]]) -> list[str]:
    """What each job returns; every one in a process of its own, none starts before all are there."""
    gate, opened = os.pipe()
    gc.freeze()
    children = []
    for job in jobs:
        answer, said = os.pipe()
        if (child := os.fork()) == 0:
            os.close(opened)
            os.read(gate, 1)  # until nobody holds the other end
            os.write(said, str(job()).encode())
            os._exit(0)
        os.close(said)
        children.append((child, answer))
    os.close(opened)
    answers = []
    for child, answer in children:
        answers.append(os.read(answer, 1000).decode())
        assert os.waitpid(child, 0)[1] == 0
    return answers


def publish(outputs: Path, conf: TrackingConf, sweep: str) -> list[str]:
    """Every run by a process of its own."""
    cfg: Any = SimpleNamespace(tracking=conf)
    folders = [path.parent for path in sorted(outputs.glob("runs/*/*/record.json"))]
    return at_once([lambda f=folder: publish_own(cfg, f, sweep_folder(outputs, sweep)) for folder in folders])


def open_four(outputs: Path, conf: TrackingConf, sweep: str) -> list[str]:
    """One sweep by four processes."""
    folder = sweep_folder(outputs, sweep)
    return at_once([lambda: open_tracker(conf).open_sweep(read_manifest(folder / MANIFEST_NAME), folder)] * 4)


if __name__ == "__main__":
    connection._PROBE_S, connection._OPEN_S = 60.0, 400.0  # a busy machine's server is not down
    for line in sys.stdin:
        do, outputs, uri, sweep = json.loads(line)
        conf = TrackingConf("", uri=uri, experiment=sweep, publish="worker")
        answers = {"publish": publish, "open": open_four}[do](Path(outputs).resolve(), conf, sweep)
        print(json.dumps(answers), flush=True)
