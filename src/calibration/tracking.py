"""Calibrations in MLflow: a run each, with the tag ``kind=calibration``, beside the measured runs."""

from datetime import datetime
from pathlib import Path

from src.calibration.record import Calibration
from src.calibration.summary import found_rate
from src.config.schema import TrackingConf
from src.records.connection import connect, explained

_KEPT_ASIDE = (".log",)


def publish(done: Calibration, folder: Path, conf: TrackingConf) -> str:
    """Publish a calibration's folder; returns MLflow's run id. The tag ``published`` comes last.

    Raises:
        TrackingError: the tracker cannot be used.
    """
    connection = connect(conf)
    client = connection.client
    with explained(connection.uri, f"{folder} cannot be published"):
        from mlflow.entities import Metric, RunTag

        started, finished = (_ms(moment) for moment in (done.started_at, done.finished_at))
        name = f"calibration of {done.device['name']}"
        run = client.create_run(connection.experiment_id, started, tags(done), name)
        run_id = str(run.info.run_id)
        found = [Metric(name, value, finished, 0) for name, value in metrics(done).items()]
        client.log_batch(run_id, metrics=found)
        for path in sorted(folder.iterdir()):
            if path.suffix not in _KEPT_ASIDE:
                client.log_artifact(run_id, str(path))
        client.set_terminated(run_id, "FINISHED", finished)
        client.log_batch(run_id, tags=[RunTag("published", "1")])
    return run_id


def tags(done: Calibration) -> dict[str, str]:
    """What readers look for: device, whether it passed and what failed, and of which instrument."""
    summary = done.summary
    failed = [f"{each.text}: {each.measured}, {each.limit}" for each in summary.failed]
    found = {
        "kind": "calibration",
        "device": str(done.device["name"]),
        "passed": str(done.passed).lower(),
        "status": str(summary.status),
        "failed": "; ".join(failed),
        "protocol": str(done.environment.get("protocol", "")),
        "measure": str(done.config["measure"]["name"]),
        "aa": f"{summary.false_rate.hits} of {summary.false_rate.of}",
    }
    return {name: text for name, text in found.items() if text}


def metrics(done: Calibration) -> dict[str, float]:
    """The headline numbers; relative differences and rates are shares, not percent."""
    summary = done.summary
    found = {
        "calibration/experiments": float(summary.experiments),
        "calibration/crowded": float(summary.crowded),
    }
    if summary.false_rate.of:
        found["calibration/aa_false_rate"] = summary.false_rate.value
    for group in summary.groups:
        if group.slowdown:
            found[f"calibration/{found_rate(group.slowdown)}"] = group.hurts.value
        else:
            found["calibration/aa_coverage"] = group.coverage.value
            found["calibration/aa_spread"] = group.spread
    named = {
        "harness_bias": summary.harness,
        "built_second": summary.built_second,
        "second_arm": summary.second_arm,
    }
    found |= {f"calibration/{name}": mean.value for name, mean in named.items() if mean is not None}
    if summary.timer_ns:
        found["calibration/timer_ns"] = summary.timer_ns["per_round_ns"]
        found["calibration/timer_call_ns"] = summary.timer_ns["per_call_ns"]
    if summary.preset:
        found["calibration/seconds_per_comparison"] = summary.preset.seconds_median
        found["calibration/half_width"] = summary.preset.half_width_median
    return found


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
