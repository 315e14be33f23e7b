import dataclasses
import re
from copy import deepcopy
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.analysis.runs.frame import CELL
from src.analysis.runs.tracked.variants import variants
from src.config.schema.root import RootConf, SerializeConf
from src.records import key as key_module
from src.records.environment import versions
from src.records.key import axes_of, run_key
from src.records.mlflow.content import settings
from src.records.mlflow.options import options
from src.records.record import Record

AXES = [name for name in CELL if name != "variant"]
DEVICE = {"name": "NVIDIA H100 80GB HBM3", "kind": "cuda"}


@pytest.fixture
def cfg(compose) -> RootConf:
    return compose(
        *(
            "model=flux-tiny",
            "target=pipeline",
            "quant=int4wo",
            "compile=regional",
            "model.pipeline.prompt=tokens",
        ),
        *("gpu=auto", "gpu.threads=2", "tracking=sqlite"),
    )


def changed(value: Any) -> Any:
    """Another value of the same kind; what is not set gets one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value * 2 + 1
    if isinstance(value, list):
        return [*value, "more"]
    return "other" if value is None else f"{value}x"


def leaves(conf: Any, path: tuple[Any, ...] = (), keyed: bool = True):
    """(path, whether the schema says that it belongs to the key) of every value in a configuration."""
    if is_dataclass(conf):
        for f in fields(conf):
            counts = keyed and bool(f.metadata.get("key", True))
            yield from leaves(getattr(conf, f.name), (*path, f.name), counts)
    elif isinstance(conf, dict):
        for name, value in conf.items():
            yield from leaves(value, (*path, name), keyed and name not in ("description", "remedy"))
    else:
        yield path, keyed


def with_change(cfg: RootConf, path: tuple[Any, ...]) -> RootConf:
    cfg = deepcopy(cfg)
    owner: Any = cfg
    for name in path[:-1]:
        owner = owner[name] if isinstance(owner, dict) else getattr(owner, name)
    if isinstance(owner, dict):
        owner[path[-1]] = changed(owner[path[-1]])
    else:
        setattr(owner, path[-1], changed(getattr(owner, path[-1])))
    return cfg


def test_every_measured_value_changes_the_key_and_no_other(cfg):
    """Walks over all the values of a configuration; the schema's metadata say what is measured."""
    original = run_key(cfg, DEVICE)
    files = {("quant", "plan"), ("serialize", "load")}  # keyed by what is in them
    paths = {path: keyed for path, keyed in leaves(cfg) if path not in files}
    wrong = {
        ".".join(map(str, path)): "changes the key" if not keyed else "does not change the key"
        for path, keyed in paths.items()
        if (run_key(with_change(cfg, path), DEVICE) != original) != keyed
    }
    assert wrong == {}
    assert len(paths) > 80


@pytest.mark.parametrize(
    ("path", "keyed"),
    [
        ("batch", True),
        ("seed", True),
        ("dtype", True),
        ("target", True),
        ("resolution", True),
        ("measure.budget_s", True),
        ("measure.margin", True),
        ("model.factory.num_layers", True),
        ("model.weights.id", True),
        ("quant.group_size", True),
        ("quant.config._target_", True),
        ("quant.per_device.cpu.config.group_size", True),
        ("quant.layers.include", True),
        ("quant.layers.min_m", True),
        ("quant.components", True),
        ("quant.where", True),
        ("quant.via", True),
        ("quant.layers.name", False),
        ("compile.scope", True),
        ("outputs", False),
        ("rerun", False),
        ("tracking.uri", False),
        ("gpu.name", False),
        ("gpu.match", False),
        ("measure.name", False),
        ("measure.timeout_s", False),
        ("model.description", False),
        ("quant.requires.remedy", False),
        ("compile.description", False),
    ],
)
def test_what_the_metadata_should_say(cfg, path, keyed):
    assert {".".join(map(str, p)): k for p, k in leaves(cfg)}[path] == keyed


@pytest.mark.parametrize("quant", ["uint3wo", "int4dq"])
def test_an_argument_of_a_call_counts_whatever_it_is_called(compose, quant):
    """The entry's own ``bits`` say what it stores; those among torchao's arguments decide it."""
    plain, other = compose(f"quant={quant}"), compose(f"quant={quant}", "quant.config.bits=5")
    assert run_key(plain, DEVICE) != run_key(other, DEVICE)
    assert run_key(plain, DEVICE) == run_key(compose(f"quant={quant}", "quant.bits=5"), DEVICE)
    candidates = [compose("quant=autoquant", f"+quant@quant.candidates.x={quant}") for _ in range(3)]
    candidates[1].quant.candidates["x"]["config"]["bits"] = 5
    candidates[2].quant.candidates["x"]["bits"] = 5
    plain, other, prose = (run_key(each, DEVICE) for each in candidates)
    assert other != plain == prose


