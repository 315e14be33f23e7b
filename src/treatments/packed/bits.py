"""Codes of 1 to 8 bits stored in exactly as many, in ops that torch.compile fuses into what reads them.

The N rows are padded to a multiple of 8. The k bits of the codes are cut into fields of 8, 4, 2 and 1 bits
(7 = 4 + 2 + 1), and each field has a section of its own: a field of w bits has w N / 8 rows of bytes, in which a byte
holds 8 / w codes of the same column, w N / 8 rows apart:

    k = 3, N = 16    section of 4 rows: bits 0-1 of the rows i, i + 4, i + 8, i + 12 in row i
                     section of 2 rows: bit 2 of the rows i, i + 2, ..., i + 14 in row i

So a code is read from at most three bytes, the codes of a row lie side by side as they do in the matrix, and the
shift depends on the row alone: inductor's loops over a row have neither divisions nor gathers, and are vectorized on
a CPU (4 million weights of 3 bits: 0.8 ms on one core). Packing along a row is as small, but the shift changes within
it (14 ms); a plain bit stream has codes that straddle bytes, and bit planes take k loads for a code.
"""

from functools import reduce

import torch
from torch import Tensor, nn


def packed_rows(rows: int, bits: int) -> int:
    """Rows of bytes that hold `rows` rows of codes."""
    return bits * -(-rows // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Store codes.

    Args:
        codes: [N, K], uint8, each below 2**bits.
        bits: 1 to 8.

    Returns:
        [packed_rows(N, bits), K], uint8.
    """
    eighth = -(-codes.shape[0] // 8)
    codes = nn.functional.pad(codes, (0, 0, 0, 8 * eighth - codes.shape[0]))
    sections, low = [], 0
    for width in _fields(bits):
        field = (codes >> low) & (2**width - 1)
        shifted = field.unflatten(0, (8 // width, width * eighth)) << _shifts(width, codes.device)
        sections.append(shifted.sum(0, dtype=torch.uint8))
        low += width
    return torch.cat(sections)


def unpack(packed: Tensor, bits: int, rows: int) -> Tensor:
    """Read codes back.

    Args:
        packed: [packed_rows(rows, bits), K], uint8.
        bits: 1 to 8.
        rows: N, without the padding.

    Returns:
        [N, K], uint8.
    """
    eighth = packed.shape[0] // bits
    widths = _fields(bits)
    fields, low = [], 0
    for width, section in zip(widths, packed.split([w * eighth for w in widths]), strict=True):
        field = (section >> _shifts(width, packed.device)) & (2**width - 1)
        fields.append(field.flatten(0, 1) << low)
        low += width
    codes: Tensor = reduce(torch.bitwise_or, fields)
    return codes[:rows]


def _fields(bits: int) -> list[int]:
    return [width for width in (8, 4, 2, 1) if bits & width]


def _shifts(width: int, device: torch.device) -> Tensor:
    """[8 / width, 1, 1]: where the codes of a byte begin."""
    return torch.arange(0, 8, width, dtype=torch.uint8, device=device).view(-1, 1, 1)
