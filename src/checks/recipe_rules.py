"""What is wrong with a recipe, a treatment or a ladder, whatever the device and the model."""

from collections.abc import Iterator

from src.checks.signatures import mistakes
from src.config.arms import arms_mistakes, is_usual, recipe_text
from src.config.errors import accepted
from src.config.recipe_schema import AUTO_ATTENTION, DIFFUSERS, SDPA
from src.config.schema import RootConf


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
