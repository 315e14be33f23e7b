"""A configuration that runs elsewhere: paths that mean the same whatever folder the job starts in."""

import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from src.config.errors import ConfigError
from src.config.paths import database_path, database_uri
from src.config.schema.model import WeightsConf
from src.config.schema.root import RootConf, TrackingConf
from src.jobs.node.snapshot import Snapshot

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"%\d*[AJNabjnstux]"
)  # SLURM's, in the names of files; %% does not protect all of them


def travelling(cfg: RootConf, outputs: Path, snapshot: Snapshot) -> RootConf:
    """The configuration with every path absolute; a plan is taken into the snapshot.

    Args:
        cfg: validated; paths in it are relative to this process' folder.
        outputs: absolute.
    """
    plan = None if cfg.quant.plan is None else str(snapshot.keep(Path(cfg.quant.plan)))
    load = None if cfg.serialize.load is None else str(Path(cfg.serialize.load).absolute())
    return replace(
        cfg,
        model=_with_weights(cfg.model),
        quant=replace(cfg.quant, plan=plan),
        serialize=replace(cfg.serialize, load=load),
        tracking=_tracking(cfg.tracking),
        outputs=str(outputs),
    )


def _with_weights(value: Any) -> Any:
    """A copy of a part of the configuration, the folders of local weights in it absolute."""
    if isinstance(value, WeightsConf):
        local = value.source == "local" and value.id is not None
        return replace(value, id=str(Path(value.id or "").absolute())) if local else value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _with_weights(getattr(value, f.name)) for f in fields(value)})
    if isinstance(value, dict):
        return {name: _with_weights(item) for name, item in value.items()}
    return value


def _tracking(tracking: TrackingConf) -> TrackingConf:
    database = database_path(tracking.uri)
    relative = database is not None and not database.is_absolute()
    uri = database_uri(database.absolute()) if database and relative else _place(tracking.uri)
    artifacts = None if tracking.artifacts is None else _place(tracking.artifacts)
    return replace(tracking, uri=uri, artifacts=artifacts)


def _place(text: str) -> str:
    """A path made absolute; what has a scheme (http:, s3:), and nothing at all, stays."""
    return text if not text or _SCHEME.match(text) else str(Path(text).absolute())


def without_placeholders(outputs: Path) -> Path:
    """The folder, if nothing in its name means something else to SLURM or submitit.

    Raises:
        ConfigError: something does.
    """
    if found := _PLACEHOLDER.search(str(outputs)):
        raise ConfigError(
            f"outputs={outputs}: SLURM and submitit put a number or a name in place of {found[0]}; give a folder "
            "without it"
        )
    return outputs
