"""What every sweep does before its runs, here or on a cluster: an id, a folder to write to, configs on disk."""

import os
import secrets
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from src.config.errors import ConfigError
from src.config.paths import literal
from src.config.schema.root import RootConf

CONFIG_NAME = "config.yaml"
PRELOAD = ("torch", "torchao.quantization", "src.tasks.latency")  # what nearly every run imports
_Dumper = getattr(
    yaml, "CSafeDumper", yaml.SafeDumper
)  # libyaml's is ten times as fast, where it was built in


def new_sweep() -> str:
    """An id for a sweep that starts now."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def writable(outputs: Path) -> Path:
    """The outputs folder, absolute and there.

    Raises:
        ConfigError: it cannot be written.
    """
    outputs = outputs.resolve()
    probe = outputs / f".writable.{os.getpid()}"
    try:
        str(outputs).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"outputs={outputs}: the name is not UTF-8; give another folder") from error
    try:
        outputs.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(bytes(2**16))  # a full disk takes an empty file
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"outputs={outputs}: cannot be written ({error.strerror}); give a folder that can"
        ) from error
    return outputs


def write_config(cfg: RootConf, folder: Path) -> None:
    """Write the resolved configuration as ``config.yaml`` into a run's folder."""
    with (folder / CONFIG_NAME).open("w", encoding="utf-8") as file:
        yaml.dump(_literal(asdict(cfg)), file, Dumper=_Dumper, sort_keys=False)


def _literal(value: Any) -> Any:
    """What is read back as just this: all interpolations are resolved."""
    if isinstance(value, dict):
        return {name: _literal(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return literal(value) if isinstance(value, str) else value
