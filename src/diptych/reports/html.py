"""One self-contained HTML page: style, pictures and charts are inside, nothing is fetched, no
script runs."""

import os
from collections.abc import Sequence
from pathlib import Path

from diptych.reports.sections import Section


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
    text = templates.get_template("page.html.j2").render(
        title=title, subtitle=subtitle, sections=sections
    )
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(out)
    return out
