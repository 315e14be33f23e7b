"""Run folders as a sweep leaves them, with made-up but plausible numbers."""

import contextlib
import json
import random
import socket
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from src.config.schema.root import TrackingConf
from src.records.record import Outcome, Record
from src.records.store import SweepManifest, next_attempt, run_folder

DEAD_DRIVER_PID = 2**22 + 1  # above the kernel's largest pid


def make_run(
    outputs: Path,
    run_key: str,
    sweep: str,
    *,
    speedup: float = 1.2,
    pairs: int = 60,
    record: bool = True,
    **axes: Any,
) -> Path:
    """One run's folder; without a record it is as the run was left when its process died."""
    attempt = next_attempt(outputs, run_key)
    folder = run_folder(outputs, run_key, attempt)
    named = {"model": "flux-tiny", "quant": "int8wo", "compile": "default", "batch": 1, "gpu": "cpu"}
    named |= {"resolution": 256, "target": "denoiser", "dtype": "bfloat16", "task": "latency"} | axes
    (folder / "config.yaml").write_text(yaml.safe_dump(config(named)), encoding="utf-8")
    (folder / "run.log").write_text("build\nmeasure\n", encoding="utf-8")
    if not record:
        return folder
    rng = np.random.default_rng(abs(hash(run_key)) % 2**32)
    baseline = 40 * named["batch"] ** 0.9 * rng.lognormal(0, 0.03, pairs)
    treated = baseline / speedup * rng.lognormal(0, 0.02, pairs)
    rounds = {
        "baseline_ms": baseline.tolist(),
        "treated_ms": treated.tolist(),
        "order": ["AB", "BA"] * (pairs // 2),
    }
    (folder / "rounds.json").write_text(json.dumps(rounds), encoding="utf-8")
    low, high = speedup * 0.985, speedup * 1.015
    verdict = "helps" if low > 1.02 else "hurts" if high < 0.98 else "neutral"
    made = Record(run_key, attempt, sweep, named, Outcome.OK, verdict, f"{speedup:.2f}x, margin 2%")
    made.device = {"name": "Made-up CPU", "type": "cpu"}
    made.metrics = {
        "speedup/ratio": speedup, "speedup/ci_low": low, "speedup/ci_high": high, "speedup/pairs": float(pairs),
        **percentiles("latency/", treated), **percentiles("latency/baseline_", baseline),
        "throughput/calls_per_s": float(1e3 / np.median(treated)), "quality/sqnr_db": 38.0 + 4 * float(rng.random()),
        "memory/model_gib": 0.4, "memory/baseline_model_gib": 0.8, "compile/cold_s": 21.0, "compile/warm_s": 6.2,
    }  # fmt: skip
    made.started_at, made.finished_at = "2026-01-02T03:04:05+00:00", "2026-01-02T03:05:05+00:00"
    made.write(folder)
    return folder


def percentiles(prefix: str, times: Any) -> dict[str, float]:
    """The three latency metrics of an arm."""
    return {
        f"{prefix}{p}_ms": float(np.percentile(times, q))
        for p, q in (("p10", 10), ("median", 50), ("p90", 90))
    }


def config(axes: dict[str, Any]) -> dict[str, Any]:
    """A resolved configuration with the kinds of values that there are."""
    groups = {group: {"name": axes[group]} for group in ("model", "quant", "compile", "gpu", "task")}
    groups["model"] |= {"inputs": {"x": {"shape": ["batch", "tokens", 64], "fill": None}}, "dims": {}}
    rest = {name: axes[name] for name in ("batch", "resolution", "target", "dtype")}
    return groups | rest | {"measure": {"budget_s": 10.0}, "outputs": "outputs", "tracking": {"uri": "x"}}


def make_sweep(outputs: Path, sweep: str, folders: list[Path], *, dead: bool = False) -> SweepManifest:
    """The manifest of a sweep over these folders, driven by this process or by a dead one."""
    manifest = SweepManifest.start(sweep, ["python", "-m", "src.run", "-m", "quant=int8wo"])
    if dead:
        manifest.driver |= {"pid": DEAD_DRIVER_PID}
    for folder in folders:
        manifest.add(folder.parent.name, int(folder.name), skipped=False)
    manifest.write(outputs)
    return manifest


def free_port() -> int:
    """A port that nothing listens on, below those that the kernel hands out until a server has it."""
    while True:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", random.SystemRandom().randrange(10000, 20000)))
            return int(listener.getsockname()[1])


def local(outputs: Path) -> TrackingConf:
    """The configuration `tracking=sqlite`."""
    return TrackingConf(
        "sqlite", True, f"sqlite:///{outputs}/mlflow.db", "quantpay", str(outputs / "artifacts")
    )
