"""CLI: `python -m src.calibrate [gpu=...] [measure=...]`, whether the instrument can be trusted on this device."""

import sys
from pathlib import Path

from omegaconf import DictConfig


def main() -> int:
    """Entry point; returns 0 when all requirements are met, 1 when not, 2 on a wrong command line."""
    from src.app.application import main as hydra_main

    return hydra_main("calibrate", _task, prog="python -m src.calibrate")


def _task(cfg: DictConfig) -> int:
    from src.checks.validation import validated
    from src.config.noise import quiet_libraries
    from src.config.schema.root import CalibrateConf
    from src.launching.preparation import writable

    conf = validated(cfg, CalibrateConf)
    writable(Path(conf.outputs))  # said before torch and torchao are imported, which takes seconds
    with quiet_libraries():
        from src.calibration.calibration import calibrate
    return calibrate(conf)


if __name__ == "__main__":
    sys.exit(main())
