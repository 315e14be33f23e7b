"""Codes of 1 to 8 bits stored in exactly as many, in ops that torch.compile fuses into what reads them.

A row of K codes is padded to a multiple of 8. Its k bits are cut into fields of 8, 4, 2 and 1 bits (7 = 4 + 2 + 1),
and each field has a section of the row: with w bits a byte holds 8 / w codes, which stand w K / 8 codes apart, so
that consecutive codes lie in consecutive bytes:

    k = 3, K = 16    section of 4 bytes: bits 0-1 of codes i, i + 4, i + 8, i + 12 in byte i
                     section of 2 bytes: bit 2 of codes i, i + 2, ..., i + 14 in byte i

A code is then read from at most three bytes with shifts that do not depend on its place in a run. A plain bit stream
(8 codes in k consecutive bytes) is as small, but its codes straddle bytes: torch.compile makes a concatenation of
eight cases of it, or a gather. Bit planes have neither fault and take k loads per code instead of 1 to 3.
"""

from functools import reduce

import torch
from torch import Tensor, nn


def packed_width(columns: int, bits: int) -> int:
    """Bytes of a row of `columns` codes."""
    return bits * -(-columns // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Store codes.

    Args:
        codes: [..., K], uint8, each below 2**bits.
        bits: 1 to 8.

    Returns:
        [..., packed_width(K, bits)], uint8.
    """
    eighth = -(-codes.shape[-1] // 8)
    codes = nn.functional.pad(codes, (0, 8 * eighth - codes.shape[-1]))
    sections, low = [], 0
    for width in _fields(bits):
        field = (codes >> low) & (2**width - 1)
        shifted = field.unflatten(-1, (8 // width, width * eighth)) << _shifts(width, codes.device)
        sections.append(shifted.sum(-2, dtype=torch.uint8))
        low += width
    return torch.cat(sections, -1)


def unpack(packed: Tensor, bits: int, columns: int) -> Tensor:
    """Read codes back.

    Args:
        packed: [..., packed_width(columns, bits)], uint8.
        bits: 1 to 8.
        columns: K, without the padding.

    Returns:
        [..., K], uint8.
    """
    eighth = packed.shape[-1] // bits
    widths = _fields(bits)
    fields, low = [], 0
    for width, section in zip(widths, packed.split([w * eighth for w in widths], -1), strict=True):
        field = (section.unsqueeze(-2) >> _shifts(width, packed.device)) & (2**width - 1)
        fields.append(field.flatten(-2) << low)
        low += width
    return reduce(torch.bitwise_or, fields)[..., :columns]


def _fields(bits: int) -> list[int]:
    return [width for width in (8, 4, 2, 1) if bits & width]


def _shifts(width: int, device: torch.device) -> Tensor:
    """[8 / width, 1]: where the codes of a byte begin."""
    return torch.arange(0, 8, width, dtype=torch.uint8, device=device).unsqueeze(-1)
