"""A record for every run whose process is over, whether it wrote one or not."""

from pathlib import Path
from typing import NamedTuple

from src.processes.isolated import EndedBy, Ending
from src.records.environment import environment
from src.records.pooled import pooled_record
from src.records.record import RECORD_NAME, Outcome, Record, RecordError, read_record


class _Meaning(NamedTuple):
    outcome: Outcome
    reason: str
    remedy: str


_LAST_WORDS = "run.log in the run's folder has its last words"
_MEANINGS = {
    EndedBy.TIMEOUT: _Meaning(
        Outcome.TIMEOUT,
        "not done after measure.timeout_s={timeout_s:g} seconds{where}",
        "a larger measure.timeout_s",
    ),
    EndedBy.MEMORY: _Meaning(Outcome.OOM, "{said}", "{more_memory}"),
    EndedBy.SIGNAL: _Meaning(Outcome.KILLED, "{said}", _LAST_WORDS),
    EndedBy.EXIT: _Meaning(Outcome.KILLED, "{said}", _LAST_WORDS),
}


def record_of(
    ending: Ending,
    record: Record,
    folder: Path,
    timeout_s: float,
    more_memory: str = "a smaller model, or a machine with more memory",
) -> Record:
    """The record of a run whose child ended: the child's own, else what its ending tells; it is on disk on return.

    Args:
        record: the run's identity, for when the child left no record.
        timeout_s: the time limit that the child had.
        more_memory: what to do where the host's memory was too small.
    """
    if ending.by is EndedBy.ITSELF and isinstance(ending.answer, Record):
        return kept(ending.answer, folder)
    if (folder / RECORD_NAME).exists():  # written in the child's last moments
        try:
            return read_record(folder / RECORD_NAME)
        except RecordError:
            return record
    meaning = _MEANINGS[ending.by]
    words = {
        "said": ending.reason,
        "where": ending.where,
        "timeout_s": timeout_s,
        "more_memory": more_memory,
    }
    record.outcome = meaning.outcome
    record.reason, record.remedy = meaning.reason.format(**words), meaning.remedy.format(**words)
    return kept(record, folder)


def kept(record: Record, folder: Path) -> Record:
    """Write the record, with this process' environment where it has none, unless there is one.

    Where the run has several processes, those that have measured make it.
    """
    if not (folder / RECORD_NAME).exists():
        record = pooled_record(folder, record)
        record.environment = record.environment or environment()
        record.write(folder)
    return record
