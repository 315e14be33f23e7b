"""Named dimensions: small arithmetic in YAML, without eval."""

import ast
import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from src.config.errors import ConfigError

_SIZES = ("resolution", "frames")  # the axes whose sizes a patch or a VAE must divide
_FAR = 512  # from a size: nearer ones are proposed


class _RemainderError(ArithmeticError):
    """A division that must leave no remainder leaves one."""


def _exactly(dividend: int, divisor: int) -> int:
    """``a / b``, for sides that a patch or a VAE must divide.

    Raises:
        _RemainderError: there is a remainder; the message names the next ones without.
    """
    below, remainder = divmod(dividend, divisor)
    if remainder:
        there = " and ".join(str(each * divisor) for each in (below, below + 1) if each)
        raise _RemainderError(f"{dividend} is no multiple of {divisor}; next to it: {there}")
    return below


_OPERATORS: dict[type[ast.AST], Callable[..., int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _exactly,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
}


def evaluate(expression: Any, dims: Mapping[str, int], where: str) -> int:
    """Evaluate an integer or an expression of named dimensions (``+ - * / // %`` and brackets).

    Raises:
        ConfigError: an unknown name, another kind of expression, a division by zero, or one by ``/`` that leaves a
            remainder; `where` names the key.
    """
    if isinstance(expression, int):
        return expression
    try:
        return _evaluate(_parsed(str(expression).strip()), dims)
    except KeyError as error:
        names = ", ".join(sorted(dims))
        raise ConfigError(f"{where}={expression}: no dimension {error}; accepted: {names}") from error
    except _RemainderError as error:
        raise ConfigError(f"{where}={expression}: {error}") from error
    except (SyntaxError, TypeError, ValueError, ZeroDivisionError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{where}={expression}: not integers, names and + - * / // % ({error})") from error


def resolve(dims: Mapping[str, Any], axes: Mapping[str, int], where: str) -> dict[str, int]:
    """Evaluate dimensions in order; each may use the axes and the dimensions before it.

    Raises:
        ConfigError: as `evaluate`, or a dimension below 1; of a division that leaves a remainder the message says
            which sizes of an axis are the next ones without.
    """
    try:
        return in_order(dims, axes, where)
    except ConfigError as error:
        if not isinstance(error.__cause__, _RemainderError):
            raise
        given = ", ".join(f"{axis}={axes[axis]}" for axis in _SIZES if axis in axes)
        fit = " or ".join(_fitting(dims, axes, where))
        raise ConfigError(f"{error} (with {given}{f'; {fit} would do' if fit else ''})") from error


def in_order(dims: Mapping[str, Any], axes: Mapping[str, int], where: str) -> dict[str, int]:
    """As `resolve`, with an error that looks for no sizes that would do: looking takes a hundred times as long."""
    known = dict(axes)
    for name, expression in dims.items():
        value = evaluate(expression, known, f"{where}.{name}")
        if value < 1:
            given = ", ".join(f"{axis}={size}" for axis, size in axes.items())
            raise ConfigError(
                f"{where}.{name}={expression}: gives {value} with {given}; a dimension is at least 1"
            )
        known[name] = value
    return known


def _fitting(dims: Mapping[str, Any], axes: Mapping[str, int], where: str) -> Iterator[str]:
    """The nearest sizes, below and above, of the one axis by which the dimensions come out."""
    for axis in _SIZES:
        size = axes.get(axis, 0)
        for ways in (range(size - 1, max(0, size - _FAR), -1), range(size + 1, size + _FAR)) if size else ():
            for other in ways:
                try:
                    in_order(dims, {**axes, axis: other}, where)
                except ConfigError:
                    continue
                yield f"{axis}={other}"
                break


def resolved(value: Any, dims: Mapping[str, int], where: str) -> Any:
    """Arguments of a call, to any depth: a text is an expression, or text in quotes of its own (``"'bilinear'"``).

    Raises:
        ConfigError: as `evaluate`; `where` and what is below it name the key.
    """
    if isinstance(value, Mapping):
        return {name: resolved(each, dims, f"{where}.{name}") for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolved(each, dims, f"{where}[{index}]") for index, each in enumerate(value)]
    if not isinstance(value, str) or not value:
        return value
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    try:
        return evaluate(value, dims, where)
    except ConfigError as error:
        raise ConfigError(f"{error}; a text is quoted twice: \"'{value}'\"") from error


def shape_of(sides: Sequence[Any], dims: Mapping[str, int], where: str) -> list[int]:
    """The shape of a tensor, its sides expressions of named dimensions.

    Raises:
        ConfigError: as `evaluate`, or a side below 1.
    """
    shape = [evaluate(side, dims, where) for side in sides]
    if min(shape, default=1) < 1:
        raise ConfigError(f"{where}={[*sides]}: gives {shape}; a dimension is at least 1")
    return shape


def count_of(count: Any, dims: Mapping[str, int], where: str) -> int:
    """How many tensors a list has.

    Raises:
        ConfigError: as `evaluate`, or below 1.
    """
    number = evaluate(count, dims, where)
    if number < 1:
        raise ConfigError(f"{where}={count}: gives {number}; a list has at least 1 tensor")
    return number


@functools.lru_cache(maxsize=1000)
def _parsed(expression: str) -> ast.expr:
    """Read once: which sizes would do is asked of hundreds, of the same expressions."""
    return ast.parse(expression, mode="eval").body


def _evaluate(node: ast.AST, dims: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name):
        return dims[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_evaluate(node.left, dims), _evaluate(node.right, dims))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_evaluate(node.operand, dims))
    raise TypeError(f"{type(node).__name__} is not allowed")
