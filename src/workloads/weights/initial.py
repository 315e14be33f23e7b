"""Random weights with which every block of a model counts, and none overflows.

With one standard deviation for all weights (0.02 is usual) the blocks of a narrow model add nothing that a
quantization could harm, and those of a wide one grow. Here a layer keeps the variance of what it is given, and what
the 2 n branches of n blocks add to the residual stream is, all together, about as large as the stream itself.
"""

import math
import re

import torch
from torch import nn

# What modulates a block by the time step: its output scales, shifts and gates the branches.
_MODULATIONS = re.compile(
    r"(^|\.)(\w*norm\w*\.linear|\w*_mod\.\d+|\w*modulation\w*(\.\w+)?|\w*adaln\w*\.linear|time_embed\.linear|time_proj"
    r"|\w*scale_shift_table)$",
    re.IGNORECASE,
)
# The last layer of a branch that nothing gates: in models that gate the others, and in models that gate none.
_CROSS_ATTENTION = re.compile(r"(^|\.)(attn2|cross_attn\w*)\.to_out\.0$")
_LAST_OF_BRANCH = re.compile(
    r"(^|\.)(to_out\.0|to_add_out|out_proj|o_proj|o|net\.2|fc2|wo|w2|conv2|proj_out|down_proj)$"
)
_OF_TIME = (
    0.25  # about what a time embedding's activation leaves of a variance of 1: modulations are made of it
)
_OTHER_STD = 0.02  # of parameters that are no layer's weight, as position embeddings


class Scales:
    """The standard deviation of every random weight of one model.

    Args:
        model: an outline is enough.
        std: the same for all; None: by what a weight is and how deep the model is.
    """

    def __init__(self, model: nn.Module, std: float | None) -> None:
        self.std = std
        names = [name for name, parameter in model.named_parameters() if parameter.dim() > 1]
        self._gated = any(_MODULATIONS.search(name.removesuffix(".weight")) for name in names)
        self._branch = 1 / math.sqrt(2 * max(1, depth(model)))

    def of(self, path: str, module: nn.Module, name: str, parameter: torch.Tensor) -> float:
        """Of a weight.

        Args:
            path: of the module that has it.
            module: that one.
            name: the parameter's own.
            parameter: of at least two dimensions.
        """
        if self.std is not None:
            return self.std
        if isinstance(module, nn.Embedding):
            return 1.0
        place = path if name == "weight" else f"{path}.{name}"
        if name != "weight":
            return self._branch if _MODULATIONS.search(place) else _OTHER_STD
        return self._gain(place) / math.sqrt(math.prod(parameter.shape[1:]))

    def _gain(self, place: str) -> float:
        if _MODULATIONS.search(place):
            return self._branch / _OF_TIME
        last = _CROSS_ATTENTION if self._gated else _LAST_OF_BRANCH
        return self._branch if last.search(place) else 1.0


def depth(model: nn.Module) -> int:
    """How many blocks follow each other: members of module lists that hold no further blocks."""
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList)]
    blocks = {block for part in lists for block in part if _is_block(block)}
    return sum(
        not any(inner in blocks for inner in block.modules() if inner is not block) for block in blocks
    )


def _is_block(module: nn.Module) -> bool:
    """Whether a member of a module list is more than a layer or an activation with one."""
    layers = [part for part in module.modules() if any(True for _ in part.parameters(recurse=False))]
    return len(layers) > 1
