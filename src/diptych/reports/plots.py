"""Charts as SVG text that takes the page's own colours, so one drawing serves light and dark."""

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that matplotlib writes and the page's style variables that take their place.
_INK, _SOFT, _FAINT = "#070809", "#010203", "#040506"
_SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
_THEME = {_INK: "var(--ink)", _SOFT: "var(--soft)", _FAINT: "var(--line)"} | {
    c: f"var(--series-{i})" for i, c in enumerate(_SERIES)
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "diptych",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "text.color": _INK,
    "legend.frameon": False,
}


def lines(
    series: Mapping[str, Sequence[tuple[float | int, float | int]]],
    x: str,
    y: str,
    limits: tuple[float, float] | None = None,
) -> Markup:
    """Named lines of (x, y) points with labelled axes; a legend where there are several.

    >>> from diptych.reports import plots
    >>> svg = plots.lines({"loss": [(1, 4.0), (2, 3.5)]}, x="step", y="loss")
    >>> svg.startswith("<svg"), "var(--series-0)" in svg
    (True, True)
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 2.7), layout="constrained")
        axes = figure.subplots()
        for index, (name, points) in enumerate(series.items()):
            colour = _SERIES[index % len(_SERIES)]
            marker = "o" if len(points) < 30 else None
            axes.plot(
                *zip(*points), label=name, color=colour, linewidth=1.8, marker=marker, markersize=3
            )
        axes.set(xlabel=x, ylabel=y)
        if limits:
            axes.set_ylim(*limits)
        if len(series) > 1:
            axes.legend()
        return _svg(figure, f"{y} over {x}")


def matrix(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Markup:
    """A heat map of counts; each row is shaded by its share, so classes of any size compare.

    >>> from diptych.reports import plots
    >>> "cat" in plots.matrix([[9, 1], [2, 8]], ["cat", "dog"])
    True
    """
    import numpy as np
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    table = np.asarray(counts)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    many = len(names) > 20
    with rc_context(_STYLE | {"axes.grid": False}):
        side = 4.6 if many else 1.6 + 0.32 * len(names)
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        for (row, column), share in np.ndenumerate(shares):
            if share == 0:
                continue
            axes.fill_between(
                [column - 0.5, column + 0.5],
                row - 0.5,
                row + 0.5,
                color=_SERIES[0],
                alpha=0.12 + 0.6 * share,
                linewidth=0,
            )
            if not many:
                axes.text(
                    column, row, str(table[row, column]), ha="center", va="center", fontsize=8
                )
        axes.set(
            xlim=(-0.5, len(names) - 0.5),
            ylim=(len(names) - 0.5, -0.5),
            xlabel="predicted",
            ylabel="true",
        )
        if not many:
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
            axes.set_yticks(range(len(names)), names)
        return _svg(figure, "confusion matrix")


def _svg(figure: "Figure", label: str) -> Markup:
    stream = StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = re.sub("<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for colour, variable in _THEME.items():
        text = text.replace(colour, variable)
    # The page decides about the size; several drawings share it, so each identifier carries its
    # drawing's label.
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        rf'<svg viewBox="\1" role="img" aria-label="{label}">',
        text,
        count=1,
    )
    mark = re.sub(r"\W+", "-", label)
    text = re.sub(r'id="([^"]+)"', rf'id="{mark}-\1"', text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{mark}-', text)
    text = text.replace("url(#", f"url(#{mark}-")
    return Markup(text)
