"""What a run chose, in the words of diffusers' and transformers' from_pretrained: their TorchAoConfig."""

import re
from collections.abc import Collection, Iterable
from typing import Any


def torchao_config(cls: type, config: Any, chosen: Collection[str], linears: Iterable[str]) -> Any:
    """The configuration that quantizes the chosen layers of a model and leaves every other Linear alone.

    The others are named in ``modules_to_not_convert`` by their weights' whole names, as each library matches them: a
    layer's own name would also match what ends so.

    Args:
        config: torchao's, the same for every layer.
        chosen: names in the model.
        linears: names of all Linear layers of the model.
    """
    import diffusers  # takes seconds
    import transformers

    others = [name for name in linears if name not in chosen]
    if issubclass(cls, diffusers.ModelMixin):
        return diffusers.TorchAoConfig(config, modules_to_not_convert=[f"{name}.weight" for name in others])
    patterns = [f"{re.escape(name)}\\.weight$" for name in others]
    return transformers.TorchAoConfig(config, modules_to_not_convert=patterns)
