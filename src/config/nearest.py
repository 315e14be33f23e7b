"""Which of the known names one that is unknown likely means."""

from collections.abc import Sequence
from difflib import get_close_matches

_UNITS = {"seconds": "s", "sec": "s", "milliseconds": "ms", "gb": "gib"}  # as others write them: as keys end


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """The name that is likely meant, if any; of a unit that is spelled out (`_seconds`) first among those in it."""
    stem, _, word = name.rpartition("_")
    unit = _UNITS.get(word, "") if stem else ""
    asked = f"{stem}_{unit}" if unit else name
    alike = [each for each in known if each.endswith(f"_{unit}")] if unit else []
    return get_close_matches(asked, alike, n=1, cutoff=0.5) or get_close_matches(
        asked, known, n=1, cutoff=0.5
    )
