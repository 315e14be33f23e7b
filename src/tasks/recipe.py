"""A run's recipe and what its arms are, settled on the device before anything is measured."""

from dataclasses import replace

from src.config.arms import bare, baseline_of, is_usual
from src.config.schema import RootConf
from src.context import RunContext
from src.outcomes import RunEndedError, unsupported
from src.records.key import count_alike
from src.treatments.recipe_check import refusals
from src.treatments.scheme import make_scheme

LEFT_OUT = "left_out"  # in a record's details: what both arms lack of what was configured


def settle_recipe(run: RunContext) -> None:
    """Refuse what device and model cannot have; on a ladder what earlier steps could not add is left out.

    Raises:
        RunEndedError: `unsupported`, with the reason; or the arms would be equal.
    """
    cfg, told = run.cfg, []
    for key, error in refusals(cfg, run.device.kind):
        if not _inherited(key, run):
            raise error
        run.cfg = bare(run.cfg, [key])
        told.append(f"{key} ({error.reason})")
    if _inherited("quant", run):
        try:
            make_scheme(cfg.quant).check(run.device, cfg.dtype)
        except RunEndedError as error:
            run.cfg = bare(run.cfg, ["quant"])
            told.append(f"quant ({error.reason})")
    if told:
        run.record.details[LEFT_OUT] = f"left out in both arms: {'; '.join(told)}"
    if not is_usual(run.cfg) and _equal(run.cfg):
        named = ", ".join(cfg.treatment)
        raise unsupported(
            "; ".join([f"treatment=[{named}] adds nothing here: the arms would be equal", *told]),
            f"another value of {named}",
        )


def _inherited(key: str, run: RunContext) -> bool:
    """Whether a run's ladder added a key at an earlier step."""
    cfg = run.cfg
    return cfg.ladder.step is not None and not any(
        key == name or key.startswith(f"{name}.") for name in cfg.treatment
    )


def _equal(cfg: RootConf) -> bool:
    """Whether the arms are the same but for their names."""
    base = baseline_of(cfg)
    return all(
        count_alike(getattr(cfg, part), getattr(base, part)) for part in ("quant", "compile", "recipe")
    )


def baseline_run(run: RunContext) -> RunContext:
    """The run as its baseline arm sees it: the same record and folder, the baseline's configuration."""
    return replace(run, cfg=baseline_of(run.cfg))
