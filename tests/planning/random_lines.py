"""Random model YAMLs and command lines: mostly right, each part now and then wrong."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import yaml
from hypothesis import strategies as st

from src.config.schema.root import RootConf
from tests.conftest import canonical

Values = st.SearchStrategy[Any]
ODD = "tests.planning.odd_models"
DOES = (
    "nothing", "refuses", "exits", "branches", "raises", "raises nothing said", "speaks markup", "recurses",
    "asks for numbers", "returns no tensor",
)  # fmt: skip
WRONG: Values = st.sampled_from(
    [None, "", "x y", "a //", "1 // 0", "nope", -1, 0, 1.5, 10**30, True, [], {}, [[1]], {"a": {"b": None}},
     "${nope}", "???", "×", "'", "{", "[a", "größe", "null", "[]", "{a: b}", "inf", "nan", ".", "src.nope",
     "torch.nn.Linear"]
)  # fmt: skip


def mostly(*usual: Any) -> Values:
    """One of these values, and now and then a wrong one."""
    right = st.one_of(*(each if isinstance(each, st.SearchStrategy) else st.just(each) for each in usual))
    return st.integers(0, 29).flatmap(lambda draw: WRONG if draw == 17 else right)


def mapping(required: dict[str, Values], **optional: Values) -> Values:
    """A mapping with all of the one and some of the other keys."""
    return st.fixed_dictionaries(required, optional=optional)


DIMS = mapping(
    {}, tokens=mostly(8, 32, "batch * 8", "2 * 8"), side=mostly("resolution // 8"), K=mostly(64), huge=mostly(2**40)
)  # fmt: skip
INPUT = mapping(
    {"shape": mostly(["batch", 8, 64], ["batch", "tokens", 64], ["batch * tokens", "K"], ["huge", 64])},
    fill=mostly(0, 0.5),
    dtype=mostly("float32", "int64", "bfloat16"),
    init=mostly("src.workloads.inputs.normal"),
)
FOLLOWED_OR_NOT = mapping({"_target_": st.just(f"{ODD}.Odd"), "does": st.sampled_from(DOES)})
OTHER_TARGETS = (
    f"{ODD}.NoLinear", f"{ODD}.no_module", f"{ODD}.Nope", "torch.nn.Identity", "math.sqrt", "builtins.dict",
    "nope.Model", "diffusers.NoSuchModel",
)  # fmt: skip
FACTORY = st.one_of(
    *[FOLLOWED_OR_NOT] * 4,
    mapping({"_target_": st.sampled_from(OTHER_TARGETS)}),
    mapping({"_target_": st.just("torch.nn.Linear"), "in_features": mostly(64), "out_features": mostly(32)}),
    st.just({"_target_": "torch.nn.MultiheadAttention", "embed_dim": 64, "num_heads": 4}),
    st.dictionaries(st.sampled_from(["_target_", "width", "a b"]), WRONG, max_size=2),
)
MODEL = mapping(
    {
        "name": mostly("odd"),
        "factory": mostly(FACTORY),
        "inputs": mostly(st.dictionaries(st.sampled_from(["x", "x", "input", "query"]), INPUT, max_size=2)),
    },
    resolution=mostly(0, 64),
    dims=mostly(DIMS),
    call=mostly({"return_dict": False}, {"x": None}),
    targets=mostly({"denoiser": ""}, {"denoiser": "", "block": "a"}, {"denoiser": "nope"}),
    weights=mostly({"std": 0.1}, {"source": "local", "id": "/no/folder"}, {"source": "local"}),
    probe=mostly(True, False),
    pipeline=mostly({}, {"_target_": "diffusers.FluxPipeline"}),
)
NO_MODELS = (
    "", "- a\n", "name: [", "name: a\nname: b\n", "defaults: [nope]\n", "defaults: [linear, _self_]\nname: mine\n",
    "\x00", "a: &a [*a]\n", "? {a: b}\n: c\n",
)  # fmt: skip
YAML = st.one_of(
    *[MODEL.map(lambda model: str(yaml.safe_dump(model, allow_unicode=True)))] * 9, st.sampled_from(NO_MODELS)
)

OPTIONS = {
    group: canonical(group) for group in ("quant", "compile", "gpu", "task", "measure", "layers", "tracking")
}
VALUES: dict[str, tuple[Any, ...]] = {
    "batch": (1, 4, "1,2", "range(1,3)", "interval(1,2)"),
    "resolution": (0, 64, "64,128"),
    "target": ("denoiser", "block", "linear", "pipeline"),
    "dtype": ("auto", "float32", "bfloat16,float16"),
    "quant": ("glob(int8*)", "none,int8wo", "fp8dq", "glob(nope*)", "choice(int8wo,nf4)"),
    "quant.where": ("cpu", "streamed"),
    "quant.components": ("[vae]", "[denoiser]", "[]"),
    "quant.layers.min_side": (0, 4096, "0,64"),
    "model.dims.tokens": (8, "8,16"),
    "gpu.match": ("nothing like it", "("),
    "gpu.threads": (1, "1,2"),
    "hydra/launcher": ("local", "slurm", "submitit_local"),
    "+model.factory.width": (32, "32,64"),
    "~model.targets": ("",),
}
LINES = (
    "batch",
    "=",
    "--nope",
    "-c",
    "+",
    "a=b=c",
    "batch='",
    "quant=[",
    "\udcff=1",
    "model=",
    "~quant",
    "+quant=int8wo",
)


def keys_of(schema: type[Any], prefix: str = "") -> Iterator[str]:
    """Every key of a configuration, dotted."""
    hints = get_type_hints(schema)
    for field in fields(schema):
        yield f"{prefix}{field.name}"
        if is_dataclass(hints[field.name]):
            yield from keys_of(hints[field.name], f"{prefix}{field.name}.")


KEYS = sorted({*keys_of(RootConf)} - {"plan", "outputs"})
OVERRIDE = st.one_of(
    st.sampled_from(sorted(OPTIONS)).flatmap(lambda g: st.sampled_from(OPTIONS[g]).map(lambda o: f"{g}={o}")),
    st.sampled_from(sorted(VALUES)).flatmap(lambda k: st.sampled_from(VALUES[k]).map(lambda v: f"{k}={v}")),
    st.tuples(st.sampled_from(KEYS), WRONG).map(lambda pair: f"{pair[0]}={pair[1]}"),
    st.sampled_from(LINES),
)
COMMAND = st.tuples(
    st.sampled_from([[], ["-m"]]),
    st.lists(OVERRIDE, max_size=3),
    st.sampled_from([["plan=true"], ["plan=all"]]),
).map(lambda parts: (*parts[0], *parts[1], *parts[2]))
