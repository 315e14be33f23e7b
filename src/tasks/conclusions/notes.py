"""What a reader must know beside a verdict; of a run in several processes it stays when they are pooled."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Note:
    """One sentence of a record's reason, with what would help."""

    kind: str  # several processes of a run may say it in other numbers: it is told once
    reason: str  # may be empty: there is nothing to tell
    remedy: str = ""
    verdict: str = ""  # the one beside which it is told; empty: any

    def told_beside(self, verdict: str) -> bool:
        """Whether it belongs into the reason of a record with this verdict."""
        return bool(self.reason) and self.verdict in ("", verdict)


def as_details(notes: list[Note]) -> list[dict[str, Any]]:
    """For the record: `src.records.pooled` takes them from there."""
    return [asdict(note) for note in notes if note.reason]
