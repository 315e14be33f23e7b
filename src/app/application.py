"""The command-line application around Hydra: what `hydra.main` does, with our errors and exit statuses.

`hydra.main` reports a wrong configuration as up to 90 lines with status 1, refuses `quant=x -m batch=1,2`, and ends
with status 0 whatever the runs returned. So this module calls what is below it (hydra-core is pinned).
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from src.app.arguments import parse
from src.app.command_line import CommandLine
from src.app.composing.sweep_axes import swept_values
from src.app.encoding import fit_terminal, quiet_when_nobody_reads
from src.app.flags import COMMANDS
from src.app.refusals import refuse_no_folder, refuse_several
from src.checks.validation import check
from src.config.errors import ConfigError, explained
from src.config.paths import ROOT
from src.config.schema.cluster import ClusterConf, PoolConf
from src.config.schema.search import SearchConf

FAILED, WRONG, INTERRUPTED = 1, 2, 130  # exit statuses
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # no bugs of ours

Task = Callable[[DictConfig], int]


def main(config_name: str, task: Task, argv: Sequence[str] | None = None, *, prog: str) -> int:
    """Do what the command line says.

    Args:
        config_name: the primary config, a file of `conf/`.
        task: called with the composed configuration of a single run; its return value is the exit status.
        argv: the command line without the program; by default that of this process.
        prog: how the program is called, for the help.

    Returns:
        The exit status: the task's, or of a multirun the greatest of its jobs', or 2 after one line on stderr when
        the command line or a config is wrong, or 1 after one line when the disk is full, or 130 after Ctrl-C. Other
        exceptions are bugs and pass through.
    """
    fit_terminal()
    try:
        _find_modules_here()
        with explained():
            application = Application(parse(argv, prog), config_name, task, prog)
        with quiet_when_nobody_reads():
            return application.run()
        return 0  # a plan or an analysis that nobody read to its end
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"error: {where}cannot be written ({error.strerror}); once it can be, the same command goes on: "
            "what has a record is not measured again",
            file=sys.stderr,
        )
        return FAILED
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None


def _find_modules_here() -> None:
    """Let the user's own modules be found in the current folder; they hide nothing.

    Raises:
        ConfigError: the folder was deleted meanwhile, or its name is no text, which YAML and MLflow cannot hold.
    """
    try:
        here = str(Path.cwd())
        here.encode()
    except FileNotFoundError as error:
        raise ConfigError("the current folder was deleted; cd into one that is there") from error
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"the current folder {error.object}: its name is not UTF-8; cd into another"
        ) from error
    if here not in sys.path:
        sys.path.append(here)
    if given := os.environ.get("PYTHONPATH"):
        os.environ["PYTHONPATH"] = _wherever_started(given)


def _wherever_started(given: str) -> str:
    """PYTHONPATH for Pythons that start in other folders: absolute, and without the inside of our own package."""
    folders = [Path(each).absolute() for each in given.split(os.pathsep)]
    return os.pathsep.join(str(each) for each in folders if each != ROOT / "src")


class Application(CommandLine):
    """One command line and what it asks for: a flag's command, else a run or multirun of a task."""

    def __init__(self, args: argparse.Namespace, config_name: str, task: Task, prog: str) -> None:
        super().__init__(args, config_name, prog)
        self.task = task

    def run(self) -> int:
        """The command that was asked for, else the run or multirun."""
        asked = [name for name in COMMANDS if getattr(self.args, name)]
        if len(asked) > 1 or (asked and (self.args.run or self.args.multirun)):
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
            raise ConfigError(f"{flags}: only one of them at a time, and not with --run or --multirun")
        if asked:
            with explained(), quiet_when_nobody_reads():
                COMMANDS[asked[0]](self)
            return 0
        with explained():
            parsed = OverridesParser.create(self.loader).parse_overrides(self.overrides)
            refuse_several(parsed)
            hydra = self._head(parsed)
            mode = self._mode(hydra)
        if mode is RunMode.RUN:
            return self._run()
        return self._multirun(parsed, hydra)

    def _mode(self, hydra: DictConfig | None) -> RunMode:
        """A multirun where asked for, or where a sweep file, the launcher or the sweeper are for several runs."""
        if self.args.multirun:
            return RunMode.MULTIRUN
        if self.args.run or hydra is None:
            return RunMode.RUN
        several = (
            _params(hydra) or _is_a(hydra.launcher, ClusterConf, PoolConf) or _is_a(hydra.sweeper, SearchConf)
        )
        mode: RunMode = hydra.mode or (RunMode.MULTIRUN if several else RunMode.RUN)
        return mode

    def _head(self, parsed: Sequence[Override]) -> DictConfig | None:
        """Hydra's own settings, of the primary config, the command line and the sweep file.

        None where nobody speaks of them but conf/, for which a run is a single one: composing takes 0.1 s.
        """
        head = [str(o.input_line) for o in parsed if o.is_hydra_override() or o.key_or_group == "sweeps"]
        if not (head or self.args.config_name or self.args.config_path or self.args.config_dir):
            return None
        config: DictConfig = self.hydra.compose_config(self.config_name, head, RunMode.MULTIRUN).hydra
        return config

    def _run(self) -> int:
        with explained():
            config = self.compose()
            config.hydra.mode = RunMode.RUN
            check(config)
            context = HydraContext(config_loader=self.loader, callbacks=Callbacks(config))
            HydraConfig.instance().set_config(config)
            refuse_no_folder(config, "hydra.run.dir")
        context.callbacks.on_run_start(config=config, config_name=self.config_name)
        done = run_job(
            task_function=self.task,
            config=config,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
            hydra_context=context,
        )
        context.callbacks.on_run_end(config=config, config_name=self.config_name, job_return=done)
        return _status(done)

    def _multirun(self, parsed: Sequence[Override], hydra: DictConfig | None) -> int:
        with explained():
            self.loader.validate_sweep_overrides_legal(list(parsed), RunMode.MULTIRUN, from_shell=True)
            config = self._master(parsed, _params(hydra))
            context = HydraContext(config_loader=self.loader, callbacks=Callbacks(config))
            context.callbacks.on_multirun_start(config=config, config_name=self.config_name)
            HydraConfig.instance().set_config(config)
            refuse_no_folder(config, "hydra.sweep.dir")
            for name in ("launcher", "sweeper"):
                if not isinstance(config.hydra[name], DictConfig):
                    raise ConfigError(f"hydra.{name}={config.hydra[name]}: give hydra/{name}=NAME")
            sweeper = Plugins.instance().instantiate_sweeper(
                config=config, hydra_context=context, task_function=self.task
            )
        returns = sweeper.sweep(arguments=[str(o.input_line) for o in parsed if not o.is_hydra_override()])
        context.callbacks.on_multirun_end(config=config, config_name=self.config_name)
        return max((_status(done) for batch in returns for done in batch), default=0)

    def _master(self, parsed: Sequence[Override], params: Sequence[str]) -> DictConfig:
        """What launcher and sweeper are configured by: composed as the first run of the sweep.

        Hydra leaves swept keys out, and then `-m model=linear,other model.dims.M=4` has no `M` to set.
        """
        of_file = OverridesParser.create(self.loader).parse_overrides(list(params))
        first = [_first(override) for override in (*of_file, *parsed)]
        config = self.compose([*first, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
        config.hydra.overrides.task = [str(o.input_line) for o in parsed if not o.is_hydra_override()]
        return config


def _params(hydra: DictConfig | None) -> list[str]:
    """What a sweep file sweeps over, as overrides."""
    swept = (hydra and OmegaConf.select(hydra, "sweeper.params")) or {}
    return [f"{key}={value}" for key, value in swept.items()]


def _is_a(chosen: DictConfig, *kinds: type) -> bool:
    """Whether a launcher sends runs to a backend, or a sweeper searches: then also a single run is a sweep.

    Hydra asks neither for a single run.
    """
    kind = OmegaConf.get_type(chosen)
    return kind is not None and issubclass(kind, kinds)


def _first(override: Override) -> str:
    if not override.is_sweep_override() or not override.is_discrete_sweep():
        return str(override.input_line)
    return f"{override.get_key_element()}={swept_values(override)[0]}"


def _status(done: JobReturn) -> int:
    """A job's exit status; what a task raised in this process is raised again, without Hydra's framing."""
    if done.status is JobStatus.FAILED and isinstance(done._return_value, BaseException):
        raise done._return_value
    return int(done.return_value)
