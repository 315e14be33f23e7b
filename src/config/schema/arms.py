"""What the two arms of a run are: the treated one is what is configured, the baseline lacks what `treatment` names.

A key that is named has its bare value in the baseline: eager, unquantized, every layer, no recipe. All others are as
configured in both arms.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, fields, replace
from typing import Any

from src.config.errors import accepted
from src.config.schema.quant import LayersConf, QuantConf
from src.config.schema.recipe import LadderConf, RecipeConf
from src.config.schema.root import CompileConf, RootConf

USUAL = ["quant"]  # treatment: what is asked is whether quantization pays
_PROSE = ("name", "description")
_GRAPHED = {
    None: "reduce-overhead",
    "default": "reduce-overhead",
    "max-autotune-no-cudagraphs": "max-autotune",
}


def _unquantized(cfg: RootConf) -> RootConf:
    kept = {name: getattr(cfg.quant, name) for name in ("components", "where")}
    bare = QuantConf(name="none", _target_="src.treatments.scheme.Unquantized", **kept)
    return replace(cfg, quant=bare)


def _plain(name: str) -> Callable[[RootConf], RootConf]:
    return lambda cfg: replace(cfg, recipe=replace(cfg.recipe, **{name: _DEFAULTS[name]}))


_DEFAULTS: dict[str, Any] = {
    each.name: each.default if each.default_factory is MISSING else each.default_factory()
    for each in fields(RecipeConf)
    if each.name not in _PROSE
}
_BARE: dict[str, Callable[[RootConf], RootConf]] = {
    "quant": _unquantized,
    "quant.layers": lambda cfg: replace(cfg, quant=replace(cfg.quant, layers=LayersConf())),
    "compile": lambda cfg: replace(cfg, compile=CompileConf(name="none", scope="none")),
    "recipe": lambda cfg: replace(cfg, recipe=RecipeConf()),
} | {f"recipe.{name}": _plain(name) for name in _DEFAULTS}
TREATABLE = tuple(_BARE)


def bare(cfg: RootConf, keys: Iterable[str]) -> RootConf:
    """The configuration with these keys at their bare values."""
    for key in keys:
        cfg = _BARE[key](cfg)
    return cfg


def baseline_of(cfg: RootConf) -> RootConf:
    """The configuration of the baseline arm."""
    return bare(cfg, cfg.treatment)


def is_usual(cfg: RootConf) -> bool:
    """Whether a run asks what quantizing gives, as the analysis takes a run to."""
    return cfg.treatment == USUAL


def recipe_keys(recipe: RecipeConf) -> list[str]:
    """The keys of what a recipe does: ``recipe.fused_qkv``."""
    return [f"recipe.{name}" for name, default in _DEFAULTS.items() if getattr(recipe, name) != default]


def recipe_text(recipe: RecipeConf) -> str:
    """What a recipe does, in a line: ``fused_qkv, memory_format=channels_last``; empty where it is plain."""
    told = []
    for name in (key.partition(".")[2] for key in recipe_keys(recipe)):
        value = getattr(recipe, name)
        told.append(name if value is True else f"{name}={getattr(value, 'name', value)}")
    return ", ".join(told)


def overrides_of(recipe: str, treatment: str) -> dict[str, str]:
    """The keys that ask for a recipe and a treatment, told as axes; empty texts: the usual ones."""
    found = {}
    for name, _, value in (part.partition("=") for part in recipe.split(", ") if part):
        found[name if name == "cache" else f"recipe.{name}"] = value or "true"
    return found | ({"treatment": f"[{treatment.replace(' ', '')}]"} if treatment else {})


def compiled_as(cfg: RootConf) -> CompileConf:
    """The compile mode of an arm: with ``recipe.cuda_graphs`` the one that makes CUDA graphs."""
    if not cfg.recipe.cuda_graphs:
        return cfg.compile
    return replace(cfg.compile, mode=_GRAPHED.get(cfg.compile.mode, cfg.compile.mode))


def is_inherited(key: str, cfg: RootConf) -> bool:
    """Whether a run's ladder added a key at an earlier step."""
    own = any(key == name or key.startswith(f"{name}.") for name in cfg.treatment)
    return cfg.ladder.step is not None and not own


def on_step(cfg: RootConf) -> RootConf:
    """A run of a ladder as what it measures: later steps' keys are bare, its own are the treatment."""
    ladder = cfg.ladder
    if not ladder.steps or ladder.step is None:
        return cfg
    names = list(ladder.steps)
    later = names[names.index(ladder.step) + 1 :]
    cfg = bare(cfg, [key for name in later for key in ladder.steps[name]])
    return replace(cfg, treatment=list(ladder.steps[ladder.step]), ladder=LadderConf({}, ladder.step, names))


def arms_mistakes(cfg: RootConf) -> Iterator[str]:
    """What is wrong with `treatment` and `ladder`, one line each."""
    named = {"treatment": cfg.treatment} | {
        f"ladder.steps.{name}": keys for name, keys in cfg.ladder.steps.items()
    }
    for where, keys in named.items():
        for key in keys:
            if key not in TREATABLE:
                yield f"{where}: {key} is nothing that an arm can lack; {accepted(key, TREATABLE)}"
    if not cfg.treatment:
        yield f"treatment=[]: the arms would be equal; {accepted('', TREATABLE)}"
    steps, step = cfg.ladder.steps, cfg.ladder.step
    if steps and step not in steps:
        what = "a value is missing" if step is None else "no such step"
        yield f"ladder.step={step or ''}: {what}; {accepted(step or '', steps)}"
