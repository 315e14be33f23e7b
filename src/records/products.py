"""The three matmuls of a Linear in a step of training, as layers.json tells of them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

FORWARD, GRAD_INPUT, GRAD_WEIGHT = "forward", "grad_input", "grad_weight"
Shape = tuple[int, int, int]  # M, K, N of a matmul: rows, what is summed over, columns
_FLOP = 2  # multiply and add


def products(m: int, k: int, n: int) -> dict[str, Shape]:
    """Of y[M, N] = x[M, K] W[N, K]ᵀ: y itself, dx[M, K] = dy[M, N] W[N, K], and dW[N, K] = dyᵀ[N, M] x[M, K]."""
    return {FORWARD: (m, k, n), GRAD_INPUT: (m, n, k), GRAD_WEIGHT: (n, m, k)}


def with_products(
    rows: Sequence[Mapping[str, Any]], wanted: Mapping[str, Collection[str]]
) -> list[dict[str, Any]]:
    """Rows of a layer table, each with its `products`: their M, K, N, and what share of all rows' FLOP they are.

    Args:
        rows: with fqn, M, K, N and calls.
        wanted: which of the products a step without a recipe computes, by layer; FORWARD alone where it is missing.
    """
    flop = {row["fqn"]: _FLOP * row["M"] * row["K"] * row["N"] * row["calls"] for row in rows}
    computed = {row["fqn"]: {FORWARD, *wanted.get(row["fqn"], ())} for row in rows}
    whole = sum(flop[fqn] * len(names) for fqn, names in computed.items())
    return [
        dict(row) | {"products": _told(row, computed[row["fqn"]], flop[row["fqn"]] / max(whole, 1))}
        for row in rows
    ]


def share_taken(rows: Sequence[Mapping[str, Any]]) -> float:
    """Of the FLOP of all products, the share that lies in layers with a scheme."""
    return float(sum(each["share"] for row in rows if row["scheme"] for each in row["products"].values()))


def _told(row: Mapping[str, Any], names: Collection[str], share: float) -> dict[str, dict[str, float]]:
    return {
        name: dict(zip("MKN", shape, strict=True)) | {"share": share}
        for name, shape in products(row["M"], row["K"], row["N"]).items()
        if name in names
    }
