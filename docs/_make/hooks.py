"""What mkdocs.yml's site has beside the pages of docs/: references made of the code, the pictures,
and the files of the repository that pages lead to."""

import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from mkdocs.structure.files import File, Files  # noqa: E402

from docs._make import command_line, python_reference  # noqa: E402

_LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)(#[^)\s]*)?(\))")
_CODE = re.compile(r"<pre.*?</pre>|<code>(.*?)</code>", re.DOTALL)
_FLAG = re.compile(r"(?<![\w-])--[a-z][\w.-]*")
_SHORT = 24
"""Letters of a name that fit into a line of a phone's table."""
_SHOWN = {".py": "python", ".toml": "toml", ".yml": "yaml", "": "make"}
"""Ending of a file -> its language."""


def on_config(config: Any) -> Any:
    """The generated pages stand below the pages that introduce them."""
    for section in config.nav:
        for entries in section.values():
            if isinstance(entries, list):
                for place, entry in enumerate(entries):
                    entries[place] = _with_generated(entry)
    return config


def _with_generated(entry: dict[str, str]) -> dict[str, Any]:
    (title, page), *_ = entry.items()
    made = {"command-line.md": command_line, "python.md": python_reference}.get(page)
    if made is None:
        return entry
    below = [{name: made.page_of(name)} for name in made.names()]
    return {title: [page, *below]}


def on_files(files: Files, config: Any) -> Files:
    """Pages that no file in docs/ holds."""
    for made in (command_line, python_reference):
        for name in made.names():
            files.append(File.generated(config, made.page_of(name), content=made.text_of(name)))
    for path in sorted(_linked()):
        files.append(_page_of(path, config))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of docs/, which a code host follows, lead to the file's page in the site."""
    here = PurePosixPath(page.file.src_uri).parent

    def moved(found: re.Match[str]) -> str:
        path = _path_in_repository(found[2])
        place = os.path.relpath(_place_of(path), here) if path else found[2]
        return f"{found[1]}{place}{found[3] or ''}{found[4]}"

    return _LINK.sub(moved, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """No line breaks within a flag or a short name: browsers break behind dashes, and anywhere in a
    narrow cell of a table."""

    def whole(found: re.Match[str]) -> str:
        if not found[1]:
            return found[0]
        if len(found[1]) <= _SHORT and " " not in found[1]:
            return f'<code class="flag">{found[1]}</code>'
        words = _FLAG.sub(r'<span class="flag">\g<0></span>', found[1])
        return f"<code>{words}</code>"

    return _CODE.sub(whole, html)


def _linked() -> set[str]:
    """Paths in the repository, outside of docs/, that pages lead to."""
    found = set[str]()
    for page in (ROOT / "docs").glob("*.md"):
        for link in _LINK.finditer(page.read_text()):
            if path := _path_in_repository(link[2]):
                found.add(path)
    return found


def _path_in_repository(link: str) -> str:
    """Of a link of a page in docs/; empty for one that leads nowhere."""
    path = (ROOT / "docs" / link).resolve()
    inside = path.is_file() and path.is_relative_to(ROOT)
    return path.relative_to(ROOT).as_posix() if inside else ""


def _place_of(path: str) -> str:
    return f"repository/{path.removesuffix('.md')}.md"


def _page_of(path: str, config: Any) -> File:
    text = (ROOT / path).read_text()
    if path.endswith(".md"):
        # Links of a page at the root begin there: docs/x.md is x.md of the site.
        text = text.replace("](docs/", "](../")
    else:
        text = f"# {path}\n\n````{_SHOWN[Path(path).suffix]}\n{text}\n````\n"
    page = File.generated(config, _place_of(path), content=text)
    page.inclusion = page.inclusion.NOT_IN_NAV
    return page
