"""What is wrong with a recipe, a treatment, a ladder, or a compile mode that makes packages, whatever the device."""

from collections.abc import Iterator, Mapping
from typing import Any

from src.checks.signatures import mistakes
from src.config.errors import accepted
from src.config.schema.arms import arms_mistakes, is_usual, recipe_text
from src.config.schema.recipe import AUTO_ATTENTION, DIFFUSERS, SDPA
from src.config.schema.root import CalibrateConf, CompileConf, RootConf, sizes

_AS = "give {batch: [1, 4]}, a least and a most"


def recipe_mistakes(root: RootConf) -> Iterator[str]:
    """One line each."""
    yield from arms_mistakes(root)
    name, known = root.recipe.attention, (AUTO_ATTENTION, *SDPA)
    if name not in known and not name.startswith(DIFFUSERS):
        yield f"recipe.attention={name}: no such kind; {accepted(name, known)}, {DIFFUSERS}NAME"
    if root.recipe.vae_compile and root.compile.scope == "none":
        yield f"recipe.vae_compile=true: compile={root.compile.name} compiles nothing"
    if root.recipe.cache.config:
        yield from mistakes(root.recipe.cache.config, "recipe.cache.config", later=True)
    if root.recipe.cuda_graphs and root.compile.package:
        made = f"compile={root.compile.name} makes packages, which have none"
        yield f"recipe.cuda_graphs=true: {made}; give compile=regional"
    doing = recipe_text(root.recipe)
    if not root.task.compares and doing:
        yield f"recipe: task={root.task.name} takes models as they are, not with {doing}; give recipe=plain"
    if root.quant.candidates and not is_usual(root):
        yield (
            f"treatment=[{','.join(root.treatment)}]: {root.quant.name} chooses against an unquantized baseline; "
            "give treatment=[quant], or another scheme"
        )
    if root.quant.candidates and root.recipe.cuda_graphs:
        yield f"recipe.cuda_graphs=true: for {root.quant.name} give compile=reduce-overhead"
    if root.quant.layers.sensitive._target_:
        yield from _not_sensitive(root)


def _not_sensitive(root: RootConf) -> Iterator[str]:
    """What layers=sensitive cannot be with."""
    quant, what = root.quant, f"layers={root.quant.layers.name}"
    if quant.candidates:
        yield f"{what}: quant={quant.name} chooses layer by layer itself; give layers=all, or a single scheme"
    if quant.emulate:
        yield f"{what}: weighs noise against time, and quant.emulate=true saves none; give layers=field_default"
    if quant.where == "cpu":
        yield f"{what}: quantizes on the device to see what that costs; give quant.where=device or streamed"
    for key, wanted in (("offload", "none"), ("cache", "none")):
        given = getattr(root.recipe, key)
        given = getattr(given, "name", given)
        if given != wanted:
            yield f"{what}: calls the model in part, which recipe.{key}={given} does not allow; give {wanted}"


def package_mistakes(root: RootConf) -> Iterator[str]:
    """One line for each mistake in ``compile.package`` and ``compile.dynamic_shapes``."""
    conf, ranges = root.compile, root.compile.dynamic_shapes
    yield from _compiles(conf)
    if ranges and not conf.package:
        yield f"compile.dynamic_shapes={ranges}: only packages have them; give compile=aot"
        return
    known: dict[str, Any] = sizes(root) | root.model.dims
    if not root.resolution:
        known.pop("resolution", None)
    for name, given in ranges.items():
        if name not in known:
            has = accepted(name, [*known])
            yield f"compile.dynamic_shapes.{name}: no axis or dimension of {root.model.name}; {has}"
        elif not _is_range(given):
            yield f"compile.dynamic_shapes.{name}={given}: no range; {_AS}"
        else:
            yield from _inside(name, given, known)


def calibration_mistakes(conf: CalibrateConf) -> Iterator[str]:
    """Calibrating compiles in place."""
    if conf.compile.package:
        yield f"compile={conf.compile.name}: makes packages, which calibrating does not; give compile=default"


def _compiles(conf: CompileConf) -> Iterator[str]:
    if conf.package and conf.scope == "none":
        yield "compile.package=true: compile.scope=none compiles nothing; give module, or regional"
    if conf.package and conf.backend != "inductor":
        yield f"compile.backend={conf.backend}: packages are inductor's (AOTInductor); give compile.backend=inductor"


def _inside(name: str, given: list[int], known: Mapping[str, Any]) -> Iterator[str]:
    value = known[name]
    if isinstance(value, int) and not given[0] <= value <= given[1]:
        yield f"compile.dynamic_shapes.{name}={given}: this run's {name} is {value}, which is not inside"


def _is_range(given: Any) -> bool:
    return (
        isinstance(given, list)
        and len(given) == 2
        and all(isinstance(size, int) and not isinstance(size, bool) for size in given)
        and 1 <= given[0] < given[1]
    )
