"""One self-contained HTML page: style, pictures and charts are inside, nothing is fetched, no
script runs."""

from collections.abc import Sequence
from pathlib import Path

from diptych.durable import write_file
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
    return write_file(Path(out), lambda path: path.write_text(text, encoding="utf-8"))
