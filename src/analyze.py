"""CLI: `python -m src.analyze [sweep=...] [import=...] [predict=...]`, verdicts, forecasts and a report."""

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

_IMPORT = "import="


def _task(cfg: DictConfig) -> int:
    from src.checks.validation import validated
    from src.config.schema import AnalyzeConf
    from src.report.analysis import analyze

    return analyze(validated(cfg, AnalyzeConf))


def main() -> int:
    """Entry point; returns 0 with a report, 1 when there is nothing to report, 2 on a wrong command line."""
    from src.app.application import main as hydra_main

    return hydra_main("analyze", _task, with_imports(sys.argv[1:]), prog="python -m src.analyze")


def with_imports(argv: Sequence[str]) -> list[str]:
    """The command line with every `import=FILE` and `import=[FILE,FILE]` in one `imports=[...]`, the key's name.

    `import` is a word of Python's, so no field can have it; and Hydra takes a key once.
    """
    given = [word.removeprefix(_IMPORT) for word in argv if word.startswith(_IMPORT)]
    files = [file for value in given for file in _files(value)]
    others = [word for word in argv if not word.startswith(_IMPORT)]
    return [*others, f"imports=[{','.join(files)}]"] if given else others


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
