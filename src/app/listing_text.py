"""How `--list` looks: schemes by what becomes of them, a reason once for all that share it, in a terminal's width."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile

_INDENT = "  "
_LEAST_WIDTH = 60
_FAMILY = re.compile(r"(?P<head>fp|uint)(?P<bits>\d)(?:_(?P<end>e\dm\d)|wo)")
_HEADS = ("scheme", "bits", "saves as", "compile", "layers")


@dataclass(frozen=True)
class Listed:
    """One scheme: its columns, and where it stands."""

    name: str
    bits: str
    saves: str
    compiles: str
    layers: str
    group: str  # a heading
    reason: str = ""  # why not, without the scheme's name
    remedy: str = ""
    note: str = ""  # a sentence of its own, below its group

    @property
    def columns(self) -> tuple[str, str, str, str, str]:
        """In the order of the heads."""
        return self.name, self.bits, self.saves, self.compiles, self.layers


def listing(title: str, rows: Sequence[Listed], groups: Sequence[str], width: int) -> str:
    """The whole list.

    Args:
        title: the device, and for what it is asked.
        groups: the headings, in order; one without schemes is left out.
        width: columns.
    """
    width = max(width, _LEAST_WIDTH)
    lines = [*textwrap.wrap(title, width)]
    sizes = [
        max([len(head), *(len(row.columns[i]) for row in _joined(rows))])
        for i, head in enumerate(_HEADS[:-1])
    ]
    for group in groups:
        members = [row for row in rows if row.group == group]
        if members:
            shared = _shared([row.reason for row in members])
            rest = [replace(row, reason=row.reason.removeprefix(shared)) for row in members]
            told = f": {shared.removeprefix('needs ').removesuffix(', ')}" if shared else ""
            lines += ["", f"{group} ({len(members)}){told}"]
            lines += _group(rest, sizes, width)
    return "\n".join(line.rstrip() for line in lines)


def _shared(reasons: Sequence[str]) -> str:
    """The clauses that all of several reasons begin with, something left of each: ``needs a cuda device, ``."""
    clauses = [reason.split(", ") for reason in dict.fromkeys(reasons)]
    if len(clauses) < 2:
        return ""
    alike = takewhile(lambda each: len(set(each)) == 1, zip(*(each[:-1] for each in clauses), strict=False))
    return "".join(f"{first}, " for first, *_ in alike)


def _group(members: Sequence[Listed], sizes: Sequence[int], width: int) -> Iterator[str]:
    """Rows below each reason that they share; the heads where there is none."""
    reasons = list(dict.fromkeys((row.reason, row.remedy) for row in members))
    if reasons == [("", "")]:
        yield from _line(_HEADS, sizes, width, _INDENT)
    for reason, remedy in reasons:
        own = [row for row in members if (row.reason, row.remedy) == (reason, remedy)]
        told = f"{reason} → {remedy}" if remedy else reason
        if reason and len(own) == 1 and not any(own[0].columns[1:]):
            yield from _wrapped(f"{own[0].name}: {told}", width)
            continue
        yield from _wrapped(told, width)
        for row in _joined(own):
            yield from _line(row.columns, sizes, width, _INDENT * (2 if reason else 1))
    notes: dict[str, list[str]] = {}
    for row in members:
        notes.setdefault(row.note, []).append(row.name)
    for note, names in notes.items():
        yield from _wrapped(f"{', '.join(names)}: {note}", width) if note else ()


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=_INDENT, subsequent_indent=2 * _INDENT, break_on_hyphens=False
    )


def _joined(rows: Iterable[Listed]) -> Iterator[Listed]:
    """Formats that differ in numbers of their names only as one row: ``fp3_* to fp8_*``, ``uint*wo``."""

    def alike(row: Listed) -> tuple[str, ...]:
        match = _FAMILY.fullmatch(row.name)
        bits = row.bits.removeprefix(match["bits"]) if match else row.bits
        return (match["head"] if match else row.name, bits, *row.columns[2:])

    for _, group in groupby(rows, alike):
        members = list(group)
        yield members[0] if len(members) == 1 else _as_one(members)


def _as_one(members: Sequence[Listed]) -> Listed:
    found = [match for row in members if (match := _FAMILY.fullmatch(row.name))]
    widths = list(dict.fromkeys(match["bits"] for match in found))
    ends = sorted(match["end"] for match in found) if found[0]["end"] else widths
    layers = "; ".join(filter(None, [members[0].layers, f"* {ends[0]} to {ends[-1]}"]))
    if not found[0]["end"]:
        bits = f"*{members[0].bits.removeprefix(widths[0])}"
        return replace(members[0], name=f"{found[0]['head']}*wo", bits=bits, layers=layers)
    names = dict.fromkeys(f"{found[0]['head']}{width}_*" for width in (widths[0], widths[-1]))
    bits = " to ".join(dict.fromkeys((members[0].bits, members[-1].bits)))
    return replace(members[0], name=" to ".join(names), bits=bits, layers=layers)


def _line(columns: Sequence[str], sizes: Sequence[int], width: int, indent: str) -> Iterator[str]:
    """One row; its last column goes on below itself."""
    head = indent + "".join(f"{text:{size}}  " for text, size in zip(columns, sizes, strict=False))
    room = max(width - len(head), 16)
    for i, part in enumerate(textwrap.wrap(columns[-1], room) or [""]):
        yield (head if i == 0 else " " * len(head)) + part
