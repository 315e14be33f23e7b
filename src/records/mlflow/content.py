"""What MLflow shows of a record: names and units stand in docs/records.md."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from src.config.lines import clipped, first_line
from src.config.schema.model import DENOISER, PIPELINE, TOKENS
from src.records.key import AXES
from src.records.pictures import quality_words
from src.records.pooled import ERROR, ESTIMATE, FOLDER_NAME
from src.records.record import RECORD_NAME, Outcome, Record
from src.records.store import MARKER_NAME

_MAX_PARAM, _MAX_TAG, _MAX_KEY = 6000, 2000, 250  # characters; MLflow's own limits are 6000, 8000, 250
_WHOLE = "processes"  # a tag that is not cut: 50 processes need 2600 characters
_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")
_NOT_MEASURED = ("tracking", "outputs", "rerun", "plan", "varied")
_USUAL = {"target": DENOISER, "task": "latency", "gpu": "auto"}
_OF_SHAPE = ("model.dims.M", "model.dims.K", "model.dims.N")
_STATUS = {Outcome.KILLED: "KILLED"}


def label(record: Record) -> str:
    """A run in one line: its axes, those in which it is as most runs left out, and what differs in its sweep."""
    axes, shape = record.axes, record.shape
    size = "x".join(str(shape[d]) for d in "MKN" if d in shape)
    named = [axes.get("quant", "?"), axes.get("compile", "?"), f"b{axes.get('batch', '?')}"]
    named += [axes.get("model", "?"), f"{axes['resolution']}px" if axes.get("resolution") else "", size]
    named += [f"{axes['frames']} frames"] if axes.get("frames") else []
    named += [
        axes.get(name, "")
        for name in ("target", "dtype", "task", "gpu")
        if axes.get(name) not in (_USUAL.get(name), axes.get("model"))  # a Linear is its own target
    ]
    named += [f"seed {axes['seed']}"] if axes.get("seed") else []
    others = (name for name in axes if name not in AXES and not (size and name in _OF_SHAPE))
    return " ".join(filter(None, (*named, *(f"{name}={axes[name]}" for name in others))))


def status(record: Record) -> str:
    """MLflow's status of a run that ended so."""
    return "FINISHED" if record.outcome.is_finding else _STATUS.get(record.outcome, "FAILED")


def tags(record: Record) -> dict[str, str]:
    """The tags that are set once a run's content is there."""
    texts = {
        "outcome": record.outcome,
        "verdict": record.verdict,
        "device": str(record.device.get("name", "")),
        "device_identity": identity_text(record.device),
        "baseline": str(record.details.get("baseline", {}).get("text", "")),
        "baseline_dtype": str(record.details.get("baseline", {}).get("dtype", "")),
        "pairing": str(record.details.get("pairing", "")),
        "cache": str(record.details.get("cache", "")),
        "reason": record.reason,
        "remedy": record.remedy,
        "weights": str(record.details.get("weights", "")),
        "withheld": "1" if record.details.get("withheld") else "",
        "processes": _compact(processes(record)) if "speedup/processes" in record.metrics else "",
        "mlflow.note.content": note(record),
    }
    return {name: text if name == _WHOLE else text[:_MAX_TAG] for name, text in texts.items() if text}


def identity_text(device: dict[str, Any]) -> str:
    """What tells a device from another of the same name, as one line of JSON; empty where it is not recorded."""
    identity = device.get("identity")
    return json.dumps(identity, sort_keys=True, separators=(",", ":")) if identity else ""


def processes(record: Record) -> list[list[float]]:
    """Speedup, its interval and its error (if recorded) of each process that counts; of a run in one its own."""
    told = record.details.get("processes", {}).get("each", ())
    counted = [each for each in told if each["counts"]]
    own = {_part(name): record.metrics[name] for name in (*ESTIMATE, ERROR) if name in record.metrics}
    return [[*_estimate(each)] for each in counted or [own]]


def _part(metric: str) -> str:
    return metric.partition("/")[2]


