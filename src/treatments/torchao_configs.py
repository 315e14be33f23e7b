"""What a run chose, in the words of diffusers' and transformers' from_pretrained: their TorchAoConfig."""

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from torchao.quantization import FqnToConfig


def torchao_config(cls: type, chosen: Mapping[str, Any], linears: Iterable[str]) -> Any:
    """The configuration that quantizes the chosen layers of a model and leaves every other Linear alone.

    The others are named in ``modules_to_not_convert`` by their weights' whole names, as each library matches them: a
    layer's own name would also match what ends so. One config for all layers is given as it is; where they differ (static
    scales) each layer's own, by its name.

    Args:
        cls: the model's class.
        chosen: name in the model -> torchao config; not empty.
        linears: names of all Linear layers of the model.
    """
    import diffusers  # takes seconds
    import transformers

    configs, others = list(chosen.values()), [name for name in linears if name not in chosen]
    same = all(config is configs[0] for config in configs)
    config = configs[0] if same else FqnToConfig(OrderedDict(chosen))
    if issubclass(cls, diffusers.ModelMixin):
        return diffusers.TorchAoConfig(config, modules_to_not_convert=[f"{name}.weight" for name in others])
    patterns = [f"{re.escape(name)}\\.weight$" for name in others]
    return transformers.TorchAoConfig(config, modules_to_not_convert=patterns)
