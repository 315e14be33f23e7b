"""CLI: `python -m src.analyze [sweep=...] [experiment=...] [report=...]`, verdicts and a report from tracked runs."""

import sys

from omegaconf import DictConfig


def _task(cfg: DictConfig) -> int:
    from src.checks.validation import validated
    from src.config.schema import AnalyzeConf
    from src.report.analysis import analyze

    return analyze(validated(cfg, AnalyzeConf))


def main() -> int:
    """Entry point; returns 0 with a report, 1 when there is nothing to report, 2 on a wrong command line."""
    from src.app.application import main as hydra_main

    return hydra_main("analyze", _task, prog="python -m src.analyze")


if __name__ == "__main__":
    sys.exit(main())