def test_frames_count_where_a_model_makes_videos(compose):
    image, video = compose("model=pixart-tiny"), compose("model=cogvideox-tiny")
    assert "frames" not in axes_of(image)
    assert axes_of(video)["frames"] == 9
    assert run_key(video, DEVICE) != run_key(compose("model=cogvideox-tiny", "frames=17"), DEVICE)


def test_keys_are_16_hex_digits_and_stable(cfg):
    key = run_key(cfg, DEVICE)
    assert len(key) == 16
    assert int(key, 16) >= 0
    assert run_key(deepcopy(cfg), dict(reversed(DEVICE.items()))) == key


def test_prose_in_candidates_of_autoquant_does_not_count(compose):
    cfg = compose("quant=autoquant")
    original = run_key(cfg, DEVICE)
    cfg.quant.candidates["float8dq"]["description"] = "other words"
    cfg.quant.candidates["float8dq"]["requires"]["remedy"] = "other words"
    assert run_key(cfg, DEVICE) == original
    cfg.quant.candidates["float8dq"]["requires"]["compute_capability"] = 9.0
    assert run_key(cfg, DEVICE) != original


def test_a_model_described_in_other_words_is_the_same_model(compose):
    assert run_key(compose("model.description=other"), DEVICE) == run_key(compose(), DEVICE)


def test_a_models_pipeline_counts_only_where_it_is_the_target(compose):
    steps = ("", "model.pipeline.steps=9")
    parts, wholes = (
        {run_key(compose(f"target={target}", *filter(None, [more])), DEVICE) for more in steps}
        for target in ("denoiser", "pipeline")
    )
    assert (len(parts), len(wholes)) == (1, 2)


def test_the_device_counts(cfg):
    keys = {
        run_key(cfg, device)
        for device in (DEVICE, {**DEVICE, "name": "NVIDIA A100"}, {**DEVICE, "threads": 4})
    }
    assert len(keys) == 3


@pytest.mark.parametrize("package", ["torch", "torchao", "diffusers", "triton", "protocol"])
def test_versions_count(cfg, monkeypatch, package):
    original = run_key(cfg, DEVICE)
    assert package in versions()
    monkeypatch.setattr(key_module, "versions", lambda: versions() | {package: "another"})
    assert run_key(cfg, DEVICE) != original


@pytest.mark.parametrize(
    ("name", "value", "counts"),
    [
        ("CUDA_LAUNCH_BLOCKING", "1", True),
        ("MALLOC_ARENA_MAX", "1", True),
        ("TORCHINDUCTOR_CACHE_DIR", "/elsewhere", False),
        ("KMP_AFFINITY", "compact", True),
        ("KMP_INIT_AT_FORK", "FALSE", False),
    ],
)
def test_variables_that_change_numbers_count(cfg, monkeypatch, name, value, counts):
    original = run_key(cfg, DEVICE)
    monkeypatch.setenv(name, value)
    assert (run_key(cfg, DEVICE) != original) == counts
    monkeypatch.delenv(name)
    assert run_key(cfg, DEVICE) == original


def test_the_compiler_the_driver_and_the_power_limit_count(cfg):
    h100 = {"name": "H100", "identity": {"model": "H100", "power_limit_w": 700},
            "toolchain": {"cxx": "g++ 12", "driver": "580"}}  # fmt: skip
    others = [
        h100 | {"toolchain": {"cxx": "g++ 13", "driver": "580"}},
        h100 | {"toolchain": {"cxx": "g++ 12", "driver": "590"}},
        h100 | {"identity": {"model": "H100", "power_limit_w": 400}},
    ]
    assert len({run_key(cfg, device) for device in (h100, *others)}) == 4
    assert run_key(cfg, h100 | {"name": "shown otherwise"}) == run_key(cfg, h100)


PROSE = re.compile(r"[a-z]{2,},? [a-z]{2,}")  # two words in a row: nothing that torch or a kernel reads


def test_nothing_that_reads_as_prose_is_in_the_key_or_makes_a_variant(compose, tmp_path):
    """By the values alone: no field's metadata is asked. Every sentence is reworded, one at a time."""
    for quant in ("autoquant", "float8dq_2to4", "mxfp8", "int8_static"):
        cfg = compose(f"quant={quant}")
        config = dataclasses.asdict(cfg)
        sentences = [path for path, value in _texts(config) if PROSE.search(value)]
        assert len(sentences) > 2
        original = run_key(cfg, DEVICE)
        flat = _params(config, tmp_path)
        for path in sentences:
            other = with_change(cfg, path)
            assert run_key(other, DEVICE) == original, path
            reworded = _params(dataclasses.asdict(other), tmp_path)
            rows = [dict.fromkeys(CELL, "") | {"params": params} for params in (flat, reworded)]
            assert variants(rows, AXES) == ["", ""], path


