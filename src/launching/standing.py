"""What earlier sweeps have measured already: which record stands for a run key."""

from collections.abc import Callable
from pathlib import Path

from src.config.schema.root import RootConf
from src.launching.repetition import processes_of
from src.records.pooled import is_measured
from src.records.record import Outcome, Record, RecordError
from src.records.store import latest_final


def standing(outputs: Path, key: str, cfg: RootConf, warn: Callable[[str], None]) -> Record | None:
    """The record that stands for the key, so that the run need not be measured; nothing with ``rerun=true``.

    An unreadable record, or one whose verdict was withheld, does not stand; neither does one without the profile or
    the checkpoint that is asked for now, or of fewer processes: analysis pools it with what is measured then.

    Args:
        warn: hears of unreadable records.
    """
    if cfg.rerun:
        return None
    try:
        done = latest_final(outputs, key)
    except RecordError as error:
        warn(f"warning: {error}; measured again as a new attempt")
        return None
    if done is None or done.details.get("withheld"):
        return None
    lacks = (
        (cfg.measure.profile and _lacks_profile(done))
        or (cfg.serialize.keep and _lacks_kept(done))
        or _lacks_processes(done, processes_of(cfg))
    )
    return None if lacks else done


def is_settled(record: Record) -> bool:
    """Whether a record that stands is one of this machine: its device was tried, or is known not to be here.

    A process that the kernel killed leaves none; nobody knows what it had tried.
    """
    return bool(record.device) or record.outcome is Outcome.UNSUPPORTED


def _lacks_profile(record: Record) -> bool:
    """Whether a run that could have been profiled was not, or its profile failed."""
    return record.outcome is Outcome.OK and "files" not in record.details.get("profile", {})


def _lacks_processes(record: Record, wanted: int) -> bool:
    """Whether a speedup was measured in fewer processes; one that was started and failed is not started again."""
    started = len(record.details.get("processes", {}).get("each", ())) or 1
    return is_measured(record) and started < wanted


def _lacks_kept(record: Record) -> bool:
    """Whether a run saved a checkpoint that was not kept, or is gone."""
    saved = record.details.get("serialize", {})
    return record.outcome is Outcome.OK and bool(saved) and not Path(saved["checkpoint"] or " ").is_dir()
