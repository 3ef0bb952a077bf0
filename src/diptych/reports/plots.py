"""Charts as SVG text that takes the page's own colours, so one drawing serves light and dark."""

import re
import warnings
from collections.abc import Mapping, Sequence
from hashlib import sha256
from io import StringIO
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from diptych.terminal import escaped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that matplotlib writes and the page's style variables that take their place.
_INK, _SOFT, _FAINT = "#070809", "#010203", "#040506"
_SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
_THEME = {_INK: "var(--ink)", _SOFT: "var(--soft)", _FAINT: "var(--line)"} | {
    c: f"var(--series-{i})" for i, c in enumerate(_SERIES)
}
_NAME = 28
"""Letters of a class's name on an axis."""
_REM = 6.0
"""What an inch of a drawing is on the page, whose letters then have its size."""
_STYLE: Any = {
    "text.parse_math": False,  # a $ in a name is a dollar
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
    guides: Mapping[str, Sequence[tuple[float | int, float | int]]] | None = None,
) -> Markup:
    """Named lines of (x, y) points with labelled axes; a legend where there are several. `guides`
    are dashed, and lie below: what chance gives, say.

    >>> from diptych.reports import plots
    >>> svg = plots.lines({"loss": [(1, 4.0), (2, 3.5)]}, x="step", y="loss")
    >>> svg.startswith("<svg"), "var(--series-0)" in svg
    (True, True)
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        guides = guides or {}
        height = 2.7 + 0.17 * max(0, len(series) + len(guides) - 3)
        figure = Figure(figsize=(4.6, height), layout="constrained")
        axes = figure.subplots()
        for name, points in guides.items():
            axes.plot(
                *zip(*points),
                label=escaped(name),
                color=_SOFT,
                linewidth=1.1,
                linestyle=(0, (4, 3)),
            )
        for index, (name, points) in enumerate(series.items()):
            colour = _SERIES[index % len(_SERIES)]
            marker = "o" if len(points) < 30 else None
            # A line at the edge of the scale is drawn in its whole width.
            axes.plot(
                *zip(*points),
                label=escaped(name),
                color=colour,
                linewidth=1.8,
                marker=marker,
                markersize=3,
                clip_on=limits is None,
            )
        axes.set(xlabel=x, ylabel=y)
        if limits:
            axes.set_ylim(*limits)
        if len(series) + len(guides) > 1:
            # Above the axes, so that it never covers a line; names of paths are long.
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1, borderaxespad=0.3)
        return _svg(figure, f"{y} over {x}")


def matrix(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Markup:
    """A heat map of counts for up to some twenty classes; each row is shaded by its share, so
    classes of any size compare.

    >>> from diptych.reports import plots
    >>> "cat" in plots.matrix([[9, 1], [2, 8]], ["cat", "dog"])
    True
    """
    import numpy as np
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = [escaped(name) for name in names]
    table = np.asarray(counts)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    with rc_context(_STYLE | {"axes.grid": False}):
        # The longest name stands beside the matrix and, turned, below it.
        side = 0.9 + 0.07 * min(_NAME, max(map(len, names))) + 0.36 * len(names)
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
            axes.text(column, row, str(table[row, column]), ha="center", va="center", fontsize=8)
        axes.set(
            xlim=(-0.5, len(names) - 0.5),
            ylim=(len(names) - 0.5, -0.5),
            xlabel="predicted",
            ylabel="true",
        )
        short = [name if len(name) <= _NAME else f"{name[: _NAME - 1]}…" for name in names]
        axes.set_xticks(range(len(names)), short, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), short)
        return _svg(figure, "confusion matrix")


def _svg(figure: "Figure", label: str) -> Markup:
    stream = StringIO()
    metadata = {"Date": None, "Creator": None}
    with warnings.catch_warnings():
        # Where names leave no room for the axes, matplotlib draws them anyway, and says so.
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        figure.savefig(stream, format="svg", transparent=True, metadata=metadata)
    text = stream.getvalue()
    text = re.sub("<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for colour, variable in _THEME.items():
        text = text.replace(colour, variable)
    # As wide as it was drawn, or as the page has room for. Several drawings share the page, so each
    # identifier carries its drawing's label and a digest of what is drawn.
    width = figure.get_figwidth() * _REM
    about = f'style="width: {width:.1f}rem" role="img" aria-label="{escape(label)}"'
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]+")[^>]*>',
        lambda found: f"<svg {found[1]} {about}>",
        text,
        count=1,
    )
    mark = f"{re.sub(r'[^0-9A-Za-z]+', '-', label)}-{sha256(text.encode()).hexdigest()[:8]}"
    text = re.sub(r'id="([^"]+)"', rf'id="{mark}-\1"', text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{mark}-', text)
    text = text.replace("url(#", f"url(#{mark}-")
    return Markup(text)
