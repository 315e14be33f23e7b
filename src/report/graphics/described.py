"""A figure as it is described before it is drawn: its traces, its axes, bands and lines over the whole plot.

The words are plotly's, whose own figures check every word and take ten times as long to make as to draw.
"""

from typing import Any

Words = dict[str, Any]


class Figure:
    """What `drawing` draws; numbers may be given as arrays or columns, None is as if not given."""

    def __init__(self) -> None:
        self.traces: list[Words] = []
        self.layout: Words = {}

    def add_scatter(self, **words: Any) -> None:
        """Marks, lines between them, or both."""
        self.traces.append({"type": "scatter"} | _given(words))

    def add_bar(self, **words: Any) -> None:
        """Horizontal bars."""
        self.traces.append({"type": "bar"} | _given(words))

    def add_hline(self, y: float, **words: Any) -> None:
        """A line over the whole width."""
        self._add_shape("line", "x", y, y, words)

    def add_vline(self, x: float, **words: Any) -> None:
        """A line over the whole height."""
        self._add_shape("line", "y", x, x, words)

    def add_hrect(self, y0: float, y1: float, **words: Any) -> None:
        """A band over the whole width."""
        self._add_shape("rect", "x", y0, y1, words)

    def add_vrect(self, x0: float, x1: float, **words: Any) -> None:
        """A band over the whole height."""
        self._add_shape("rect", "y", x0, x1, words)

    def update_layout(self, **words: Any) -> None:
        """Add to what is said of the whole."""
        self.layout = _over(self.layout, _given(words))

    def update_xaxes(self, words: Words | None = None, **more: Any) -> None:
        """Add to what is said of the axis below."""
        self.update_layout(xaxis={**(words or {}), **more})

    def update_yaxes(self, words: Words | None = None, **more: Any) -> None:
        """Add to what is said of the axis on the left."""
        self.update_layout(yaxis={**(words or {}), **more})

    def _add_shape(self, kind: str, along: str, first: float, last: float, words: Words) -> None:
        """One from end to end along an axis, and from first to last on the other."""
        across = "y" if along == "x" else "x"
        place = {f"{along}0": 0, f"{along}1": 1, f"{along}ref": f"{along} domain"}
        place |= {f"{across}0": first, f"{across}1": last, f"{across}ref": across}
        self.layout.setdefault("shapes", []).append({"type": kind} | place | _given(words))


def _given(words: Words) -> Words:
    """What is given, columns as lists."""
    return {name: _plain(value) for name, value in words.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return _given(value)
    return value.tolist() if hasattr(value, "tolist") else value


def _over(before: Words, words: Words) -> Words:
    """What was said, with this over it; parts are told part by part."""
    merged = dict(before)
    for name, value in words.items():
        known = merged.get(name)
        merged[name] = _over(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged
