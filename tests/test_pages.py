"""The pages of docs/ that teach: their commands and scripts run in the order of the page, in a
folder with small pictures and a small model, and print what the page shows. What needs a GPU, a
network or hours has at least verbs and flags that are there.

A page whose first line is `<!-- slow -->` runs with `pytest -m slow`.
"""

import re
import shutil
from pathlib import Path

import pytest

from tests import command_lines, documents, page_folder

DOCS = Path(__file__).parents[1] / "docs"
PAGES = (
    *("quickstart", "label-photos", "linear-probe", "train-own-pairs", "fine-tune"),
    *("compare-runs", "search-in-a-program", "ship-a-model", "choose-a-model", "tracking"),
    *("sharding", "eighteen-billion", "metrics", "files", "errors", "prepare-data"),
    *("from-clip_benchmark", "from-clip-retrieval", "from-transformers", "command-line", "python"),
    *("training", "data", "evaluation", "search", "heat-maps", "deployment", "distillation"),
    *("formats", "compat", "concepts", "classify"),
)
SLOW = "<!-- slow -->"


def text_of(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def marked(name: str):
    return pytest.param(name, marks=pytest.mark.slow if SLOW in text_of(name) else ())


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pages")
    page_folder.prepare(root)
    return root


@pytest.fixture
def folder(prepared, tmp_path) -> Path:
    """A copy for one page."""
    return Path(shutil.copytree(prepared, tmp_path / "page", copy_function=link))


def link(source: str, place: str) -> str:
    """Pictures and weights aren't copied: no page changes one in its place."""
    Path(place).hardlink_to(source)
    return place


@pytest.mark.parametrize("name", [marked(name) for name in PAGES])
def test_a_page_does_what_it_shows(name, folder, request):
    text = text_of(name)
    for title, content in documents.files(text).items():
        (folder / title).parent.mkdir(parents=True, exist_ok=True)
        (folder / title).write_text(content)
    steps = documents.steps(text)
    assert steps
    lost = list[str]()
    for step in steps:
        printed = documents.execute(step, folder, code=documents.code_of(step))
        missing = documents.missing(step, printed)
        lost += [f"$ {step.program} {step.rest}: {line!r} in\n{printed}" for line in missing]
    assert not lost, "\n".join(lost)


def test_verbs_and_flags_of_all_pages_are_there():
    """Of docs/extending.md all runs: it has objectives and towers of its own."""
    pages = {*DOCS.glob("*.md")} - {DOCS / "extending.md"}
    lost = {path.name: documents.unknown(path.read_text()) for path in pages}
    assert not {name: found for name, found in lost.items() if found}


def quick(path: Path):
    """Pages for whom a wrong flag costs most: those of other programs' users and of clusters."""
    is_quick = path.stem.startswith("from-") or path.stem in ("gpus", "slurm", "sharding")
    return pytest.param(path, marks=() if is_quick else pytest.mark.slow, id=path.stem)


@pytest.mark.parametrize("path", [quick(path) for path in sorted(DOCS.glob("*.md"))])
def test_commands_of_a_page_are_taken_by_the_command_line(path):
    if path.stem == "extending":
        pytest.skip("all of it runs")
    lines = list(command_lines.commands(path.read_text()))
    refused = {" ".join(line): command_lines.refused(list(line)) for line in lines}
    assert not {line: said for line, said in refused.items() if said}


def test_a_command_that_would_be_refused_is_noticed():
    page = "```bash\ntorchrun -m diptych train tiny-digit --steps N\ndiptych train tiny-digits \\\n"
    page += "  --steps x\ndiptych search i cat --top 3.5\ndiptych train --resume RUN --steps 9\n```"
    said = [command_lines.refused(line) for line in command_lines.commands(page)]
    assert "no recipe is called" in said[0]
    assert [bool(each) for each in said] == [True, True, True, False]


@pytest.mark.slow
def test_imports_of_all_pages_are_there():
    lost = dict[str, list[str]]()
    for path in {*DOCS.glob("*.md")} - {DOCS / "extending.md"}:
        for code in documents.scripts(path.read_text()):
            lost[path.name] = lost.get(path.name, []) + documents.lost_imports(code)
    assert not {name: found for name, found in lost.items() if found}


def test_messages_of_the_page_of_errors_are_in_the_code():
    """But for those of the shell and of tyro."""
    source = "".join(path.read_text() for path in (DOCS.parent / "src").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    table = text_of("errors").partition("| message |")[2].partition("\n## ")[0]
    messages = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
    assert len(messages) > 12
    for message in messages:
        if message.startswith(("command not found", "Unrecognized")):
            continue
        for part in message.split("..."):
            assert part.strip(" :,") in source, message


def test_what_a_page_lacks_is_noticed():
    page = "```console\n$ diptych search x --tpo 3\n$ diptych serch x\n```\n"
    page += "```bash\ntorchrun -m diptych train tiny-digits --optim.lr 1 --optim.rl 2\n```\n"
    assert documents.unknown(page) == ["search --tpo", "serch", "train --optim.rl"]
    [first, _] = documents.steps(page)
    step = first._replace(said=["top1 37.50%", "step 10 ... 3/s", "..."])
    assert documents.missing(step, "  top1   21.9%\nstep 12 and so on 400/s") == []
    assert documents.missing(step, "top5 21.9%") == ["top1 37.50%", "step 10 ... 3/s"]
    code = "from diptych.search import Index, Indx\nfrom diptych import reports"
    assert documents.lost_imports(code) == ["diptych.search.Indx"]
