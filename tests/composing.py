"""Configurations for tests: composed by the product's own loader, with what keeps a run short underneath."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

from hydra import version
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from src.app.arguments import parse, search_path
from src.app.composing.loader import Loader
from src.config.schema.root import CalibrateConf, RootConf, register

CONF = Path(__file__).resolve().parents[1] / "conf"
Compose = Callable[..., RootConf]

# What a test gets unless it says otherwise: no compiler, few rounds, no tracker.
QUIET = {
    "gpu": "cpu",
    "gpu.threads": "1",
    "tracking": "none",
    "compile": "none",
    "measure.min_round_ms": "0.01",
    "measure.max_warmup_s": "0",
    "measure.min_pairs": "8",
    "measure.max_pairs": "8",
    "measure.clear_width": "0",
    "measure.bootstrap_samples": "200",
    "measure.cache": "warm",
    "measure.energy_s": "0",
    "measure.ceilings": "false",
    "dtype": "bfloat16",
}


def _loader() -> Loader:
    register()
    version.setbase("1.3")
    return Loader(search_path(parse([], "pytest"), CONF))


def calibration(*overrides: str) -> CalibrateConf:
    """What `python -m src.calibrate` would be given."""
    config = _loader().load_configuration("calibrate", [*overrides], RunMode.RUN)
    with open_dict(config):
        del config["hydra"]
    cfg = OmegaConf.to_object(config)
    assert isinstance(cfg, CalibrateConf)
    return cfg


def composer(underneath: Mapping[str, str] = QUIET) -> Compose:
    """What the fixture `compose` gives: compose(*overrides) -> RootConf; `underneath` is what is not given.

    Of what was composed before it gives a copy, unless files of a test's own are among it.
    """
    loader = _loader()
    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    known: dict[
        tuple[Path, tuple[str, ...]], bytes
    ] = {}  # by the current folder too: `outputs` may lie in it

    def composed(*overrides: str) -> RootConf:
        key = Path.cwd(), overrides
        if key not in known or any(override.startswith("hydra.") for override in overrides):
            known[key] = pickle.dumps(fresh(*overrides))
        cfg: RootConf = pickle.loads(known[key])
        return cfg

    def fresh(*overrides: str) -> RootConf:
        given = {override.split("=", 1)[0] for override in overrides}
        quiet = [
            f"{key}={value}"
            for key, value in underneath.items()
            if key not in given and not ("gpu" in given and key == "gpu.threads")
        ]
        config = loader.load_sweep_config(master, [*quiet, *overrides])
        with open_dict(config):
            del config["hydra"]
        cfg = OmegaConf.to_object(config)
        assert isinstance(cfg, RootConf)
        return cfg

    return composed
