"""Redo the tables in docs/models.md: each model is constructed and called once at its real size, without memory; the
parts of its pipeline are constructed.

``python docs/make_model_tables.py``
"""

import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src.app.composing.runs import run_configs  # noqa: E402
from src.config.schema.model import ComponentConf  # noqa: E402
from src.config.schema.quant import RequiresConf  # noqa: E402
from src.config.schema.root import RootConf, sizes_of_call  # noqa: E402
from src.planning.needs.besides import Besides  # noqa: E402
from src.treatments.layers import LayerRow, capture_layers, why_not  # noqa: E402
from src.workloads.dims import resolve  # noqa: E402
from src.workloads.inputs import make_inputs  # noqa: E402
from src.workloads.model import outline  # noqa: E402
from src.workloads.workload import Workload  # noqa: E402

PAGE = ROOT / "docs" / "models.md"
NAMES = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
_META = torch.device("meta")
_BEGIN, _END = "<!-- {}:begin -->\n", "<!-- {}:end -->"
_HEAD = (
    "| `model` | parameters | resolution, frames | layers, shapes | TFLOP | Linear | bound, halved | "
    "left by `field_default` |\n|---|--:|---|--:|--:|--:|--:|---|\n"
)


_PIPELINE_HEAD = (
    "| `model` | class | VAE | scheduler | text encoders | further parts |\n|---|---|---|---|---|---|\n"
)
_TEXT = ("CLIP", "T5", "UMT5", "Llama", "Gemma", "Qwen", "Mistral")  # text encoders' classes begin so
_MODEL = re.compile("(Encoder|Text)?(For\\w+|Model(WithProjection)?)$")  # the end of their names
_BILLION = 1e9


@dataclass(frozen=True)
class Counted:
    """One call of a model at its default size."""

    model: nn.Module
    inputs: dict[str, object]
    rows: list[LayerRow]
    flop: int  # of all products, convolutions and attention


class SameShapes(TorchDispatchMode):
    """On the meta device: an operation whose arguments were met before gives a tensor like the one it gave then.

    Blocks of a kind repeat each other, and torch finds out most shapes in Python.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[Any, tuple[Any, ...]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make the result, or find it out."""
        if any(result.alias_info for result in func._schema.returns):  # a view, or in place
            return func(*args, **(kwargs or {}))
        met = (func, _likeness(args), _likeness(kwargs or {}))
        if met not in self._known:
            result = func(*args, **(kwargs or {}))
            if not isinstance(result, torch.Tensor):
                return result
            self._known[met] = _likeness(result)
            return result
        shape, stride, dtype, device = self._known[met]
        return torch.empty_strided(shape, stride, dtype=dtype, device=device)


def _likeness(tree: Any) -> tuple[Any, ...]:
    """Of an operator's arguments: equal where they differ in tensors' values only."""
    if isinstance(tree, torch.Tensor):
        return tree.shape, tree.stride(), tree.dtype, tree.device
    if isinstance(tree, dict):
        return tuple((name, _likeness(each)) for name, each in tree.items())
    if isinstance(tree, list | tuple):
        return tuple(map(_likeness, tree))
    return type(tree), tree


@torch.no_grad()
def counted(cfg: RootConf) -> Counted:
    """Call the model on the meta device, whose tensors are shapes."""
    dims = resolve(cfg.model.dims, sizes_of_call(cfg), "model.dims")
    inputs = make_inputs(cfg.model, dims, _META, torch.bfloat16, 0)
    model = outline(cfg.model, torch.bfloat16).to(_META, torch.bfloat16)
    with SameShapes(), Besides() as work:
        rows, _ = capture_layers(Workload(model, (), inputs), keep=False)
    return Counted(model, inputs, rows, work.flop)


def line(cfg: RootConf, seen: Counted) -> str:
    """The model's row.

    Args:
        cfg: of the model, with ``layers=field_default``.
        seen: at its default size.
    """
    parameters = sum(each.numel() for each in seen.model.parameters())
    share = sum(2 * row.M * row.K * row.N * row.calls for row in seen.rows) / seen.flop
    tflop = seen.flop / 1e12
    shapes = len({row.shape for row in seen.rows})
    left = Counter(
        row.name.split(".")[0] for row in seen.rows if why_not(row, cfg.quant.layers, RequiresConf())
    )
    named = ", ".join(f"{name} {count}" for name, count in left.items())
    size = f"{cfg.resolution}, {cfg.frames}" if cfg.frames else f"{cfg.resolution}"
    cells = (
        f"`{cfg.model.name}`",
        f"{parameters / 1e9:.2f} B",
        size,
        f"{len(seen.rows)}, {shapes}",
        f"{tflop:,.0f}" if tflop >= 100 else f"{tflop:.3g}",
        f"{share:.0%}",
        f"{1 / (1 - share):.1f}×, {1 / (1 - share / 2):.2f}×",
        named,
    )
    return f"| {' | '.join(cells)} |\n"


def published(cfg: RootConf) -> bool:
    """Whether the table has it: what somebody published, no small sibling and no probe."""
    return cfg.model.published_parameters is not None


def pipeline_line(cfg: RootConf) -> str:
    """The row of a model's pipeline: what it is made of, with the parameters of each part."""
    conf = cfg.model.pipeline
    encoders = [_part(each) for each in conf.text_encoders.values()]
    cells = (
        f"`{cfg.model.name}`",
        conf._target_.rpartition(".")[2],
        _part(conf.vae),
        str(conf.scheduler["_target_"]).rpartition(".")[2].removesuffix("Scheduler"),
        ", ".join(encoders),
        ", ".join(f"{name}: {_part(each)}" for name, each in conf.parts.items()),
    )
    return f"| {' | '.join(cells)} |\n"


def _part(conf: ComponentConf) -> str:
    """A part's class and size; without a size, where only its weights say of what it is made."""
    name = str(conf.factory["_target_"]).rpartition(".")[2]
    short = _MODEL.sub("", name) if name.startswith(_TEXT) else name.removeprefix("Autoencoder")
    if [*conf.factory] == ["_target_"] and name.startswith(_TEXT):
        return f"({short})"
    count = sum(each.numel() for each in outline(conf, torch.bfloat16).parameters())
    return f"{short} {count / 1e9:.2f} B" if count >= _BILLION else f"{short} {count / 1e6:.0f} M"


def tables() -> dict[str, str]:
    """Markdown by the name of its place in the page."""
    words = (["quant=int8wo", "layers=field_default", "gpu=cpu", f"model={name}"] for name in NAMES)
    configs = [cfg for cfg in (run_configs(each)[0][0] for each in words) if published(cfg)]
    models = _HEAD + "".join(line(cfg, counted(cfg)) for cfg in configs)
    return {"models": models, "pipelines": _PIPELINE_HEAD + "".join(map(pipeline_line, configs))}


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    for place, table in tables().items():
        before, _, rest = text.partition(_BEGIN.format(place))
        text = f"{before}{_BEGIN.format(place)}{table}{_END.format(place)}{rest.partition(_END.format(place))[2]}"
    PAGE.write_text(text, encoding="utf-8")
