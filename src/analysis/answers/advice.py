"""What is needed to follow an answer: the lines of code that apply a pick, and the command that makes it surer."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from src.analysis.answers.commands import surer
from src.analysis.answers.picks import Answer, Pick
from src.analysis.answers.places import elsewhere
from src.analysis.answers.recipe import model_words, recipe
from src.analysis.runs.frame import Plain
from src.records.record import RECORD_NAME
from src.records.store import run_folder

Fetch = Callable[[str, str, Path], Path | None]  # run id, name, folder -> the file, where the tracker has it
_CONFIG, _LAYERS = "config.yaml", "layers.json"
_MOST_RIVALS = 3  # in the command that makes it surer


@dataclass(frozen=True)
class Advice:
    """How to follow one pick.

    `code` is empty where the run's own files are neither here nor in the tracker, `where` where `surer` finds the
    device by itself: else it is the device's name, said beside the command and never in it.
    """

    pick: Pick
    code: str
    surer: str
    where: str = ""


@dataclass(frozen=True)
class Advised:
    """An answer with its advice, a piece per pick."""

    answer: Answer
    advice: list[Advice]


def advised(answered: Sequence[Answer], outputs: Path, fetch: Fetch) -> list[Advised]:
    """Answers with the code and commands that they need.

    Args:
        answered: of `answers`.
        outputs: where the runs' folders are.
        fetch: takes a file of a run from the tracker, where its folder is not here.
    """
    return [Advised(each, [_advice(pick, outputs, fetch) for pick in each.picks]) for each in answered]


def _advice(pick: Pick, outputs: Path, fetch: Fetch) -> Advice:
    if pick.row is not None:
        command = surer([pick.row, *pick.rivals[:_MOST_RIVALS]], outputs)
        return Advice(pick, _code(pick.row, outputs, fetch), command, elsewhere(pick.row))
    if pick.nearest is not None:
        return Advice(pick, "", surer([pick.nearest], outputs), elsewhere(pick.nearest))
    return Advice(pick, "", "")


def _code(row: Plain, outputs: Path, fetch: Fetch) -> str:
    """Python of a run, under a line that says what ``model`` is."""
    with tempfile.TemporaryDirectory() as folder:
        texts = [_text(row, name, outputs, fetch, Path(folder)) for name in (_CONFIG, _LAYERS, RECORD_NAME)]
    if None in texts:
        return ""
    try:
        config: dict[str, Any] = yaml.safe_load(str(texts[0]))
        layers: list[dict[str, Any]] = json.loads(str(texts[1]))
        kind = str(json.loads(str(texts[2]))["device"]["kind"])
        return f"# model: {model_words(config)}\n{recipe(config, layers, kind)}"
    except (yaml.YAMLError, ValueError, KeyError, TypeError):  # files of another version
        return ""


def _text(row: Plain, name: str, outputs: Path, fetch: Fetch, folder: Path) -> str | None:
    path: Path | None = run_folder(outputs, str(row["run_key"]), int(row["attempt"])) / name
    if path is not None and not path.is_file():
        path = fetch(str(row["run_id"]), name, folder)
    return None if path is None else path.read_text(encoding="utf-8")
