"""What an analysis of very many runs takes: seconds and GiB of the whole command, first, again, and after 100 more.

    python -m benchmarks.scale [RUNS ...]          by default 1,000 10,000 100,000

The runs are made up, and written into MLflow's own database and on disk as publishing writes them (without rounds
and layer tables): single Linears and whole models on six devices, in several schemes and compile modes; one in ten in
three processes, one in twenty unsupported, one in fifty a repetition of an older one by other versions.
"""

import json
import math
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from uuid import uuid4

from src.records.mlflow import content
from src.records.mlflow.options import OPTIONS_TAG, options_text
from src.records.record import RECORD_NAME, Outcome, Record
from src.records.store import run_folder
from src.statistics.speedup import SpeedupEstimate, verdict

RUNS = (1_000, 10_000, 100_000)
MORE = 100
_DEVICES = [f"NVIDIA made-up {name} (80 GiB, {watts} W)" for name, watts in product("ABC", (300, 700))]
_MODES, _DTYPES = ("default", "none"), ("bfloat16", "float16", "float32")
_BATCHES, _SIZES = (1, 2, 4, 8), (256, 512, 1024)
_SIDES = [(k, n) for k, n in product([2**i for i in range(9, 14)], repeat=2)] + [(3072, 12288), (12288, 3072)]
_ROWS = [2**i for i in range(13)]
_SCHEMES = {"int8wo": -0.2, "int8dq": 0.0, "float8dq": 0.1, "float8wo": -0.1, "int4wo": -0.3, "mxfp8": 0.05,
            "float8dq_row": 0.12, "uint4wo": -0.4, "none": 0.0}  # fmt: skip
_MODELS = [f"made-up-{name}" for name in ("flux", "sd3", "sdxl", "pixart", "wan", "hunyuan", "lumina", "dit")]
_SETTINGS = {f"quant.setting_{i}": "null" for i in range(20)} | {
    f"compile.setting_{i}": "true" for i in range(8)
}
_ENVIRONMENT = {"torch": "2.13.0", "torchao": "0.18.0", "protocol": "3", "host": "node1", "dirty": False}
_START_S = 1_785_578_400
_OTHERS = [f"latency/{arm}{p}_ms" for arm in ("", "baseline_") for p in ("p10", "p90", "host", "device")]
_OTHERS += [f"memory/{arm}peak_{kind}_gib" for arm in ("", "baseline_") for kind in ("allocated", "reserved")]
_OTHERS += [
    f"device/{arm}{what}" for arm in ("", "baseline_") for what in ("sm_mhz", "power_w", "temperature_c")
]
_OTHERS += [f"{series}/{arm}_ms" for series in ("rounds", "distribution") for arm in ("baseline", "treated")]
_OTHERS += [
    "compile/cold_s",
    "compile/recompiles",
    "compile/graph_breaks",
    "quantize/time_s",
    "quantize/layers",
]


def records(count: int) -> Iterator[Record]:
    """So many made-up records, six in ten of single Linears; up to 115,000."""
    linears = product(_DTYPES, _DEVICES, _MODES, _SIDES, _SCHEMES, _ROWS)
    models = product(_DTYPES, _DEVICES, _MODELS, _BATCHES, _SIZES, (*_MODES, "regional"), _SCHEMES)
    chance = random.Random(0)
    last: Record | None = None
    for number in range(count):
        if number % 50 == 49 and last is not None:
            yield _record(number, chance, last.axes, last.shape, last.device["name"])
            continue
        if number % 10 < 6:
            dtype, device, mode, (k, n), quant, m = next(linears)
            axes, shape = _axes("linear", quant, mode, 1, 0, dtype), {"M": m, "K": k, "N": n}
        else:
            dtype, device, model, batch, resolution, mode, quant = next(models)
            axes, shape = _axes(model, quant, mode, batch, resolution, dtype), {}
        last = _record(number, chance, axes, shape, device)
        yield last


def _axes(model: str, quant: str, mode: str, batch: int, resolution: int, dtype: str) -> dict[str, object]:
    target = "denoiser" if resolution else "linear"
    return {"model": model, "quant": quant, "compile": mode, "batch": batch, "gpu": "auto", "seed": 0,
            "resolution": resolution, "target": target, "dtype": dtype, "task": "latency"}  # fmt: skip


def _record(
    number: int, chance: random.Random, axes: dict[str, object], shape: dict[str, int], device: str
) -> Record:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(_START_S + 60 * number))
    sweep = f"sweep-{number // 1000:04d}"
    record = Record(f"{number:016x}", 1, sweep, axes, started_at=moment, finished_at=moment, shape=shape)
    record.device = {"name": device, "kind": "cuda", "identity": {"name": device, "memory_gib": 80.0}}
    record.environment = dict(_ENVIRONMENT)
    if number % 20 == 19:
        record.outcome, record.shape = Outcome.UNSUPPORTED, {}
        record.reason, record.remedy = f"{axes['quant']} needs another device than {device}", "another device"
    else:
        record.outcome = Outcome.OK
        _measure(record, chance)
        if number % 10 == 0:
            _repeat(record, chance)
    return record


