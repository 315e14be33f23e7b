"""A figure as it is described before it is drawn: its traces, its axes, bands and lines over the whole plot.

The words are plotly's, whose own figures take ten times as long to make as to draw; but error bars are told by their
ends, an axis' title is a text, and there are no words that nothing draws.
"""

from typing import Any

Words = dict[str, Any]
Ends = tuple[float, float]


def _words(names: str, **inner: Words) -> Words:
    """Words that are drawn, each with those within it."""
    known: Words = {name: {} for name in names.split()}
    return known | inner


_LINE = _words("color width dash")
_ENDS = _words("low high color thickness")
_MARKER = _words("color size symbol", line=_words("color width"))
_SCATTER = _words(
    "x y mode name customdata hovertemplate text textposition fill fillcolor",
    line=_LINE,
    marker=_MARKER,
    error_x=_ENDS,
    error_y=_ENDS,
)
_BAR = _words("x y customdata hovertemplate", marker=_words("color"))
_AXIS = _words(
    "type range tickvals ticktext ticksuffix tickformat ticklabelposition title showgrid categoryarray"
)
_SHAPE = _words("fillcolor", line=_LINE)


class Figure:
    """What `drawing` draws; numbers may be given as arrays or columns, None is as if not given.

    Each of its methods raises a ValueError at a word that is not drawn.

    Args:
        height: px.
        legend: names the traces above the plot.
    """

    def __init__(self, height: int, *, legend: bool = False) -> None:
        self.height, self.legend = height, legend
        self.traces: list[Words] = []
        self.shapes: list[Words] = []
        self.xaxis: Words = {}
        self.yaxis: Words = {}

    def add_scatter(self, **words: Any) -> None:
        """Marks, lines between them, or both."""
        self.traces.append({"type": "scatter"} | _given(words, _SCATTER))

    def add_bar(self, **words: Any) -> None:
        """Horizontal bars, on top of those of the traces before."""
        self.traces.append({"type": "bar"} | _given(words, _BAR))

    def add_hline(self, y: float, **words: Any) -> None:
        """A line over the whole width."""
        self.add_shape(None, (y, y), **words)

    def add_vline(self, x: float, **words: Any) -> None:
        """A line over the whole height."""
        self.add_shape((x, x), None, **words)

    def add_shape(self, x: Ends | None, y: Ends | None, **words: Any) -> None:
        """A filled rectangle, or a line; without ends along an axis from end to end of the plot."""
        self.shapes.append({"x": x, "y": y} | _given(words, _SHAPE))

    def update_xaxes(self, **words: Any) -> None:
        """Add to what is said of the axis below."""
        self.xaxis |= _given(words, _AXIS)

    def update_yaxes(self, **words: Any) -> None:
        """Add to what is said of the axis on the left."""
        self.yaxis |= _given(words, _AXIS)


def _given(words: Words, known: Words) -> Words:
    """What is given, columns as lists.

    Raises:
        ValueError: a word that is not drawn.
    """
    if unknown := sorted(words.keys() - known.keys()):
        raise ValueError(f"{', '.join(unknown)}: drawn are {', '.join(known) or 'no words here'}")
    return {name: _plain(value, known[name]) for name, value in words.items() if value is not None}


def _plain(value: Any, known: Words) -> Any:
    if isinstance(value, dict):
        return _given(value, known)
    return value.tolist() if hasattr(value, "tolist") else value
