"""A run's recipe and what its arms are, settled on the device before anything is measured."""

from dataclasses import replace

from src.config.schema.arms import baseline_of, recipe_text
from src.context import RunContext
from src.treatments.recipe_check import settled

LEFT_OUT = "left_out"  # in a record's details: what both arms lack of what was configured


def settle_recipe(run: RunContext) -> None:
    """Refuse what device and model cannot have; on a ladder what earlier steps could not add is left out.

    Raises:
        RunEndedError: `unsupported`, with the reason; or the arms would be equal.
    """
    run.cfg, left = settled(run.cfg, run.device)
    if left:
        run.record.axes.pop("recipe", None)
        run.record.axes |= {"recipe": text} if (text := recipe_text(run.cfg.recipe)) else {}
        run.record.details[LEFT_OUT] = f"left out in both arms: {'; '.join(left)}"


def baseline_run(run: RunContext) -> RunContext:
    """The run as its baseline arm sees it: the same record and folder, the baseline's configuration."""
    return replace(run, cfg=baseline_of(run.cfg))
