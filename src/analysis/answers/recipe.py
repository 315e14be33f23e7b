"""The lines of Python that apply a run's treatment, from its own configuration and layer table."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from src.config.schema.model import PIPELINE
from src.config.schema.recipe import AUTO_ATTENTION, DIFFUSERS, SDPA

_NUMBER = re.compile(r"\d+")
_LIST = re.compile(r"(\w+)\.\d+\.")
_STATIC = "src.treatments.calibrated.CalibratedScheme"
_NAME_BLOCKS = re.compile(r"diffusers\.UNet")  # their repeated blocks lie deeper than in lists of the model
_CALIBRATED = """\
seen = {{}}  # layer -> its largest input and that input's dimensions: calibrate on inputs of your own
def look(name, x):
    seen[name] = (max(x.abs().max().item(), *seen.get(name, (0.0,))[:1]), x.dim())
hooks = [m.register_forward_pre_hook(lambda m, x, name=name: look(name, x[0]))
         for name, m in model.named_modules() if ours(m, name)]
model(**inputs)
for hook in hooks:
    hook.remove()
for name, (largest, dims) in seen.items():
    scale = torch.full([1] * dims, max(largest / {most}, 1e-12), device=model.device)
    quantize_(model, {config}, lambda m, n: n == name)"""

_BESIDE = {
    ("fused_qkv", True): "model.fuse_qkv_projections()",
    ("memory_format", "channels_last"): "model.to(memory_format=torch.channels_last)",
}

Layers = Sequence[Mapping[str, Any]]


def recipe(config: Mapping[str, Any], layers: Layers, kind: str) -> str:
    """Python that makes of an unquantized model what a run measured; ``model`` is what `model_words` says.

    Args:
        config: of the run, as its config.yaml has it.
        layers: its layer table (layers.json).
        kind: of the device: cpu or cuda.
    """
    quant, imports = config["quant"], _Imports()
    schemes = list(dict.fromkeys(str(row["scheme"]) for row in layers if row["scheme"]))
    conditions = _conditions(config, layers)
    if quant["_target_"] == _STATIC:
        config_text = imports.call(_config(quant, kind), {"act_quant_scale": "scale"})
        most = f"{quant['activation_max']:g}"
        lines = [_ours(conditions[str(quant["name"])]), _CALIBRATED.format(most=most, config=config_text)]
    else:
        calls = [(imports.call(_config(quant, kind, name)), conditions[name]) for name in schemes]
        lines = [_quantize(call, condition) for call, condition in calls]
    lines = [*_beside_lines(config), *lines, *_compile_lines(config, layers, kind)]
    imports.add("torchao.quantization.quantize_")
    text = "\n".join(lines)
    for module in ("re", "torch", "torchao"):
        if re.search(rf"(?<![\w.]){module}\.", text):
            imports.add(module)
    return "\n".join([*imports.lines(), text])


def model_words(config: Mapping[str, Any]) -> str:
    """What ``model`` is in the lines of `recipe`."""
    model, target = config["model"], str(config["target"])
    made = str(model["factory"]["_target_"]).rpartition(".")[2]
    if target == PIPELINE:
        return f"pipeline.{model['pipeline']['denoiser']}, in {config['dtype']}"
    path = str((model.get("targets") or {}).get(target) or "")
    return f"a {made}" + (f"'s {path}" if path else "") + f", in {config['dtype']}"


def layer_patterns(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Regular expressions that match, as a whole, these names and none of the others.

    Names that differ in numbers only are one expression; a number may be any where all of that form are taken.
    """
    forms: dict[str, dict[tuple[str, ...], bool]] = defaultdict(dict)
    for taken, several in ((True, names), (False, others)):
        for name in several:
            forms[_NUMBER.sub("#", name)][tuple(_NUMBER.findall(name))] = taken
    found = [each for form, members in forms.items() for each in _expressions(form, members)]
    return _together(found)


def _conditions(config: Mapping[str, Any], layers: Layers) -> dict[str, str]:
    """Scheme -> which layers are its, as a condition on a name; empty where it has all of them."""
    key = "name" if config["target"] == PIPELINE else "fqn"
    touched = {row["component"] for row in layers if row["scheme"]}
    scheme_of = {str(row[key]): str(row["scheme"]) for row in layers if row["component"] in touched}
    found = {}
    for scheme in {*scheme_of.values()} - {""}:
        own = [name for name, of in scheme_of.items() if of == scheme]
        others = [name for name, of in scheme_of.items() if of != scheme]
        taken, left = ("|".join(layer_patterns(*pair)) for pair in ((own, others), (others, own)))
        shorter = (
            f'not re.fullmatch(r"{left}", name)'
            if len(left) < len(taken)
            else f're.fullmatch(r"{taken}", name)'
        )
        found[scheme] = shorter if others else ""
    return found


def _expressions(form: str, members: Mapping[tuple[str, ...], bool]) -> list[str]:
    parts = [re.escape(part) for part in form.split("#")]
    numbers = [each for each, taken in members.items() if taken]
    columns = [[*dict.fromkeys(column)] for column in zip(*numbers, strict=True)]
    every = [{*column} for column in zip(*members, strict=True)]
    if set(product(*columns)) != set(numbers):
        return [_filled(parts, each) for each in numbers]
    sets = [_numbers(own, len(own) == len(all_)) for own, all_ in zip(columns, every, strict=True)]
    return [_filled(parts, sets)] if numbers else []


def _numbers(own: Sequence[str], every: bool) -> str:
    if len(own) == 1:
        return own[0]
    return r"\d+" if every else f"(?:{'|'.join(own)})"


