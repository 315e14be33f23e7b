"""Times as people write them: 90, 90s, 10min, 1.5h."""

import re

from src.config.errors import ConfigError

_SECONDS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def seconds(text: str, key: str) -> float:
    """The seconds that a value means.

    Args:
        key: whose it is, for the message.

    Raises:
        ConfigError: it is no time, or none at all.
    """
    found = _WRITTEN.fullmatch(text.strip())
    if not found or found[2] not in _SECONDS or float(found[1]) == 0:
        raise ConfigError(
            f"{key}={text}: not a time; accepted: seconds, or a number with s, min or h: 600, 10min, 2h"
        )
    return float(found[1]) * _SECONDS[found[2]]


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
