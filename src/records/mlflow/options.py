"""The options that the analysis tells treatments apart by, in one hidden tag of a run: its parameters are the axes.

A configuration has some 200 settings. As parameters they bury the axes in every page of MLflow's UI, and make reading
many runs slow; as ``config.yaml`` they are with the run anyway.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping

from src.records.key import PROSE

OPTIONS_TAG = "mlflow.quantpay.options"  # MLflow's UI shows no tag whose name begins so
_MOST = 8000  # characters of a tag
_TOLD_BY = (
    "quant.", "compile.", "recipe.", "model.factory.", "model.weights.", "model.dims.", "model.pipeline.",
)  # fmt: skip
_TOLD_OF_STEPS = ("training.optimizer.", "training.lora.")  # of task=training alone
_TOLD_BESIDE = ("model.pipeline.classifier.", "model.pipeline.samples")  # they change no time
_ALONE = (
    "task.compares", "measure.margin", "measure.confidence", "measure.in_turn_drift", "treatment", "ladder.step",
    "ladder.order",
)  # fmt: skip


def options(settings: Mapping[str, str]) -> dict[str, str]:
    """Of all settings of a run, by dotted names, those that its treatment and its verdict depend on."""
    told = _TOLD_BY + (_TOLD_OF_STEPS if settings.get("task.steps") == "true" else ())
    return {
        name: text
        for name, text in sorted(settings.items())
        if name in _ALONE
        or (name.startswith(told) and not name.startswith(_TOLD_BESIDE) and not is_prose(name))
    }


def options_text(settings: Mapping[str, str]) -> str:
    """The tag: `options` as JSON. Where it would be too long the longest group of them is told by a hash."""
    kept = options(settings)
    while len(text := json.dumps(kept, separators=(",", ":"))) > _MOST:
        groups: dict[str, dict[str, str]] = defaultdict(dict)
        for name, value in kept.items():
            groups[".".join(name.split(".")[:2])][name] = value
        longest = max(groups, key=lambda name: len(json.dumps(groups[name])))
        kept = {name: value for name, value in kept.items() if name not in groups[longest]}
        kept[longest] = f"#{hashlib.sha256(json.dumps(groups[longest]).encode()).hexdigest()[:8]}"
    return text


def is_prose(name: str) -> bool:
    """Whether a setting is one of a scheme's words, which its run key does not hold either.

    An argument of a torchao config counts whatever it is called.
    """
    parts = name.split(".")
    said = parts[: parts.index("config")] if "config" in parts else parts
    return parts[0] == "quant" and not PROSE.isdisjoint(said[1:])
