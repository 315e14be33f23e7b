"""The command printed beside a run composes to just that run, whatever its sweep was asked by."""

import json
import shlex
from dataclasses import replace
from functools import cache
from itertools import count

import pytest
from hydra.types import RunMode

from src.analysis.answers.commands import repeat, surer
from src.app.arguments import parse, search_path
from src.app.composing.loader import Loader
from src.app.composing.sweep_axes import jobs, varied
from src.checks.validation import validate
from src.config.paths import ROOT
from src.config.schema.root import register
from src.records.key import axes_of, count_alike
from tests.analysis.synthetic import made, write_records

_NUMBERS = count()
_LINEAR = ["model=linear", "target=linear", "compile=none", "gpu=cpu"]
_TINY = ["model=flux-tiny", "compile=none", "gpu=cpu"]


@cache
def loader_of(folder):
    register()
    return Loader(search_path(parse(["--config-dir", folder] if folder else [], "run"), ROOT / "conf"))


def runs_of(words, along=()):
    """The configurations that a command line measures; `along`: what a search sets besides."""
    args = parse(words, "run")
    loader = loader_of(args.config_dir)
    master = loader.load_configuration("config", args.overrides, RunMode.MULTIRUN)
    params = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
    task = [word for word in args.overrides if not word.startswith("hydra")]
    listed = [[*job, *along] for job in jobs([*params, *task], loader)]
    configs = [validate(loader.load_sweep_config(master, job)) for job in listed]
    told = varied(listed)
    for each in told:
        each.update(word.split("=", 1) for word in along)
    return [replace(cfg, varied=each) for cfg, each in zip(configs, told, strict=True)]


def row_of(store, framed, words, at, along=()):
    cfg = runs_of(words, along)[at]
    name = f"repeated{next(_NUMBERS)}"
    folder = store.outputs / "sweeps" / name
    folder.mkdir(parents=True)
    manifest = {"sweep": name, "command": ["python", "-m", "src.run", *words], "started_at": "", "runs": []}
    (folder / "sweep.json").write_text(json.dumps(manifest | {"started_at": "2026-08-01T10:00:00+00:00"}))
    dims = cfg.model.dims
    shape = (dims["M"], dims["K"], dims["N"]) if cfg.model.name == "linear" else None
    run = made(name, 1.2, sweep=name, shape=shape, **axes_of(cfg))
    write_records(store.outputs, [run])
    return cfg, framed([run]).iloc[0]


def words_of(command):
    words = shlex.split(command)
    return [w for w in words[words.index("src.run") + 1 :] if not w.startswith("outputs=")]


@pytest.mark.parametrize(
    ("words", "at", "along"),
    [
        ([*_LINEAR, "hydra/sweeper=breakeven", "hydra.sweeper.axis=M", "hydra.sweeper.range=[1,64]",
          "model.dims.K=512", "model.dims.N=512,1024", "quant=int8wo,int8dq"], 3, ["model.dims.M=16"]),
        (["sweeps=breakeven", "gpu=cpu"], 1, ["model.dims.K=704"]),
        (["-m", *_TINY, "quant=int4wo", "quant.group_size=32,64"], 1, []),
        (["-m", *_TINY, "quant=int8wo", "model.factory.num_layers=1,2"], 0, []),
        (["-m", *_TINY, "quant=int8wo", "+compile.options.epilogue_fusion=true,false"], 0, []),
        (["-m", *_LINEAR, "model.dims={K:1024,N:1024},{K:2048,N:2048}", "model.dims.M=4,8", "quant=int8wo"], 3, []),
        (["-m", *_TINY, "quant=int8wo", "target=pipeline", "quant.components=[denoiser],[vae]"], 1, []),
        (["-m", *_TINY, "quant=int8wo", "quant.layers.max_m=null,64"], 0, []),
        (["-m", *_TINY, "quant=int8wo", "measure.processes=1,3"], 1, []),
        (["-m", *_TINY, "quant=int8wo", "batch=1,4", "seed=0,1", "++measure.budget_s=3"], 2, []),
        (["sweeps=ladder", "gpu=cpu", "quant=int8wo"], 3, []),
        (["sweeps=linear_shapes", "gpu=cpu"], 5, []),
    ],
)  # fmt: skip
def test_the_printed_command_composes_to_the_run(store, framed, words, at, along):
    cfg, row = row_of(store, framed, words, at, along)
    (again,) = runs_of(words_of(repeat(row, store.outputs)))
    assert count_alike(cfg, again)
    (more,) = runs_of(words_of(surer([row], store.outputs)))
    assert more.measure.processes == (6 if cfg.measure.processes == 3 else 3)
    processes = replace(more.measure, processes=cfg.measure.processes)
    assert count_alike(cfg, replace(more, measure=processes))


def test_a_sweep_of_ones_own_is_found_again_in_its_folder(store, framed, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /compile: none\nmeasure: {budget_s: 7}\n"
        "hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      quant: int8wo,int8dq\n      seed: 0,1\n"
    )
    words = ["--config-dir", str(tmp_path), "sweeps=mine", "model=flux-tiny", "gpu=cpu"]
    cfg, row = row_of(store, framed, words, 2)
    (again,) = runs_of(words_of(repeat(row, store.outputs)))
    assert again.measure.budget_s == 7
    assert count_alike(cfg, again)
