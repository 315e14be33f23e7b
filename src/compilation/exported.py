"""Parts of a model compiled ahead of time: exported by torch.export, compiled by AOTInductor, called from the result.

The weights stay outside of the compiled code. They are handed to it by name, so that one code serves all repeated
blocks, and that the file of weights beside it (`src.serialization`) is the only one.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._inductor
import torch.utils._pytree as pytree
import torchao
from torch import nn
from torch._functorch._aot_autograd.subclass_parametrization import UnwrapTensorSubclass
from torch._inductor.package.package import package_aoti
from torch.export._tree_utils import reorder_kwargs
from torch.export.pt2_archive._package_weights import Weights
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from src.compilation.inductor import options_of_mode
from src.compilation.strides import laid_out, strides_of
from src.config.schema.root import CompileConf
from src.outcomes import RunEndedError, code_place, ended, unsupported
from src.records.record import Outcome
from src.workloads.hooks import before

State = dict[str, torch.Tensor]
_NOT_THE_MODEL = (
    *(module.__path__[0] for module in (torch, torchao)),
    str(Path(__file__).parent),
)
_PLAIN = (bool, int, float, str, type(None))
_ADVICE = " | consider using"  # of torch's to who writes the model, at the end of a message
_PACKAGED = {
    "aot_inductor.package": True,
    "aot_inductor.package_constants_in_so": False,
    "aot_inductor.package_constants_on_disk_format": "pickle_weights",  # says which they are
    "always_keep_tensor_constants": True,  # small ones would become code, and other blocks have other ones
}


@dataclass
class Call:
    """The arguments of one call of a module."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def split(self) -> tuple[list[torch.Tensor], list[Any]]:
        """The tensors among them, in the order that compiled code takes them, and the others, which are in the code.

        Of what is no plain value its class.
        """
        tensors: list[torch.Tensor] = []
        values: list[Any] = []
        for leaf in pytree.tree_leaves((self.args, self.kwargs)):
            if isinstance(leaf, torch.Tensor):
                tensors.append(leaf)
            else:
                values.append(leaf if isinstance(leaf, _PLAIN) else type(leaf))
        return tensors, values

    def tensors(self) -> list[torch.Tensor]:
        """The tensors among them."""
        return self.split()[0]

    def signature(self) -> str:
        """What must be the same for one code to serve both: structure, dtypes, shapes, strides, and all else."""
        leaves, spec = pytree.tree_flatten((self.args, self.kwargs))
        return f"{[described(leaf) for leaf in leaves]} {spec} {[*map(strides_of, self.tensors())]}"

    def settled(self, *, contiguous: bool) -> "Call":
        """The same, whose tensors lie as `strides_of` says of them; or all contiguous."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return laid_out(tensor, [] if contiguous else strides_of(tensor))

        return Call(*pytree.tree_map_only(torch.Tensor, moved, (self.args, self.kwargs)))


def described(leaf: Any) -> str:
    """An argument in words: ``bfloat16 [1, 256, 64]``."""
    return f"{str(leaf.dtype)[6:]} {[*leaf.shape]}" if isinstance(leaf, torch.Tensor) else repr(leaf)


def calls_of(parts: Sequence[nn.Module], call: Callable[[], object]) -> dict[nn.Module, Call]:
    """What each of the parts is first called with while `call` runs; one that is not called is left out."""
    seen: dict[nn.Module, Call] = {}

    def remember(_: str, part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.setdefault(part, Call(args, dict(kwargs)))

    with before((("", part) for part in parts), remember):
        call()
    return seen


def constants_of(module: nn.Module) -> State:
    """The module's plain tensors by the names that compiled code knows them by; of a quantized one its parts."""
    return {name: part for own, tensor in _named(module) for name, part in _plain(own, tensor)}


def weights_of(module: nn.Module) -> dict[str, str]:
    """What of a module's tensors its code depends on, in words, by name: not their values.

    Of a quantized one also its class and what that keeps beside its parts, as the block size.
    """
    found = {name: f"{described(part)} {part.stride()}" for name, part in constants_of(module).items()}
    for name, tensor in _named(module):
        if is_traceable_wrapper_subclass(tensor):
            _, kept = tensor.__tensor_flatten__()
            found[name] = f"{type(tensor).__name__} {[*tensor.shape]} {kept}"
    return found


