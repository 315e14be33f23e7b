"""What to mind of a whole model's forecast, a sentence each."""

from collections.abc import Iterator, Sequence

from src.config.schema.quant import QuantConf
from src.config.schema.root import RootConf
from src.forecasts.evidence.cells import is_cpu
from src.forecasts.models.layer_times import LayerTimes
from src.forecasts.models.whole import Layers


def notes(cfg: RootConf, times: LayerTimes, layers: Sequence[Layers]) -> list[str]:
    """Of a model as `cfg` asks for it, predicted from these times of its layers."""
    found = [*_uncertain(times, layers), _all_of(cfg.quant), _slow(cfg, times.place.device)]
    return [note for note in found if note]


def _uncertain(times: LayerTimes, layers: Sequence[Layers]) -> Iterator[str]:
    if times.timed_on != times.place.device:
        yield f"nothing was measured on {times.place.device}: its layers' times are those of {times.timed_on}"
    if unknown := [each for each in layers if each.unknown]:
        calls, ms = sum(each.calls for each in unknown), sum(each.baseline_ms for each in unknown)
        yield (
            f"{calls} calls of layers that would be quantized and that nothing predicts ({ms:.3g} ms) count as "
            f"unquantized: {unknown[0].unknown}"
        )


def _all_of(conf: QuantConf) -> str:
    why = f"layers={conf.layers.name}: which layers to leave alone is measured; predicted as if none were"
    return why if conf.layers.sensitive._target_ else ""


def _slow(cfg: RootConf, device: str) -> str:
    """Why the scheme's kernels are slow where they are compiled."""
    kind = "cpu" if is_cpu(device) else "cuda"
    return "" if cfg.compile.scope == "none" else cfg.quant.slow_compiled.get(kind, "")
