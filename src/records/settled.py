"""What the first process of a run settles for the others: they are to measure the same quantity in the same way."""

from collections.abc import Mapping
from typing import Any, Literal

from src.records.record import Record

Settled = Literal["against", "pairing", "way"]
BLOCKS, ALTERNATING = "blocks", "alternating rounds"  # which a speedup comes from
OTHERWISE = "otherwise"  # in a record's details: what its process did not do as the first did


def way(details: Mapping[str, Any]) -> str:
    """Which rounds a record's speedup comes from, by its details: ``blocks`` or ``alternating rounds``."""
    return BLOCKS if "power_cap" in details else ALTERNATING


def settled_by(first: Record) -> dict[str, str]:
    """What the others must do as the first process did, as far as it has measured it.

    Returns:
        ``against``: the dtype of the unquantized arm that the verdict is against; ``pairing``: ``interleaved`` or
        ``in_turn``; ``way``: ``blocks``, where those at the power cap counted, else ``alternating rounds``.
    """
    details = first.details
    found = {"against": details.get("baseline", {}).get("dtype"), "pairing": details.get("pairing")}
    if found["pairing"] != "in_turn":  # a training always alternates, and says no pairing
        found["way"] = way(details)
    return {name: value for name, value in found.items() if value}


def settled(record: Record, name: Settled) -> str | None:
    """What the run's first process settled; None in the first one, and in a run of one process."""
    process: dict[str, str] = record.details.get("process", {})
    return process.get(name)


def note_otherwise(record: Record, what: str) -> None:
    """Note what this process could not do as the first one did, or found different."""
    record.details[OTHERWISE] = f"process {record.details['process']['number']}: {what}"
