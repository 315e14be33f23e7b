"""CLI: `python -m src.compare before=... after=...`: what became faster or slower between two sweeps, what broke.

Exit status: 0 nothing became worse; 1 something broke, became slower or pays less; 2 a wrong command line, or
nothing in common.
"""

import sys
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from src.config.console import Terminal
from src.config.schema.root import CompareConf


def main() -> int:
    """Compose, validate, compare."""
    from src.app.application import main as hydra_main

    return hydra_main("compare", _task, sys.argv[1:], prog="python -m src.compare")


def _task(config: DictConfig) -> int:
    from src.checks.validation import validated

    return compare(validated(config, CompareConf))


def compare(conf: CompareConf, console: Console | None = None) -> int:
    """Hold two sides against each other, print and write what changed; returns the exit status.

    Raises:
        ConfigError: a side is no sweep and no folder of runs, both have nothing in common, or the report's folder
            cannot be written.
    """
    from src.analysis import comparison
    from src.config.errors import ConfigError
    from src.report.comparison import show, write
    from src.report.report import report_folder
    from src.statistics.speedup import margin_text

    console = console or Terminal(highlight=False, width=None if sys.stdout.isatty() else 120)
    outputs = Path(conf.outputs)
    before, after = (
        comparison.side(given or "", outputs, key)
        for key, given in (("before", conf.before), ("after", conf.after))
    )
    found = comparison.compare(before, after, conf.margin, conf.between)
    how = (
        "Intervals hold both sides' own noise and what processes differ by: as a run's own processes tell it (of a "
        f"speedup also other runs of its device), and {margin_text(conf.between)} where nothing does. "
        f"What changed has its whole interval beyond {margin_text(conf.margin)}."
    )
    show(console, found, before, after, how)
    paths = write(found, before, after, how, report_folder(Path(conf.report)))
    console.print(f"comparison: {paths[0].resolve()}", soft_wrap=True, markup=False)
    if not found.cells:
        raise ConfigError(f"before={conf.before} after={conf.after}: no workload and treatment is in both")
    return int(any(cell.what in comparison.WORSE for cell in found.cells))


if __name__ == "__main__":
    sys.exit(main())
