"""The host's cores dealt out to a machine's devices, so that runs side by side do not launch from the same ones."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

Cpus = frozenset[int]
CPUS_ROOT = Path("/sys/devices/system/cpu")


def dealt_cpus(
    devices: Sequence[str],
    present: Sequence[str],
    cpus: Collection[int] | None = None,
    root: Path = CPUS_ROOT,
) -> dict[str, Cpus]:
    """CPUs for each device: whole cores, as many for each, neighbours in the order of the devices.

    A device gets the same cores in every sweep, whichever others take part: it is dealt among all that are present.

    Args:
        devices: that take part, by name.
        present: all devices of this machine, by name; where one that takes part is not among them, those that do
            take part share all cores.
        cpus: to be dealt; None: all that this process may use.
        root: of the system's description of its CPUs.

    Returns:
        By device; every device all CPUs where there are fewer cores than devices.
    """
    cpus = os.sched_getaffinity(0) if cpus is None else cpus
    among = list(present) if set(devices) <= set(present) else list(devices)
    cores = cores_of(cpus, root)
    if len(cores) < len(among):
        return {device: frozenset(cpus) for device in devices}
    bounds = [index * len(cores) // len(among) for index in range(len(among) + 1)]
    shares = {
        device: frozenset[int]().union(*cores[first:last])
        for device, first, last in zip(among, bounds, bounds[1:], strict=False)
    }
    return {device: shares[device] for device in devices}


def cores_of(cpus: Collection[int], root: Path = CPUS_ROOT) -> list[Cpus]:
    """The CPUs of each core that may be used, cores of one package together, in the order of their first CPU."""
    cores: dict[tuple[int, str], set[int]] = {}
    for cpu in sorted(cpus):
        topology = root / f"cpu{cpu}" / "topology"
        package = _read(topology / "physical_package_id", "0")
        core = _read(topology / "thread_siblings_list", str(cpu))
        cores.setdefault((int(package), core), set()).add(cpu)
    in_order = sorted(cores.items(), key=lambda item: (item[0][0], min(item[1])))
    return [frozenset(found) for _, found in in_order]


def _read(path: Path, missing: str) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return missing
