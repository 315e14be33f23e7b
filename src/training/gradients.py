"""How far a recipe's gradients are from the unquantized ones."""

import math

import torch


def gradient_sqnr_db(baseline: dict[str, torch.Tensor], treated: dict[str, torch.Tensor]) -> float | None:
    """SQNR of all gradients together, in dB; None where they are equal to the last bit, or where there are none.

    Args:
        baseline: gradient of each parameter, by its name.
        treated: likewise; a parameter that has none counts as all error.
    """
    signal = noise = 0.0
    for name, gradient in baseline.items():
        own = gradient.double()
        other = treated[name].double() if name in treated else torch.zeros_like(own)
        signal += float(own.square().sum())
        noise += float((own - other).square().sum())
    return 10 * math.log10(signal / noise) if signal and noise else None
