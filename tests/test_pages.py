"""The pages of docs/ that teach: their commands and scripts run in the order of the page, in a
folder with small pictures and a small model, and print what the page shows. What needs a GPU, a
network or hours has at least verbs and flags that are there.

A page whose first line is `<!-- slow -->` runs with `pytest -m slow`.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import command_lines, documents, page_folder
from tests.unrun import UNRUN

DOCS = Path(__file__).parents[1] / "docs"
ALL = sorted(DOCS.glob("*.md"))
TEXTS = {path.stem: path.read_text() for path in (*ALL, DOCS.parent / "README.md")}
PAGES = (
    *("quickstart", "label-photos", "linear-probe", "train-own-pairs", "fine-tune"),
    *("compare-runs", "search-in-a-program", "ship-a-model", "choose-a-model", "tracking"),
    *("sharding", "eighteen-billion", "metrics", "files", "errors", "prepare-data"),
    *("from-clip_benchmark", "from-clip-retrieval", "from-transformers", "command-line", "python"),
    *("training", "data", "evaluation", "search", "heat-maps", "deployment", "distillation"),
    *("formats", "compat", "concepts", "classify", "doctor", "experiments", "big-models", "models"),
    *("masked-image-modelling", "declip", "unireplknet", "evaluation-sets", "gpus"),
    *("from-open_clip", "glossary"),
)
SLOW = "<!-- slow -->"
APART = ("app", "extending")
"""Pages that have tests of their own: below, and tests/test_extending.py."""
PARSED = [name for name in TEXTS if name != "extending"]
"""Pages whose commands are parsed. `extending` has objectives and towers of its own; all of it
runs."""


def marked(name: str):
    return pytest.param(name, marks=pytest.mark.slow if SLOW in TEXTS[name] else ())


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
    text = TEXTS[name]
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


@pytest.mark.slow
def test_the_page_of_the_app_opens_it_and_asks_it(folder):
    """`diptych app` runs until Ctrl-C; meanwhile the page's `curl` asks its API."""
    [embed, opened] = documents.steps(TEXTS["app"])
    [asking] = documents.unrun(TEXTS["app"])
    documents.execute(embed, folder)
    command = [sys.executable, "-m", "diptych", *opened.rest.split(), "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as app:
        assert app.stdout
        said = "".join(app.stdout.readline() for _ in opened.said)
        assert not documents.missing(opened, said), said
        address, _, token = said.split()[-1].partition("/?token=")
        asked = asking.replace("http://127.0.0.1:8765", address).replace("TOKEN", token)
        found = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
        app.send_signal(signal.SIGINT)
    assert app.returncode == 130
    assert len(json.loads(found.stdout)["hits"]) == 10, found.stdout


def test_a_page_runs_or_says_what_each_of_its_blocks_needs():
    for path in ALL:
        text = path.read_text()
        assert not documents.unnamed(text), path.name
        assert (path.stem in (*PAGES, *APART)) == bool(documents.steps(text)), path.name
        unrun = [block.partition("\n")[0] for block in documents.unrun(text)]
        known = UNRUN.get(path.stem, ())
        assert len(unrun) == len(known), f"{path.name}: tests/unrun.py has {known} for {unrun}"


@pytest.mark.skipif(not shutil.which("bash"), reason="bash isn't installed")
def test_scripts_for_a_shell_are_taken_by_it():
    blocks = (block for text in TEXTS.values() for block in documents.shell(text))
    done = subprocess.run(["bash", "-n"], input="\n".join(blocks), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_verbs_and_flags_of_all_pages_are_there():
    lost = {name: documents.unknown(TEXTS[name]) for name in PARSED}
    assert not {name: found for name, found in lost.items() if found}


def quick(name: str):
    """Pages for whom a wrong flag costs most: those of other programs' users and of clusters."""
    is_quick = name.startswith(("from-", "README")) or name in ("gpus", "slurm", "sharding")
    return pytest.param(name, marks=() if is_quick else pytest.mark.slow)


@pytest.mark.parametrize("name", [quick(name) for name in PARSED])
def test_commands_of_a_page_are_taken_by_the_command_line(name):
    lines = list(command_lines.commands(TEXTS[name]))
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
    for name in PARSED:
        for code in documents.scripts(TEXTS[name]):
            lost[name] = lost.get(name, []) + documents.lost_imports(code)
    assert not {name: found for name, found in lost.items() if found}


def test_messages_of_the_page_of_errors_are_in_the_code():
    """But for those of the shell."""
    source = "".join(path.read_text() for path in (DOCS.parent / "src").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    table = TEXTS["errors"].partition("| message |")[2].partition("\n## ")[0]
    messages = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
    assert len(messages) > 12
    for message in messages:
        if message.startswith("command not found"):
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