def _named(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _plain(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    if not is_traceable_wrapper_subclass(tensor):
        yield name, tensor.detach()
        return
    module, _, own = name.rpartition(".")
    for place, part in enumerate(UnwrapTensorSubclass().right_inverse(tensor)):
        yield f"{f'{module}.' if module else ''}parametrizations.{own}.original{place}", part.detach()


@dataclass
class Code:
    """What AOTInductor made of a module."""

    files: list[Any]  # paths
    constants: State  # that it needs beside the module's own tensors: those of its forward

    def write(self, path: Path) -> None:
        """All of it into one ``.pt2`` file."""
        with path.open("w+b") as file:
            package_aoti(file, self.files)


def compile_ahead_of_time(part: nn.Module, call: Call, conf: CompileConf, dynamic: Any | None) -> Code:
    """Export a module and compile it.

    Args:
        part: the module, in eval mode.
        call: example arguments.
        dynamic: which sides may change, for `torch.export.export`; None: all are fixed.

    Raises:
        RunEndedError: `unsupported`, when torch.export cannot take it; the reason names the line of the model's code.
    """
    program = export(part, call, dynamic)
    args, kwargs = program.example_inputs
    # Torch writes into this one: into its own, all that is compiled later would have another key in its cache.
    options = options_of_mode(conf.mode) | _PACKAGED | {"aot_inductor.metadata": {}}
    made: Any = torch._inductor.aot_compile(program.module(check_guards=False), args, kwargs, options=options)
    own = constants_of(part).keys()
    needed = {name: weight[0] for each in made if isinstance(each, Weights) for name, weight in each.items()}
    return Code(
        [each for each in made if not isinstance(each, Weights)],
        {name: tensor.detach() for name, tensor in needed.items() if name not in own},
    )


def export(part: nn.Module, call: Call, dynamic: Any | None) -> torch.export.ExportedProgram:
    """The module as one graph.

    Raises:
        RunEndedError: as `compile_ahead_of_time`.
    """
    try:
        return torch.export.export(part, call.args, call.kwargs, dynamic_shapes=dynamic)
    except Exception as error:
        end = ended(error)
        if end.outcome is Outcome.OOM:
            raise
        raise _not_exported(part, error, end) from error


def _not_exported(part: nn.Module, error: Exception, end: RunEndedError) -> RunEndedError:
    """Why, and at which line of the model's code: the innermost that is neither torch's nor this project's."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_NOT_THE_MODEL)
    ]
    where = code_place(frames[-1].filename, frames[-1].lineno or 0, frames[-1].name) if frames else ""
    said = end.reason.partition(_ADVICE)[0]
    why = f"{where}: {said}" if where and where not in said else said
    return unsupported(
        f"torch.export cannot take {type(part).__name__}: {why}", "compile=default, or regional"
    )


class Loaded:
    """Compiled code with the weights of one module: called in its place.

    Args:
        weights: of the module, and what else the code needs, by name; kept alive here, not copied.
        check: sees a call, unless it is like the one before, and raises where the code is not made for it.
        strides: of each tensor of a call, as `strides_of` says; other tensors are copied into such. None: not known.
    """

    def __init__(
        self,
        path: Path,
        weights: State,
        check: Callable[[Call], None],
        strides: list[list[int]] | None,
    ) -> None:
        # Single threaded, so two threads need a copy each: otherwise each call waits on the host for the one before,
        # which no compiled module does.
        self.code: Any = torch._inductor.aoti_load_package(str(path), run_single_threaded=True)
        self.weights = {name: weights[name] for name in self.code.get_constant_fqns()}
        self.code.load_constants(self.weights, check_full_update=True, user_managed=True)
        given, returned = self.code.loader.get_call_spec()
        self._given: Any = pytree.treespec_loads(given)
        self._returned: Any = pytree.treespec_loads(returned)
        self._check = check
        self._strides = strides
        self._seen: tuple[Any, ...] | None = None  # of the last call
        self._apart: list[tuple[int, list[int]]] = []  # which of them lie otherwise, and how they should

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As torch's own AOTICompiledModel, which reads both specifications from JSON again at each call."""
        call = Call(args, reorder_kwargs(kwargs, self._given))
        tensors, values = call.split()
        seen = [(each.dtype, each.shape, each.stride()) for each in tensors], values
        if seen != self._seen:
            self._check(call)
            wanted = enumerate(self._strides or ())
            self._apart = [(place, own) for place, own in wanted if strides_of(tensors[place]) != own]
            self._seen = seen
        for place, strides in self._apart:
            tensors[place] = laid_out(tensors[place], strides)
        return pytree.tree_unflatten(self.code.loader.boxed_run(tensors), self._returned)


def call_instead(module: nn.Module, loaded: Loaded | None) -> None:
    """Have calls of a module run compiled code, as `nn.Module.compile` does; None: its own again.

    A copy of the module is made without it.
    """
    module._compiled_call_impl = loaded
