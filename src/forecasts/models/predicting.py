"""What predicts the speedups of a plan, to be sent to another process: it imports nothing before it is called."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from src.config.schema.root import RootConf

if TYPE_CHECKING:
    from src.planning.matrix import Promise
    from src.planning.needs.footprint import Footprints


@dataclass(frozen=True)
class Predicting:
    """Makes `Promises` that know the command line which this process was given."""

    given: list[str]  # overrides that all runs have

    def __call__(self, outputs: Path, footprints: "Footprints") -> "Callable[[RootConf], Promise]":
        """What predicts runs by the records of an outputs folder."""
        from src.forecasts.models.promises import Promises

        return Promises(outputs, footprints, self.given)


def command_line() -> list[str]:
    """The overrides of this process, as far as Hydra knows any."""
    if not HydraConfig.initialized():
        return []
    return list(OmegaConf.to_container(HydraConfig.get().overrides.task))  # type: ignore[arg-type]