def _measure(record: Record, chance: random.Random) -> None:
    """A speedup that grows with the layer, and what else is measured."""
    axes, shape = record.axes, record.shape
    rows, side = (shape["M"], shape["K"] * shape["N"]) if shape else (256, 2**22)
    grows = 0.06 * math.log2(rows) + 0.03 * math.log2(side) - 1.05
    ratio = math.exp(
        _SCHEMES[str(axes["quant"])] + (grows if axes["quant"] != "none" else 0.0) + chance.gauss(0, 0.02)
    )
    low, high = ratio * math.exp(-0.01), ratio * math.exp(0.01)
    record.verdict = verdict(SpeedupEstimate(ratio, low, high, 40, 1), 0.02)
    baseline_ms = (0.02 + rows * side / 3e11) * (1 if axes["compile"] == "none" else 0.9)
    record.metrics = dict.fromkeys(_OTHERS, 1.5) | {
        "speedup/ratio": ratio, "speedup/ci_low": low, "speedup/ci_high": high, "speedup/pairs": 40.0,
        "speedup/error": 0.005,
        "latency/median_ms": baseline_ms / ratio, "latency/baseline_median_ms": baseline_ms,
        "memory/model_gib": 0.6, "memory/baseline_model_gib": 1.0, "quality/sqnr_db": chance.uniform(15, 45),
    }  # fmt: skip
    record.details = {"pairing": "interleaved", "stop_reason": "narrow"}


def _repeat(record: Record, chance: random.Random) -> None:
    """As if measured in three processes."""
    ratio, low, high = (record.metrics[f"speedup/{name}"] for name in ("ratio", "ci_low", "ci_high"))
    near = [ratio * math.exp(chance.gauss(0, 0.01)) for _ in range(3)]
    each = [
        {"ratio": r, "ci_low": r * low / ratio, "ci_high": r * high / ratio, "error": 0.005, "counts": True}
        for r in near
    ]
    record.details["processes"] = {"planned": 3, "each": each}
    record.metrics["speedup/processes"] = 3.0


class Store:
    """An outputs folder whose database and records are written directly: publishing takes a second for 13 runs."""

    def __init__(self, outputs: Path) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow import MlflowClient

        outputs.mkdir(parents=True, exist_ok=True)
        self.outputs, self.database = outputs, outputs / "mlflow.db"
        client = MlflowClient(f"sqlite:///{self.database}")
        self._artifacts = (outputs / "artifacts").as_uri()
        self.experiment_id = int(client.create_experiment("quantpay", self._artifacts))

    def add(self, found: Iterator[Record]) -> None:
        """Publish these records."""
        with sqlite3.connect(self.database) as connection:
            for record in found:
                self._insert(connection, record)
                folder = run_folder(self.outputs, record.run_key, record.attempt)
                folder.mkdir(parents=True)
                (folder / RECORD_NAME).write_text(json.dumps(asdict(record)), encoding="utf-8")
        connection.close()

    def _insert(self, connection: sqlite3.Connection, record: Record) -> None:
        run_id, at_ms = uuid4().hex, content.milliseconds(record.started_at)
        row = (
            run_id,
            content.label(record),
            "me",
            "FINISHED",
            at_ms,
            at_ms,
            "active",
            f"{self._artifacts}/{run_id}/artifacts",
            self.experiment_id,
        )
        connection.execute(
            "INSERT INTO runs (run_uuid, name, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri, "
            "experiment_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row,
        )  # fmt: skip
        named = {name: str(value) for name, value in (record.axes | record.shape).items()}
        tags = {
            "kind": "run",
            "run_key": record.run_key,
            "attempt": "1",
            "sweep": record.sweep,
            "published": "1",
        }
        tags |= {"sweeps": f" {record.sweep} ", OPTIONS_TAG: options_text(_SETTINGS)} | content.tags(record)
        connection.executemany(
            "INSERT INTO params VALUES (?, ?, ?)", [(k, v, run_id) for k, v in named.items()]
        )
        connection.executemany("INSERT INTO tags VALUES (?, ?, ?)", [(k, v, run_id) for k, v in tags.items()])
        points = [(name, value, at_ms, 0, 0, run_id) for name, value in record.metrics.items()]
        connection.executemany("INSERT INTO latest_metrics VALUES (?, ?, ?, ?, ?, ?)", points)


def analysed(outputs: Path) -> tuple[float, float]:
    """Seconds and peak GiB of one `python -m src.analyze`."""
    command = [sys.executable, "-m", "src.analyze", f"outputs={outputs}"]
    start = time.perf_counter()
    with (outputs / "analyze.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit((outputs / "analyze.log").read_text())
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


def main(counts: list[int]) -> None:
    """Print a line per number of runs."""
    print(f"{'runs':>8}  {'database':>9}  {'first':>17}  {'again':>17}  {'100 more':>17}  report")
    for count in counts:
        with tempfile.TemporaryDirectory(dir=os.environ.get("SCALE_FOLDER")) as folder:
            store, found = Store(Path(folder) / "outputs"), records(count + MORE)
            store.add(each for _, each in zip(range(count), found, strict=False))
            told = [analysed(store.outputs), analysed(store.outputs)]
            store.add(found)
            told.append(analysed(store.outputs))
            times = "  ".join(f"{seconds:6.1f} s {gib:4.2f} GiB" for seconds, gib in told)
            size = (store.outputs / "report" / "report.html").stat().st_size / 1e3
            print(
                f"{count:8,}  {store.database.stat().st_size / 1e6:6.0f} MB  {times}  {size:.0f} kB",
                flush=True,
            )


if __name__ == "__main__":
    main([int(word.replace(",", "")) for word in sys.argv[1:]] or [*RUNS])
