"""Whether the kernel killed for memory: what this process' control group counts.

Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, memory.events; cgroup-v1/memory.html, memory.oom_control.
"""

import re
from pathlib import Path

# Of version 2 and of version 1: the controller in /proc/self/cgroup, its mount, the file that counts.
_PLACES = (("", "", "memory.events"), ("memory", "memory", "memory.oom_control"))


def oom_kills(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How many processes of this control group were killed for memory, by whatever limit; None: nobody counts.

    A container sees its own group at the mount's root, whatever path it is told; so the nearest folder above counts.
    """
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    paths = {
        name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")
    }
    for controller, mount, file in _PLACES:
        if controller not in paths:
            continue
        inside = Path(paths[controller].lstrip("/"))
        for folder in (inside, *inside.parents):
            found = _count(root / mount / folder / file)
            if found is not None:
                return found
    return None


def _count(path: Path) -> int | None:
    try:
        found = re.search(r"^oom_kill (\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
