"""`predict=FILE.csv`: the shapes that a user asks about."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from src.analysis.runs.tracked.variants import short
from src.config.errors import ConfigError
from src.config.paths import config_folders
from src.config.schema.quant import QuantConf
from src.config.schema.root import RootConf
from src.devices.capability import quant_conf
from src.forecasts.evidence.cells import OWN, PLACE, SHAPE, is_cpu
from src.forecasts.evidence.csv_rows import RefusedError, Row, read_table
from src.forecasts.forecast import Query

NEEDS = ("M", "K", "N", "quant")
_NOT_KERNELS = ("quant.layers", "quant.components", "quant.where", "quant.via", "quant.min", "quant.emulate")
_CPU = "cpu"  # whichever is known
_HERE = re.compile(r"/\w+@_here_")  # of a YAML's defaults: what several entries share
_INTERPOLATED = re.compile(r"\$\{")  # a value that another option gives


def read_queries(
    path: Path, cells: pd.DataFrame, names: Mapping[str, str], place: Mapping[str, str]
) -> tuple[list[Query], list[str]]:
    """The queries of a file, and a sentence for each column that is not read and each row that is none.

    Args:
        path: a CSV file with the columns M, K, N, quant and optionally device, compile, dtype.
        cells: of all devices that are known.
        names: other names of schemes -> this program's.
        place: what a row does not name; an empty device is none.

    Raises:
        ConfigError: the file cannot be read, or lacks a column.
    """
    table = read_table(path, "predict")
    if missing := [name for name in NEEDS if name not in table.columns]:
        raise ConfigError(
            f"predict={path}: column {', '.join(missing)} is missing; wanted are {', '.join(NEEDS)}"
        )
    devices = list(dict.fromkeys(cells["device"]))
    queries, refused = [], [*table.not_read([*NEEDS, *PLACE], all_of_them=True), *table.refused]
    for row in table.rows:
        try:
            queries.append(_query(row, place, devices, names))
        except RefusedError as reason:
            refused.append(table.told(row.line, reason))
    return queries, refused


def usual_place(cells: pd.DataFrame, device: str | None = None) -> dict[str, str]:
    """The device of the newest own cell, of imports the one with most cells; the commonest compile mode and dtype.

    Args:
        cells: at least one.
        device: that is taken instead; a part of its name is enough.

    Raises:
        ConfigError: the part is of several names.
    """
    own, known = cells[cells["source"] == OWN], list(dict.fromkeys(cells["device"]))
    usual = own["device"].iloc[-1] if len(own) else cells["device"].mode().iloc[0]
    try:
        chosen = device_named(device, known) if device else str(usual)
    except RefusedError as reason:
        raise ConfigError(str(reason)) from reason
    there = cells[cells["device"] == chosen]
    among = there if len(there) else cells
    return {"device": chosen} | {name: str(among[name].mode().iloc[0]) for name in PLACE[1:]}


def _query(row: Row, usual: Mapping[str, str], devices: list[str], names: Mapping[str, str]) -> Query:
    quant = row.text("quant")
    place = {name: row.text(name, usual[name]) for name in PLACE}
    if not place["device"]:
        raise RefusedError("names no device, and none was measured here")
    place["device"] = device_named(place["device"], devices)
    m, k, n = (row.shape()[name] for name in SHAPE)
    return Query(place["device"], place["compile"], place["dtype"], m, k, n, names.get(quant, quant))


def device_named(asked: str, devices: list[str]) -> str:
    """The one known device whose name has this in it (`h100`), of `cpu` the one CPU; else what was asked for.

    Raises:
        RefusedError: several have it.
    """
    if asked in devices:
        return asked
    any_cpu = asked.lower() == _CPU
    named = [device for device in devices if (any_cpu and is_cpu(device)) or asked.lower() in device.lower()]
    if len(named) > 1:
        raise RefusedError(f"device={asked}: may be {' or '.join(named)}; write more of the name")
    return named[0] if named else asked


def named(cfg: RootConf, words: Sequence[str]) -> str:
    """A run's scheme with the options that make other kernels of it, as cells have it: `int4wo (group_size=64)`.

    A single Linear that finds the caches warm is another cell than one that finds them cold, too.

    Args:
        cfg: the run.
        words: its overrides; those of its scheme's options count.
    """
    given = [word.lstrip("+") for word in words if word.lstrip("+").startswith("quant.")]
    kernels = sorted(word.partition("=") for word in given if not word.startswith(_NOT_KERNELS))
    options = [f"{short(name)}={value}" for name, _, value in kernels]
    options += ["cache=warm"] * (cfg.model.probe and cfg.measure.cache == "warm")
    scheme = cfg.quant
    return f"{scheme.name} ({', '.join(options)})" if options and not scheme.candidates else scheme.name


def kernels_of(quant: QuantConf) -> dict[str, str]:
    """A scheme, or each candidate of one that chooses: its name -> `named` by what it is, where no words are known.

    Options are what the entry of conf/quant has otherwise: as `int4wo (group_size=32)`.
    """
    entries = {name: quant_conf(entry) for name, entry in quant.candidates.items()} or {quant.name: quant}
    return {name: _with_options(conf) for name, conf in entries.items()}


def _with_options(conf: QuantConf) -> str:
    entry = _entry(conf.name)
    usual = entry.get("config", {}) | {name: entry[name] for name in conf.takes if name in entry}
    here = {name: getattr(conf, name) for name in conf.takes if name in usual} | conf.config
    options = [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in sorted(here.items())
        if name in usual and not _INTERPOLATED.search(str(usual[name])) and value != usual[name]
    ]
    return f"{conf.name} ({', '.join(options)})" if options else conf.name


def _entry(name: str, group: str = "quant") -> dict[str, Any]:
    """A YAML of conf/quant as it is written, over those that it starts from; of one that is not found nothing."""
    paths = (folder / group / f"{name}.yaml" for folder in config_folders())
    path = next((path for path in paths if path.is_file()), None)
    entry: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path else {}
    for base in filter(_HERE.fullmatch, map(str, entry.get("defaults", ()))):
        under = _entry(base.removeprefix("/").removesuffix("@_here_"), "")
        entry = under | entry | {"config": under.get("config", {}) | entry.get("config", {})}
    return entry
