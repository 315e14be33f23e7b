"""CLI: `python -m src.analyze [sweep=...] [experiment=...] [report=...]`, verdicts and a report from tracked runs."""

import sys

from omegaconf import DictConfig


def _task(cfg: DictConfig) -> int:
    from src.analysis.analysis import analyze
    from src.config.schema import AnalyzeConf
    from src.config.validate import validated

    return analyze(validated(cfg, AnalyzeConf))


def main() -> int:
    """Entry point; returns 0 with a report, 1 when there is nothing to report, 2 on a wrong command line."""
    from src.config.app import main as hydra_main

    return hydra_main("analyze", _task, prog="python -m src.analyze")


if __name__ == "__main__":
    sys.exit(main())