def _estimate(told: dict[str, float]) -> Iterator[float]:
    yield from (round(told[end], 6) for end in map(_part, ESTIMATE) if end in told)
    if (error := told.get(_part(ERROR))) is not None:
        yield float(f"{error:.3g}")


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def note(record: Record) -> str:
    """The run's description: its result in words."""
    m = record.metrics
    lines = [f"**{record.verdict or record.outcome}**: {record.reason or label(record)}"]
    if "speedup/ratio" in m:
        lines.append(f"speedup {speedup(m)}")
        if "speedup_same_dtype/ratio" in m:
            against = record.details["baseline"]["text"]
            lines[-1] += f" against {against}; {speedup(m, 'speedup_same_dtype')} against its own dtype"
    if "interval" in record.details and "speedup/ratio" in m:
        lines.append(f"in the interval: {record.details['interval']}")
    if "latency/median_ms" in m:
        lines.append(f"latency {latency(m)}, baseline {latency(m, 'baseline_')}")
    if (said := quality_words(record)) and "weights" in record.details:
        lines.append(f"quality, with {record.details['weights']}: {said}")
    if record.remedy:
        lines.append(f"remedy: {record.remedy}")
    return "\n\n".join(lines)


def speedup(m: dict[str, float], family: str = "speedup") -> str:
    """The speedup of a family of metrics, and its interval."""
    ends = [m.get(f"{family}/{end}") for end in ("ci_low", "ci_high")]
    interval = "" if None in ends else f" ({ends[0]:.3f} to {ends[1]:.3f})"
    return f"{m[f'{family}/ratio']:.3f}x{interval}"


def latency(m: dict[str, float], arm: str = "") -> str:
    """An arm's median with its 10th and 90th percentile, ms per call."""
    if f"latency/{arm}median_ms" not in m:
        return "not measured"
    spread = [m.get(f"latency/{arm}{p}_ms") for p in ("p10", "p90")]
    ends = " to ".join(f"{x:.4g}" for x in spread if x is not None)
    return f"{m[f'latency/{arm}median_ms']:.4g} ms" + (f" ({ends})" if ends else "")


def params(record: Record, settings: dict[str, str]) -> dict[str, str]:
    """The axes, and the shape; what else a run was told is in its ``config.yaml``.

    Args:
        settings: of `settings`, which have an axis' value as it was resolved.
    """
    return {name: settings[name] for name in map(param_name, [*record.axes, *record.shape])}


def settings(record: Record, folder: Path) -> dict[str, str]:
    """The axes and the shape flat, the rest of ``config.yaml`` dotted.

    Raises:
        ValueError: ``config.yaml`` cannot be read.
    """
    path = folder / "config.yaml"
    flat: dict[str, str] = {}
    if path.exists():
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not readable YAML ({first_line(error)})") from error
        if not isinstance(config or {}, dict):
            raise ValueError(f"{path}: not readable YAML (no mapping)")
        for name, value in (config or {}).items():
            if name not in _NOT_MEASURED:
                flat |= _flatten(name, value)
    flat = {name: text for name, text in flat.items() if not name.endswith(".description")}
    if record.axes.get("target") != PIPELINE:
        flat = {name: text for name, text in flat.items() if not name.startswith("model.pipeline.")}
    elif flat.get("model.pipeline.prompt") != TOKENS and flat.get("model.pipeline.prompts", "[]") == "[]":
        flat = {
            name: text for name, text in flat.items() if not name.startswith("model.pipeline.text_encoders.")
        }
    named = {param_name(name): _text(value) for name, value in (record.axes | record.shape).items()}
    return named | flat | {name: text for name, text in named.items() if name in (*AXES, *record.shape)}


def _flatten(name: str, value: Any) -> dict[str, str]:
    if isinstance(value, dict) and value:
        found: dict[str, str] = {}
        for key, inner in value.items():
            found |= _flatten(f"{name}.{key}", inner)
        return found
    return {param_name(name): _text(value)}


def param_name(key: str) -> str:
    """What MLflow calls an axis or a setting: some characters are not for it."""
    return _NOT_IN_NAMES.sub("_", key)[:_MAX_KEY]


def _text(value: Any) -> str:
    return clipped(value if isinstance(value, str) else json.dumps(value, default=str), _MAX_PARAM)


def artifacts(folder: Path) -> Iterable[Path]:
    """The files of a run's folder and of its processes', without what publishing itself writes there."""
    found = [*sorted(folder.iterdir()), *sorted((folder / FOLDER_NAME).glob("*/*"))]
    files = (f for f in found if f.is_file() and not f.name.startswith("."))
    return [f for f in files if f.name != MARKER_NAME and (f.name == RECORD_NAME or f.stat().st_size)]


def milliseconds(moment: str) -> int:
    """An ISO moment in ms since 1970."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
