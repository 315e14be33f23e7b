"""What the devices that a search measures on are called: what is known of them is found by these names."""

from collections.abc import Sequence
from pathlib import Path

from src.config.schema.root import RootConf
from src.local.devices import Devices
from src.local.server import preloaded, prepared
from src.processes.isolated import Preloaded
from src.search.runs import FOLDER


def device_names(configs: Sequence[RootConf], here: bool) -> list[str]:
    """The full name of each run's device, a CPU's with its threads; empty where it is not known.

    Args:
        configs: of runs of one command.
        here: whether they run on this machine.

    Raises:
        ConfigError: a device cannot be opened, or the outputs folder not written.
    """
    if not here:
        return [""] * len(configs)
    if configs[0].plan:  # which writes nothing, and opens devices in this process anyway
        from src.planning.cards import card_of

        opened = [card_of(cfg.gpu) for cfg in configs]
        return [card.device.name if card.here and card.device else "" for card in opened]
    folder = prepared(Path(configs[0].outputs)) / FOLDER
    folder.mkdir(exist_ok=True)
    devices = Devices(Preloaded(preloaded(configs)), folder)  # the server that the runs are forked from too
    return [str(devices.described(cfg.gpu).get("name", "")) for cfg in configs]
