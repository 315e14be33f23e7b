"""What a call does beside its Linear layers, counted on fake tensors: attention's work, and bytes between kernels."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count
from torch.utils.weak import WeakIdKeyDictionary

_ATTENTION = "_scaled_dot_product"  # of each device an op of its own


class Besides(TorchDispatchMode):
    """Inside, operations are counted: `flop` of products and attention, bytes of all the others.

    `eager_bytes` is what the others read and write one by one. `fused_bytes` is what they do where a compiler makes
    one kernel of all that stands between two products: each such kernel reads a tensor that it did not make once, and
    what something after it needs is written once. Parameters are small there and do not count.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flop = 0  # of all products, Linear layers among them, and attention
        self.eager_bytes = self.fused_bytes = 0
        self._kernel = 0  # how many products were met
        self._made = WeakIdKeyDictionary()  # storage -> the kernel that made it; a product's: none
        self._met: WeakIdKeyDictionary = WeakIdKeyDictionary()  # storage -> kernels that read or wrote it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count it."""
        result = func(*args, **(kwargs or {}))
        inputs, outputs = _tensors((args, kwargs)), _tensors(result)
        flop = _flop(func, args, kwargs or {}, result)
        made = [out for out in outputs if not any(_same(out, given) for given in inputs)]
        if flop is not None:
            self.flop += flop
            self._kernel += 1
            self._product(inputs, made)
        elif made:
            self.eager_bytes += sum(map(_bytes, (*inputs, *made)))
            self._fused(inputs, made)
        return result

    def _product(self, inputs: list[torch.Tensor], made: list[torch.Tensor]) -> None:
        """A product's inputs had to be written by whoever made them; its own traffic is part of its time."""
        for tensor in inputs:
            self._written(tensor)
        for tensor in made:
            self._made[tensor.untyped_storage()] = None

    def _fused(self, inputs: list[torch.Tensor], made: list[torch.Tensor]) -> None:
        for tensor in inputs:
            storage = tensor.untyped_storage()
            maker = self._made.get(storage, self._kernel)  # unknown: a parameter, or an input of the model
            if maker != self._kernel and self._kernel not in self._met.setdefault(storage, set()):
                self._written(tensor)
                self._met[storage].add(self._kernel)
                self.fused_bytes += _bytes(tensor)
        for tensor in made:
            self._made[tensor.untyped_storage()] = self._kernel

    def _written(self, tensor: torch.Tensor) -> None:
        """Count the writing of what a kernel made, once."""
        storage = tensor.untyped_storage()
        if self._made.get(storage) is not None and "written" not in self._met.setdefault(storage, set()):
            self._met[storage].add("written")
            self.fused_bytes += _bytes(tensor)


def _flop(func: Any, args: Any, kwargs: Any, result: Any) -> int | None:
    """Floating-point operations of a product; None: it is none."""
    packet = func._overloadpacket
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=result))
    if _ATTENTION in str(packet):
        return int(sdpa_flop_count(*(tensor.shape for tensor in args[:3])))
    return None


def _tensors(tree: Any) -> list[torch.Tensor]:
    """Those among an operator's arguments or results; torch's pytree would take most of the time."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, list | tuple):
        return []
    return [tensor for each in tree for tensor in _tensors(each)]


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether one is a view of the other."""
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
