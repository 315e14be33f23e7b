"""A task that measures nothing: int8wo is 1.4 times as fast, and each run looks as if it took a minute."""

from datetime import UTC, datetime, timedelta

from src.context import RunContext
from src.records.record import Outcome


def helps_everywhere(run: RunContext) -> None:
    dims, ratio = run.cfg.model.dims, 1.4
    ms = 0.01 + dims["M"] * dims["K"] * dims["N"] / 1e9
    run.record.outcome, run.record.verdict = Outcome.OK, "helps"
    run.record.started_at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    run.record.shape = dict(dims)
    run.record.metrics |= {
        "speedup/ratio": ratio, "speedup/ci_low": ratio / 1.01, "speedup/ci_high": ratio * 1.01,
        "speedup/pairs": 20.0, "latency/baseline_median_ms": ms, "latency/median_ms": ms / ratio,
    }  # fmt: skip
