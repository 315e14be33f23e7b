"""A whole pipeline that save_pretrained wrote: what of it is no module, and what its tokenizers make of prompts."""

import inspect
from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object

from src.config.errors import ConfigError
from src.config.lines import first_line
from src.config.schema.model import PipelineConf, WeightsConf

_LIBRARIES = (
    "diffusers",
    "transformers",
)  # whose classes an index may name: importing any other runs its code
_MOST = "max_sequence_length"  # what pipelines call the tokens that they take of a prompt


class Saved:
    """The folder or repository of a pipeline, by its model_index.json."""

    def __init__(self, weights: WeightsConf) -> None:
        from diffusers import DiffusionPipeline  # importing it takes a while

        self._place = weights.place()
        revision = {} if weights.revision is None else {"revision": weights.revision}
        self._given: dict[str, Any] = {"local_files_only": weights.source != "hub", **revision}
        self._index: dict[str, Any] = dict(DiffusionPipeline.load_config(self._place, **self._given))

    def settings(self) -> dict[str, Any]:
        """What it holds beside its parts, as ``expand_timesteps``."""
        names = (name for name in self._index if not name.startswith("_"))
        return {name: self._index[name] for name in names if not isinstance(self._index[name], list)}

    def part(self, name: str) -> Any:
        """A tokenizer or a scheduler, of the class that the index names.

        Raises:
            ConfigError: it has none, of another library, or that cannot be read.
        """
        library, cls = self._index.get(name) or (None, None)
        if cls is None:
            raise ConfigError(
                f"model.pipeline.weights.id={self._place}: its model_index.json names no {name}"
            )
        if library not in _LIBRARIES:
            raise ConfigError(
                f"model.pipeline.weights.id={self._place}: its {name} is of {library}, and only classes of "
                f"{' and '.join(_LIBRARIES)} are read"
            )
        try:
            return get_object(f"{library}.{cls}").from_pretrained(self._place, subfolder=name, **self._given)
        except Exception as error:
            raise ConfigError(
                f"model.pipeline.weights.id={self._place}: its {name} cannot be read: {first_line(error)}"
            ) from error


def refuse_cut(
    conf: PipelineConf, tokenizers: Mapping[str, Any], arguments: Mapping[str, Any], where: str
) -> None:
    """Refuse a prompt whose end no text encoder would see: pipelines cut it and go on.

    Args:
        tokenizers: of its text encoders.
        arguments: of a call, which may say how many tokens are taken.
        where: the key of the prompts.

    Raises:
        ConfigError: one is longer than each of the encoders takes.
    """
    asked = inspect.signature(get_object(conf._target_).__call__).parameters.get(_MOST)
    given = arguments.get(_MOST, asked.default if asked else None)
    for place, text in enumerate(conf.prompts):
        lengths = {name: len(_tokenizer(each)(text)["input_ids"]) for name, each in tokenizers.items()}
        takes = {
            name: min(_tokenizer(each).model_max_length, given if isinstance(given, int) else lengths[name])
            for name, each in tokenizers.items()
        }
        if all(lengths[name] > takes[name] for name in lengths):
            longest = max(takes, key=lambda name: takes[name])
            raise ConfigError(
                f"{where}[{place}]: {lengths[longest]} tokens by {longest}, and the most that a text encoder takes "
                f"are {takes[longest]}: its end would be cut off; give a shorter one"
            )


def _tokenizer(found: Any) -> Any:
    """Of a processor for texts and images what is for texts."""
    return getattr(found, "tokenizer", found)
