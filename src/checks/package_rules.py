"""What is wrong with a compile mode that makes packages, before one is built."""

from collections.abc import Iterator, Mapping
from typing import Any

from src.config.errors import accepted
from src.config.schema.root import CalibrateConf, CompileConf, RootConf, sizes

_AS = "give {batch: [1, 4]}, a least and a most"


def package_mistakes(root: RootConf) -> Iterator[str]:
    """One line for each mistake in ``compile.package`` and ``compile.dynamic_shapes``."""
    conf, ranges = root.compile, root.compile.dynamic_shapes
    yield from _compiles(conf)
    if ranges and not conf.package:
        yield f"compile.dynamic_shapes={ranges}: only packages have them; give compile=aot"
        return
    known: dict[str, Any] = sizes(root) | root.model.dims
    if not root.resolution:
        known.pop("resolution", None)
    for name, given in ranges.items():
        if name not in known:
            has = accepted(name, [*known])
            yield f"compile.dynamic_shapes.{name}: no axis or dimension of {root.model.name}; {has}"
        elif not _is_range(given):
            yield f"compile.dynamic_shapes.{name}={given}: no range; {_AS}"
        else:
            yield from _inside(name, given, known)


def calibration_mistakes(conf: CalibrateConf) -> Iterator[str]:
    """Calibrating compiles in place."""
    if conf.compile.package:
        yield f"compile={conf.compile.name}: makes packages, which calibrating does not; give compile=default"


def _compiles(conf: CompileConf) -> Iterator[str]:
    if conf.package and conf.scope == "none":
        yield "compile.package=true: compile.scope=none compiles nothing; give module, or regional"
    if conf.package and conf.backend != "inductor":
        yield f"compile.backend={conf.backend}: packages are inductor's (AOTInductor); give compile.backend=inductor"


def _inside(name: str, given: list[int], known: Mapping[str, Any]) -> Iterator[str]:
    value = known[name]
    if isinstance(value, int) and not given[0] <= value <= given[1]:
        yield f"compile.dynamic_shapes.{name}={given}: this run's {name} is {value}, which is not inside"


def _is_range(given: Any) -> bool:
    return (
        isinstance(given, list)
        and len(given) == 2
        and all(isinstance(size, int) and not isinstance(size, bool) for size in given)
        and 1 <= given[0] < given[1]
    )
