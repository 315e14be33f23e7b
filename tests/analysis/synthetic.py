"""Runs as `src.records` publishes them, made up: flux-tiny x schemes x batch, and one Linear over M, K and N."""

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from uuid import uuid4

from src.records.record import Outcome, Record
from src.statistics.speedup import SpeedupEstimate, verdict

CPU = "AMD EPYC 9R14, 2 threads"
SWEEP = "20260801-101500-linear"
START_MS = 1_785_578_400_000
NO_FLOAT8 = "needs compute capability >= 8.9, this is <none> & on a CPU: </script><b>no</b>"
REMEDY = "a GPU with float8 tensor cores (gpu=rtx4090, l40s, h100)"


@dataclass
class Made:
    """One made-up record, with what MLflow keeps beside it."""

    record: Record
    params: dict[str, str] = field(default_factory=dict)
    run_ids: list[str] = field(default_factory=list)


def made(
    key: str,
    speedup: float | None = None,
    *,
    spread: float = 0.01,
    attempt: int = 1,
    sweep: str = SWEEP,
    outcome: Outcome = Outcome.OK,
    device: str = CPU,
    shape: tuple[int, int, int] | None = None,
    reason: str = "",
    params: dict[str, str] | None = None,
    **axes: object,
) -> Made:
    """A record; one with a speedup has its interval of +- `spread` in log, and a verdict at 2 %."""
    model = "linear" if shape else "flux-tiny"
    defaults = {"model": model, "quant": "int8dq", "compile": "default", "batch": 1, "gpu": "cpu",
                "resolution": 0 if shape else 256, "target": "linear" if shape else "denoiser",
                "dtype": "bfloat16", "task": "latency"}  # fmt: skip
    record = Record(key, attempt, sweep, defaults | axes, outcome=outcome, reason=reason)
    record.device = {"name": device}
    record.remedy = REMEDY if outcome is Outcome.UNSUPPORTED else ""
    record.environment = {"torch": "2.13.0", "torchao": "0.18.0", "protocol": "1", "host": "node1"}
    record.shape = dict(zip("MKN", shape, strict=True)) if shape and speedup else {}
    asked = {f"model.dims.{n}": str(v) for n, v in zip("MKN", shape, strict=True)} if shape else {}
    if speedup is not None:
        low, high = speedup * math.exp(-spread), speedup * math.exp(spread)
        record.verdict = verdict(SpeedupEstimate(speedup, low, high, 40, 1), 0.02)
        record.metrics = _metrics(speedup, low, high, str(record.axes["quant"]))
        record.details = {"pairing": "interleaved", "stop_reason": "narrow" if spread < 0.02 else "budget"}
    return Made(record, {"compile.fullgraph": "false"} | asked | (params or {}))


def _metrics(speedup: float, low: float, high: float, quant: str) -> dict[str, float]:
    saved, sqnr = {"int8wo": (0.48, 41.3), "int8dq": (0.48, 33.8), "int4wo": (0.72, 18.2)}.get(
        quant, (0.0, 90.0)
    )
    return {
        "speedup/ratio": speedup, "speedup/ci_low": low, "speedup/ci_high": high, "speedup/pairs": 40.0,
        "latency/median_ms": 84.2 / speedup, "latency/baseline_median_ms": 84.2,
        "memory/baseline_model_gib": 0.07, "memory/model_gib": 0.07 * (1 - saved),
        "quality/sqnr_db": sqnr, "quality/cosine": 0.999, "compile/recompiles": 0.0,
    }  # fmt: skip


def model_runs() -> Iterator[Made]:
    """flux-tiny at two batches, two compile modes, five schemes."""
    gains = {"none": 1.0, "int8wo": 0.58, "int8dq": 0.96, "int4wo": 0.74}
    for index, (quant, batch, mode) in enumerate(product(gains, (1, 4), ("default", "none"))):
        grow = 1.26 if quant == "int8dq" and batch == 4 else 1.0
        slow = 0.7 if mode == "none" and quant not in ("none", "int8wo") else 1.0
        spread = 0.05 if (quant, batch) == ("int8dq", 1) else 0.004 + 0.001 * index
        yield made(f"model-{quant}-{batch}-{mode}", gains[quant] * grow * slow, spread=spread, quant=quant,
                   batch=batch, compile=mode)  # fmt: skip
        for name in ("float8dq",) if quant == "none" else ():
            yield made(f"model-{name}-{batch}-{mode}", outcome=Outcome.UNSUPPORTED, reason=NO_FLOAT8, quant=name,
                       batch=batch, compile=mode)  # fmt: skip
    yield made("model-int8dq-8", outcome=Outcome.COMPILE_ERROR, reason="C++ compile error: undeclared 'tmp12'",
               batch=8)  # fmt: skip
    yield made("model-oom", outcome=Outcome.TIMEOUT, reason="no answer for 900 s", batch=64)


