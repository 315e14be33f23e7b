"""A command line with Hydra set up over `conf/`: what it says, and the configuration that it composes."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import version
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from src.app.arguments import search_path
from src.app.composing.loader import Loader
from src.config.paths import ROOT
from src.config.schema import root


class CommandLine:
    """One command line, its flags parsed and its overrides not yet."""

    def __init__(self, args: argparse.Namespace, config_name: str, prog: str) -> None:
        self.args = args
        called = Path(sys.argv[0])
        self.prog = prog if called.suffix == ".py" else called.name
        self.config_name = args.config_name or config_name
        self.overrides: list[str] = args.overrides
        version.setbase("1.3")
        root.register()
        self.loader = Loader(search_path(args, ROOT / "conf"))
        self.hydra = Hydra(task_name="quantpay", config_loader=self.loader)
        GlobalHydra.instance().initialize(self.hydra)

    def compose(self, overrides: Sequence[str] | None = None, mode: RunMode = RunMode.RUN) -> DictConfig:
        """The composed configuration, with Hydra's node and logging."""
        given = self.overrides if overrides is None else list(overrides)
        return self.hydra.compose_config(self.config_name, given, mode, with_log_configuration=True)