def _filled(parts: Sequence[str], values: Sequence[str]) -> str:
    return "".join(f"{part}{value}" for part, value in zip(parts, [*values, ""], strict=True))


def _together(expressions: Iterable[str]) -> list[str]:
    """Expressions with the same beginning as one: ``blocks\\.\\d+\\.(?:attn\\.to_q|proj_out)``."""
    ends: dict[str, list[str]] = defaultdict(list)
    for each in expressions:
        head, mark, end = each.partition(r"\d+\.")
        ends[head + mark if mark else ""].append(end if mark else each)
    bare = ends.pop("", [])
    return [
        f"{head}(?:{'|'.join(each)})" if each[1:] else head + each[0] for head, each in ends.items()
    ] + bare


def _quantize(call: str, condition: str) -> str:
    if not condition:
        return f"quantize_(model, {call})"
    return (
        f"quantize_(model, {call},\n          lambda m, name: isinstance(m, torch.nn.Linear) and {condition})"
    )


def _ours(condition: str) -> str:
    also = f" and {condition}" if condition else ""
    return f"def ours(m, name):\n    return isinstance(m, torch.nn.Linear){also}"


def _config(quant: Mapping[str, Any], kind: str, scheme: str = "") -> Mapping[str, Any]:
    """The torchao config of a scheme on a kind of device; of autoquant that of the candidate."""
    chosen = (quant.get("candidates") or {}).get(scheme, quant)
    own = (chosen.get("per_device") or {}).get(kind) or {}
    config: Mapping[str, Any] = own.get("config") or chosen["config"]
    return config


def _beside_lines(config: Mapping[str, Any]) -> list[str]:
    """What both arms of the run had done to the model before it was quantized."""
    given = config.get("recipe") or {}
    lines = [line for (name, value), line in _BESIDE.items() if given.get(name) == value]
    attention = str(given.get("attention", AUTO_ATTENTION))
    if attention.startswith(DIFFUSERS):
        lines.append(f'model.set_attention_backend("{attention.removeprefix(DIFFUSERS)}")')
    elif attention in SDPA:
        lines.append(f"# calls: with torch.nn.attention.sdpa_kernel(...) around each attention: {attention}")
    return lines


def _compile_lines(config: Mapping[str, Any], layers: Layers, kind: str) -> list[str]:
    """What compiles the model as the run did, with inductor's options set before."""
    conf, quant = config["compile"], config["quant"]
    if conf["scope"] == "none":
        return []
    own = ((quant.get("per_device") or {}).get(kind) or {}).get("inductor")
    options = (own or quant.get("inductor") or {}) | (conf.get("options") or {})
    lines = [f"torch._inductor.config.{name} = {value!r}" for name, value in options.items()]
    if conf.get("tuning", "none") == "recommended":
        lines.append("torchao.quantization.utils.recommended_inductor_config_setter()")
    if conf.get("package"):
        return [*lines, *_package_lines(conf)]
    given = {name: conf.get(name) for name in ("fullgraph", "dynamic", "mode")}
    given |= {"backend": conf["backend"]} if conf["backend"] != "inductor" else {}
    arguments = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
    if conf["scope"] == "regional":
        return [*lines, _regional(config, layers, arguments)]
    return [*lines, f"model.compile({arguments})"]


def _package_lines(conf: Mapping[str, Any]) -> list[str]:
    """What exports, compiles and loads the whole model; of blocks, whose weights are handed over, where they lie."""
    if conf["scope"] == "regional":
        return ["# each kind of block is a package: packages/treated in the run's folder (docs/aot.md)"]
    return [
        "exported = torch.export.export(model, (), inputs)  # inputs: the keyword arguments of a call",
        'path = torch._inductor.aoti_compile_and_package(exported, package_path="model.pt2")',
        "model = torch._inductor.aoti_load_package(path)",
    ]


def _regional(config: Mapping[str, Any], layers: Layers, arguments: str) -> str:
    """Each repeated block: the members of the model's module lists, as far as its layers tell them."""
    if _NAME_BLOCKS.match(str(config["model"]["factory"]["_target_"])):
        return f"model.compile_repeated_blocks({arguments})"
    key = "name" if config["target"] == PIPELINE else "fqn"
    lists = dict.fromkeys(found[1] for row in layers if (found := _LIST.match(str(row[key]))))
    blocks = ", ".join(f"*model.{name}" for name in lists)
    return (
        f"for block in [{blocks}]:\n    block.compile({arguments})"
        if lists
        else f"model.compile({arguments})"
    )


class _Imports:
    """Names that lines of code use, and what they are imported from."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = defaultdict(set)

    def add(self, path: str) -> str:
        """Import what a dotted path names, and return how it is called."""
        module, _, name = path.rpartition(".")
        self._names[module or name] |= {name} if module else set()
        return name

    def call(self, config: Mapping[str, Any], more: Mapping[str, str] | None = None) -> str:
        """A configuration with ``_target_`` as a call."""
        arguments = {name: self._value(value) for name, value in config.items() if name[0] != "_"}
        told = ", ".join(f"{name}={text}" for name, text in (arguments | dict(more or {})).items())
        return f"{self.add(str(config['_target_']))}({told})"

    def lines(self) -> list[str]:
        """The imports, whole modules first."""
        whole = sorted(module for module, names in self._names.items() if not names)
        parts = sorted((module, sorted(names)) for module, names in self._names.items() if names)
        froms = (f"from {module} import {', '.join(names)}" for module, names in parts)
        return [*([f"import {', '.join(whole)}"] if whole else []), *froms]

    def _value(self, value: Any) -> str:
        if isinstance(value, Mapping) and "_target_" in value:
            return self.call(value)
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(self._value, value))}]"
        return repr(value)
