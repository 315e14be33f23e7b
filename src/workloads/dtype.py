"""What dtype=auto stands for, and which dtype is faster than another; torch is not imported."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from src.config.schema.quant import QuantConf
from src.config.schema.root import AUTO, RootConf

FASTER = 1.2  # of another dtype's rate, from where on the unquantized model is measured in that one too
_CHOICES = ("bfloat16", "float32")  # of dtype=auto; float16 overflows, so it is only taken where it is named
_BFLOAT16_FROM = 8.0  # compute capability from which on no dtype of these is faster


@dataclass(frozen=True)
class DtypeRates:
    """What a device reaches in each dtype, TFLOP/s; one that was too slow to time is in neither."""

    tflop_s: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(
        default_factory=dict
    )  # dtype -> in whose words torch has no kernel for it


def auto_dtype(
    compute_capability: float | None, takes: Sequence[str], rates: Callable[[], DtypeRates]
) -> str:
    """What dtype=auto stands for.

    Args:
        compute_capability: of the device; None: it is no GPU.
        takes: dtypes that the scheme takes; empty: any.
        rates: of the device; asked only where they decide.
    """
    among = [name for name in _CHOICES if name in takes] or list(_CHOICES)
    if len(among) == 1 or knows_bfloat16(compute_capability):
        return among[0]
    known = rates().tflop_s
    return max(among, key=lambda name: known.get(name, 0.0))


def scheme_takes(cfg: RootConf, kind: str) -> list[str]:
    """The dtypes that a run's scheme takes on a kind of device; empty: any."""
    return scheme_dtypes(cfg.quant, kind)


def scheme_dtypes(quant: QuantConf, kind: str) -> list[str]:
    """The dtypes that a scheme takes on a kind of device; empty: any. Candidates are asked one by one later."""
    return [] if quant.candidates else quant.on(kind).requires.dtypes


def predicted(cfg: RootConf) -> RootConf:
    """With dtype=auto resolved where the GPU's entry alone decides it; else as it is, for the run to find out."""
    if cfg.dtype != AUTO or not knows_bfloat16(cfg.gpu.compute_capability):
        return cfg
    dtype = auto_dtype(cfg.gpu.compute_capability, scheme_takes(cfg, "cuda"), DtypeRates)
    return replace(cfg, dtype=dtype)


def knows_bfloat16(compute_capability: float | None) -> bool:
    """Whether a GPU's tensor cores compute bfloat16, which nothing need be measured for."""
    return (compute_capability or 0.0) >= _BFLOAT16_FROM


def faster_dtype(dtype: str, rates: DtypeRates) -> str | None:
    """The dtype with the highest rate, if that is more than `FASTER` times this one's; else None."""
    known = rates.tflop_s
    best = max(known, key=lambda name: known[name], default=dtype)
    return best if best != dtype and known[best] > FASTER * known.get(dtype, 0.0) else None
