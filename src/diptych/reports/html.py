"""One self-contained HTML page: style, pictures and charts are inside, nothing is fetched, no
script runs."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup, escape

from diptych.durable import write_file
from diptych.reports.sections import Section

_LONG = 5
"""Sections of a page from which on it has contents."""


def write(out: str | Path, title: str, sections: Sequence[Section], subtitle: str = "") -> Path:
    """Write the page and return where it is. All text is escaped; the file appears whole or not at
    all.

    >>> import tempfile
    >>> from diptych import reports
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sections = [reports.headline({"top-1": "91 %"})]
    ...     page = reports.write(f"{folder}/page.html", "Trial <1>", sections)
    ...     "Trial &lt;1&gt;" in page.read_text()
    True
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("diptych.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["breakable"] = _breakable
    named = [
        replace(section, anchor=section.anchor or f"part-{place}")
        for place, section in enumerate(sections, 1)
    ]
    contents = [section for section in named if section.title]
    text = templates.get_template("page.html.j2").render(
        title=title,
        subtitle=subtitle,
        sections=named,
        contents=contents if len(contents) >= _LONG else [],
    )
    # Names from outside may hold what no text can (half a surrogate pair): it is shown escaped.
    data = text.encode("utf-8", "backslashreplace")
    return write_file(Path(out), lambda path: path.write_bytes(data))


def _breakable(text: str) -> Markup:
    """With places where a line may end, so that paths and names wrap between their parts."""
    return Markup("").join(
        Markup("{}<wbr>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(re.split(r"([/_\\.-])(?=\w)", text))
    )
