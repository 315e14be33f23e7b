"""Every mistake is one line that names the key and what is accepted, with status 2, and nothing has run."""

from pathlib import Path

import pytest

from tests.app.conftest import Call

# command line -> what the line must say
MISTAKES = {
    "quantt=int8wo": ["quantt", "did you mean quant?"],
    "batc=1": ["batc", "did you mean batch?"],
    "sweepz=a": ["sweepz", "did you mean sweeps?"],
    "measure.max_seconds=5": ["unknown key max_seconds in measure; did you mean max_warmup_s?"],
    "measure.budget_seconds=5": ["did you mean budget_s?"],
    "gpu.memory_gb=5": ["did you mean memory_gib?"],
    "budget_s=5": ["did you mean measure.budget_s?"],
    "quant=int8w": ["quant=int8w", "did you mean int8wo?", "float8dq"],
    "quant=fp6_e3m3": ["quant=fp6_e3m3: no such option; in fpX_eAmB X = A + B + 1: ", "did you mean fp"],
    "quant=fp9_e4m4": ["in fpX_eAmB X = A + B + 1", "X = 3 to 8"],
    "quant=fp6_e3w2": ["did you mean fp6_e3m2?"],
    "quant=uint8wo": ["uintXwo has 1 to 7 bits; 8 are int8wo"],
    "-m quant=none,fp6_e3m3": ["quant=fp6_e3m3: no such option; in fpX_eAmB X = A + B + 1"],
    "quant=null": ["quant=null", "none", "int8wo"],
    "measure=5": ["measure=5", "quick", "strict"],
    "~quant": ["quant", "missing", "int8wo"],
    "~batch": ["~batch", "give batch="],
    "~nope": ["~nope", "no such key"],
    "~quant=int4wo": ["~quant=int4wo", "not chosen"],
    "+quant=int8wo": ["quant", "chosen already"],
    "+hydra/launcher=slurm": ["hydra/launcher", "chosen already", "without '+'"],
    "+foo=1": ["foo: unknown key", "batch"],
    "++model.foo=1": ["model.foo: unknown key", "weights"],
    "quant.config.group_siz=1": ["group_siz", "set_inductor_config"],
    "quant={a:1}": ["unknown key a in quant"],
    "quant=int8wo quant.group_size=32": ["quant.group_size=32: int8wo has no such parameter", "own: none"],
    "quant=int4wo quant.min_gain=0.1": [
        "quant.min_gain=0.1",
        "int4wo has no such parameter; its own: group_size",
    ],
    "quant=int8_static quant.activation_max=null": ["quant.activation_max=null: int8_static needs a value"],
    "+quant.config.granularty=1": ["quant.config.granularty: ", "did you mean granularity?"],
    "quant.config._target_=torchao.quantization.Int8Config": [
        "torchao.quantization has no Int8Config; did you mean"
    ],
    "quant.config._target_=torchao.quantisation.X": ["torchao has no quantisation"],
    "quant._target_=src.treatments.scheme.Torchao": ["scheme has no Torchao; did you mean TorchaoScheme?"],
    "quant=autoquant +quant@quant.candidates.x=int8_static": ["quant.candidates.x: not a candidate"],
    "-m quant=int4wo,int8wo quant.group_size=32": ["int8wo has no such parameter", "in the run quant=int8wo"],
    "model.inputs.hidden_states.fil=3": ["did you mean fill?"],
    "model.dims.M=4": ["unknown key M in model.dims", "image_tokens"],
    "hydra/launcher=slurmm": ["hydra/launcher=slurmm", "local"],
    "hydra/launchr=local": ["did you mean hydra/launcher?"],
    "hydra.foo=1": ["unknown key foo in hydra", "launcher"],
    "hydra.mode=X": ["RUN, MULTIRUN"],
    "hydra.run.dir=${nope}": ["hydra.run.dir", "${nope}"],
    f"hydra.run.dir={__file__}": [f"hydra.run.dir={__file__}: {__file__} is a file; give a folder"],
    f"hydra.run.dir={__file__}/x": [f"hydra.run.dir={__file__}/x: {__file__} is a file; give a folder"],
    f"-m hydra.sweep.dir={__file__} batch=1,2": [f"hydra.sweep.dir={__file__}: {__file__} is a file"],
    "batch=abc": ["batch=abc", "not an integer"],
    "batch=": ["batch", "not an integer"],
    "batch=1.5": ["not an integer"],
    "measure.margin=x": ["not a number"],
    "rerun=maybe": ["neither true nor false"],
    "dtype=[1]": ["dtype", "not text"],
    "outputs=null": ["outputs=null", "null is not accepted"],
    "quant.layers.include=abc": ["a list is wanted"],
    "quant.requires=5": ["not a set of keys"],
    "model.targets=[1]": ["keys and values are wanted"],
    "batch=0": ["batch=0: must be between 1 and 65536"],
    "seed=-1": ["seed=-1: must be at least 0"],
    "measure.margin=nan": ["measure.margin=nan: must be between"],
    "dtype=bf16": ["dtype=bf16", "did you mean bfloat16?", "float32"],
    "model.weights.source=disk": ["model.weights.source=disk", "random, box, local, hub"],
    "model.weights.source=hub": ["give model.weights.id="],
    "measure.min_pairs=500": ["at most measure.max_pairs=400"],
    "quant.layers.include=['(']": ["not a regular expression"],
    "gpu.match='['": ["gpu.match", "not a regular expression"],
    "target=foo": ["target=foo", "flux-tiny", "denoiser, block, linear, pipeline"],
    "model=linear target=pipeline": ["target=pipeline", "linear", "denoiser, linear"],
    "batch=???": ["batch", "missing", "give batch="],
    "batch=${nope.x}": ["batch", "${nope.x} names no key"],
    "model.resolution=${resolution}": ["model.resolution", "Recursive"],
    "outputs=${oc.env:NOPE_NOT_SET}": ["NOPE_NOT_SET"],
    "quant": ["quant", "key=value"],
    "=3": ["=3: no key before the '='; write key=value\n"],
    "-m =3 batch=1,2": ["=3: no key before the '='; write key=value\n"],
    "-m =3,4": ["=3: no key before the '='; write key=value\n"],
    "quant=[": ["quant=[", "cannot be read"],
    "quant='a b": ["cannot be read"],
    "batch=1,2": ["batch=1,2", "--multirun"],
    "sweeps=nope": ["sweeps=nope", "accepted"],
    "sweeps=a,b": ["one sweep at a time"],
    "-m sweeps=a,b": ["one sweep at a time"],
    "-m quant=int8wo,int8w": ["quant=int8w", "did you mean int8wo?"],
    "-m quant=none,null": ["quant=null"],
    "-m batch=1,0": ["batch=0", "in the run batch=0"],
    "-m batch=1,${nope.x}": ["${nope.x} names no key"],
    "-m batch=0,1 dtype=bf16,float16": ["dtype=bf16", "and 2 more"],
    "-m batch=interval(1,4)": ["batch=interval(1,4)", "range"],
    "-m batch=range(1,1)": ["batch=range(1,1)", "no value"],
    "-m quant=glob(zz*)": ["quant=glob(zz*)", "no value"],
    "-m hydra.job.name=a,b": ["hydra.job.name=a,b"],
    "-m model=linear,flux-tiny model.dims.M=4": ["unknown key M", "model=flux-tiny"],
    "-m --cfg job": ["--cfg", "--multirun"],
    "--cfg nonsense": ["--cfg", "job"],
    "--cfg job --package nope": ["--package nope"],
    "--nonsense": ["--nonsense", "--help"],
    "--help nonsense": ["--help nonsense", "quant"],
    "+compile.dynamic_shapes.batch=[1,4]": ["only packages have them; give compile=aot"],
    "compile=aot +compile.dynamic_shapes.bach=[1,4]": ["dynamic_shapes.bach: no axis", "did you mean batch?"],
    "compile=aot +compile.dynamic_shapes.batch=4": ["compile.dynamic_shapes.batch=4: no range", "[1, 4]"],
    "compile=aot +compile.dynamic_shapes.batch=[2,4]": ["this run's batch is 1, which is not inside"],
    "compile=aot compile.scope=none": ["compile.scope=none compiles nothing"],
    "compile=aot compile.backend=eager": ["compile.backend=eager: packages are inductor's"],
    "task=serialize serialize.load=/nope": [
        "serialize.load=/nope: no checkpoint",
        "serialize.keep=true keeps one",
    ],
    "outputs=": ["outputs=: no name; give a folder"],
    "plan=yes": ["plan=yes: no such choice; accepted: false, true, all"],
    "--lsit": ["unrecognized arguments: --lsit; did you mean --list?"],
    "--plan": ["a key has no dashes: plan=..."],
    "-cn nope": ["nope"],
    "-cd /nope": ["--config-dir /nope: no such folder"],
    "--experimental-rerun x": ["--experimental-rerun"],
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_runs_nothing(call: Call, line: str) -> None:
    argv = [line] if "'a b" in line else line.split(" ")
    result = call(*argv)
    assert result.status == 2
    assert result.out == ""
    assert result.runs == []
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert [said for said in MISTAKES[line] if said not in result.err] == []


FILES = {
    "bad.yaml": ("name: [1\n", ["bad.yaml", "line 2"]),
    "twice.yaml": ("name: a\nname: b\n", ["twice.yaml", "line 2", "name"]),
    "key.yaml": ("name: x\nconfgi: {}\n", ["did you mean config?", "in quant/key"]),
    "value.yaml": ("name: x\ngroup_size: many\n", ["quant.group_size", "not an integer", "in quant/value"]),
    "default.yaml": ("defaults: [int8w]\nname: x\n", ["int8w"]),
    "list.yaml": ("- a\n", ["list"]),
    "latin.yaml": (b"name: \xff\n", ["utf-8"]),
}


@pytest.mark.parametrize("file", FILES)
def test_a_mistake_in_a_config_file_is_one_line(call: Call, tmp_path: Path, file: str) -> None:
    content, expected = FILES[file]
    folder = tmp_path / "quant"
    folder.mkdir()
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    result = call("-cd", str(tmp_path), f"quant={Path(file).stem}")
    assert result.status == 2
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert [said for said in expected if said not in result.err] == []


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["quant.components=${model}"], "quant.components: a list is wanted: [a,b]"),
        (["quant.layers.include=[[1]]"], "quant.layers.include=[[1]]: a list is wanted: [a,b]"),
        (["quant.config=${model}"], "quant.config: keys and values are wanted: {key: value}"),
        (["quant.bits=nan"], "quant.bits=nan: must be between 0 and 64"),
        (["quant=autoquant", "quant.min_sqnr_db=nan"], "quant.min_sqnr_db=nan: is not a number"),
        (["gpu=[[1]]"], "gpu=[[1]]: gpu wants the name of an option; "),
        (
            ["gpu._target_=nope"],
            "gpu._target_=nope: a dotted path is wanted, as package.module.Class",
        ),
        (["task._target_=nope.task"], "task._target_=nope.task: no package nope is installed"),
        (
            ["quant=autoquant", "+quant.candidates.a=1"],
            "quant.candidates.a=1: not a scheme; give +quant@quant.",
        ),
        (["quant=autoquant", "+quant.candidates.a={b: 1}"], "quant.candidates.a: b: unknown key b; "),
        (["-m", "+compile.options.a=1", "compile=???"], "the configuration cannot be composed: "),
        (["-m", "hydra.launcher=1"], "hydra.launcher=1: give hydra/launcher=NAME"),
    ],
)
def test_a_value_of_another_kind_is_refused_wherever_it_stands(
    call: Call, argv: list[str], says: str
) -> None:
    result = call(*argv)
    assert (result.status, result.runs, result.err.count("\n")) == (2, [], 1)
    assert result.err.startswith(f"error: {says}")


def test_a_file_that_holds_itself_is_one_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("a: &a [*a]\n")
    result = call(f"--config-dir={tmp_path}", "model=mine")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "an anchor (&name) that holds itself (*name)" in result.err