def linear_runs(sides: Sequence[tuple[int, int]] = ((512, 512), (512, 2048), (2048, 512), (4096, 4096)),
                ms: Sequence[int] = tuple(2**i for i in range(13))) -> Iterator[Made]:  # fmt: skip
    """One Linear: int8dq pays from some M on, int8wo never, int4wo only at small M, float8dq is unsupported."""
    for (k, n), mode, m in product(sides, ("default", "none"), ms):
        size = math.log2(k * n / 512**2) / 20
        held = -0.35 if mode == "none" else 0.0
        curves = {
            "int8dq": 0.22 * (math.log10(m) - 1.9) + size + held,
            "int8wo": -0.25 - 0.05 * math.log10(m) + size / 4,
            "int4wo": 0.3 - 0.16 * math.log10(m) + size + held / 2,
        }
        for quant, value in curves.items():
            wobble = 0.02 * math.sin(37 * m + k)
            yield made(f"lin-{quant}-{mode}-{m}-{k}-{n}", math.exp(value + wobble), shape=(m, k, n), quant=quant,
                       compile=mode, spread=0.03)  # fmt: skip
        yield made(f"lin-float8dq-{mode}-{m}-{k}-{n}", outcome=Outcome.UNSUPPORTED, reason=NO_FLOAT8,
                   shape=(m, k, n), quant="float8dq", compile=mode)  # fmt: skip


def publish(database: Path, experiment_id: str, runs: Sequence[Made], *, published: bool = True) -> None:
    """Write runs into MLflow's database as `src.records.mlflow.tracking` has them, one second apart.

    Not through MLflow, which takes a second for 13 of them.
    """
    with closing(sqlite3.connect(database)) as connection, connection:
        asked = "SELECT artifact_location FROM experiments WHERE experiment_id = ?"
        (artifacts,) = connection.execute(asked, (experiment_id,)).fetchone()
        for index, run in enumerate(runs):
            run.run_ids.append(uuid4().hex)
            folder, now = f"{artifacts}/{run.run_ids[-1]}/artifacts", START_MS + 1000 * index
            _insert(connection, run, now, _tags(run.record, published), (folder, int(experiment_id)))


def _insert(
    connection: sqlite3.Connection, run: Made, now: int, tags: dict[str, str], where: tuple[str, int]
) -> None:
    run_id, record = run.run_ids[-1], run.record
    connection.execute(
        "INSERT INTO runs (run_uuid, name, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri, "
        "experiment_id) VALUES (?, ?, 'me', 'FINISHED', ?, ?, 'active', ?, ?)",
        (run_id, record.run_key, now, now, *where),
    )
    params = run.params | {name: str(value) for name, value in (record.axes | record.shape).items()}
    for table, texts in (("params", params), ("tags", tags)):
        rows = [(name, text, run_id) for name, text in texts.items()]
        connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
    points = [(name, value, now, run_id) for name, value in record.metrics.items()]
    for table in ("metrics", "latest_metrics"):
        into = (
            f"INSERT INTO {table} (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, 0, 0)"
        )
        connection.executemany(into, points)


def _tags(record: Record, published: bool) -> dict[str, str]:
    tags = {"kind": "run", "run_key": record.run_key, "attempt": str(record.attempt)}
    tags |= {"sweep": record.sweep, "sweeps": f" {record.sweep} ", "outcome": str(record.outcome)}
    optional = {"verdict": record.verdict, "reason": record.reason, "remedy": record.remedy}
    tags |= {name: str(text) for name, text in optional.items() if text}
    return tags | {"device": str(record.device["name"])} | ({"published": "1"} if published else {})


def write_records(outputs: Path, runs: Sequence[Made]) -> None:
    """The records of runs on disk, where a run writes them."""
    for run in runs:
        folder = outputs / "runs" / run.record.run_key / f"{run.record.attempt:03d}"
        folder.mkdir(parents=True)
        run.record.write(folder)