@pytest.mark.parametrize(
    ("name", "values", "variant"),
    [
        ("quant.candidates.int8dq.requires.remedy", ("a GPU", "another GPU"), ""),
        ("quant.candidates.int4wo.description", ("four bits", "4 bits"), ""),
        ("quant.candidates.int4wo.bits", ("4.5", "4.25"), ""),
        ("quant.candidates.int4wo.eager_only.cpu", ("fails", "does not compile"), ""),
        ("quant.requires.remedy", ("a GPU", "another GPU"), ""),
        ("quant.emulation.how", ("dequantized", "in float32"), ""),
        ("quant.per_device.cpu.requires.never", ("", "no"), ""),
        ("compile.description", ("a", "b"), ""),
        ("model.description", ("a", "b"), ""),
        ("gpu.slurm.partition", ("long", "short"), ""),
        ("quant.group_size", ("32", "64"), "group_size=32"),
        ("quant.config.bits", ("3", "4"), "bits=3"),
        ("quant.candidates.int4wo.config.group_size", ("32", "64"), "candidates.int4wo.config.group_size=32"),
        (
            "quant.candidates.int4wo.requires.k_multiple",
            ("32", "64"),
            "candidates.int4wo.requires.k_multiple=32",
        ),
        ("quant.min_sqnr_db", ("20.0", "30.0"), "min_sqnr_db=20.0"),
        ("compile.options.freezing", ("true", "false"), "options.freezing=true"),
        (
            "training.optimizer._target_",
            ("torch.optim.SGD", "torch.optim.AdamW"),
            "optimizer=torch.optim.SGD",
        ),
        ("training.optimizer.momentum", ("0.8", "0.9"), "optimizer.momentum=0.8"),
        ("training.lora.rank", ("16", "0"), "lora.rank=16"),
        ("training.lora.rank", ("16", "16"), "lora.rank=16"),
        ("training.lora.rank", ("0", "0"), ""),
        ("training.steps", ("20", "40"), ""),
    ],
)
def test_what_makes_two_treatments(name, values, variant):
    rows = [dict.fromkeys(CELL, "") | {"params": {name: value}} for value in values]
    assert variants(rows, AXES)[0] == variant


def test_what_steps_the_weights_is_an_option_of_trainings_alone(compose, tmp_path):
    told = [
        _params(dataclasses.asdict(compose(f"task={task}")), tmp_path) for task in ("training", "latency")
    ]
    found = [{name for name in options(each) if name.startswith("training.")} for each in told]
    lora, optimizer = ("rank", "alpha", "layers"), ("_target_", "fused")
    assert found[0] == {
        *(f"training.lora.{n}" for n in lora),
        *(f"training.optimizer.{n}" for n in optimizer),
    }
    assert not found[1]


def _texts(value: Any, path: tuple[Any, ...] = ()):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, (*path, name))
    elif isinstance(value, str):
        yield path, value


def _params(config: dict[str, Any], folder: Path) -> dict[str, str]:
    """As MLflow gets them."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return settings(Record("k", 1, "s", {}), folder)


def test_a_plan_counts_by_its_content_not_its_place(compose, tmp_path):
    keys = []
    for name, content in (("a.json", "{}"), ("b.json", "{}"), ("c.json", "{1}")):
        (tmp_path / name).write_text(content)
        keys.append(run_key(compose("quant=autoquant", f"quant.plan={tmp_path / name}"), DEVICE))
    assert keys[0] == keys[1] != keys[2]
    assert run_key(compose("quant=autoquant"), DEVICE) not in keys


def test_the_walk_misses_nothing(cfg):

    def count(value: Any) -> int:
        return sum(map(count, value.values())) if isinstance(value, dict) else 1

    assert count(dataclasses.asdict(cfg)) == len(list(leaves(cfg)))


def test_how_a_checkpoint_is_saved_counts_unless_it_is_the_default(cfg):
    assert "serialize" in {f.name for f in fields(RootConf)}
    original = run_key(cfg, DEVICE)
    with_default = deepcopy(cfg)
    with_default.serialize = SerializeConf(keep=True)
    assert run_key(with_default, DEVICE) == original
    with_default.serialize = SerializeConf(format="torch")
    assert run_key(with_default, DEVICE) != original


def test_text_encoders_count_only_where_they_are_part_of_the_pipeline(cfg):
    without = deepcopy(cfg)
    without.model.pipeline.prompt = "embeddings"
    other = deepcopy(without)
    other.model.pipeline.text_encoders = {}
    assert run_key(without, DEVICE) == run_key(other, DEVICE) != run_key(cfg, DEVICE)


def test_another_checkpoint_in_the_same_folder_is_another_run(compose, tmp_path):
    local = ("model.weights.source=local", f"model.weights.id={tmp_path}")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    cfg = compose("model=flux-tiny", *local)
    first = run_key(cfg, DEVICE)
    assert run_key(cfg, DEVICE) == first
    (tmp_path / "model.safetensors").write_bytes(b"another")
    assert run_key(cfg, DEVICE) != first
