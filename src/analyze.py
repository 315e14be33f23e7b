"""CLI: `python -m src.analyze [sweep=...] [import=...] [predict=...]`, verdicts, forecasts and a report."""

import gc
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

_IMPORT = "import="
_PREDICT_MODEL = "predict=model"
_KEY = re.compile(r"[+~]*(\w+)")  # the first part of an override's key


def _task(cfg: DictConfig) -> int:
    from src.checks.validation import validated
    from src.config.schema.root import AnalyzeConf
    from src.report.analysis import analyze

    return analyze(validated(cfg, AnalyzeConf))


def main() -> int:
    """Entry point; returns 0 with a report, 1 when there is nothing to report, 2 on a wrong command line."""
    from src.app.application import main as hydra_main

    words = with_workload(with_imports(sys.argv[1:]))
    gc.disable()  # looking for garbage takes a tenth of the time, and hardly any of it is in cycles
    try:
        return hydra_main("analyze", _task, words, prog="python -m src.analyze")
    finally:
        gc.enable()


def with_imports(argv: Sequence[str]) -> list[str]:
    """The command line with every `import=FILE` and `import=[FILE,FILE]` in one `imports=[...]`, the key's name.

    `import` is a word of Python's, so no field can have it; and Hydra takes a key once.
    """
    given = [word.removeprefix(_IMPORT) for word in argv if word.startswith(_IMPORT)]
    files = [file for value in given for file in _files(value)]
    others = [word for word in argv if not word.startswith(_IMPORT)]
    return [*others, f"imports=[{','.join(files)}]"] if given else others


def with_workload(argv: Sequence[str]) -> list[str]:
    """The command line of `predict=model` with all it says of the model, as to src.run, in one `workload=[...]`."""
    if _PREDICT_MODEL not in argv:
        return list(argv)
    from src.config.paths import override, readable
    from src.config.schema.root import AnalyzeConf

    own = {*AnalyzeConf.__dataclass_fields__, "hydra"}
    given = [word for word in argv if word.startswith("~") or "=" in word]
    of_model = [word for word in given if (key := _KEY.match(word)) and key[1] not in own]
    words = [override("", readable(word)).removeprefix("=") for word in of_model]
    return [*(word for word in argv if word not in of_model), f"workload=[{','.join(words)}]"]


def _files(value: str) -> list[str]:
    """The elements of a Hydra list, or one path as such an element."""
    from src.config.paths import override

    if value.startswith("[") and value.endswith("]"):
        return [value[1:-1]] if value[1:-1].strip() else []
    home = (
        str(Path.home()) + value[1:] if value.startswith("~/") else value
    )  # a shell leaves it in key=~/file
    return [override("", home).removeprefix("=")] if home and home[0] not in "'\"" else [value]


if __name__ == "__main__":
    sys.exit(main())
