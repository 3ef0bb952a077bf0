"""Pages in a real browser, where Chromium is installed: 1280 and 390 pixels wide."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest
from PIL import Image

from diptych import reports
from diptych.evaluation import Result
from diptych.reports import Cell

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"),
)
MEASURE = """<script>
for (const folded of document.querySelectorAll("details")) folded.open = true;
const broken = [...document.querySelectorAll("td:not(.words), .headline b")].filter(cell => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return new Set([...range.getClientRects()].map(box => Math.round(box.top / 4))).size > 1;
});
const root = document.documentElement, tables = [...document.querySelectorAll(".scroll")];
const found = {
  width: window.innerWidth,
  overflow: root.scrollWidth - window.innerWidth,
  broken: broken.map(cell => cell.textContent),
  unnamed: [...document.images].filter(image => !image.alt).length,
  figures: document.querySelectorAll("td:not(.words)").length,
  scrolling: tables.filter(table => table.scrollWidth > table.clientWidth).length,
  right: [...document.querySelectorAll("td:not(.words)")].every(
    cell => getComputedStyle(cell).textAlign == "right"),
  lost: [...document.querySelectorAll('a[href^="#"]')].filter(
    link => !document.getElementById(link.getAttribute("href").slice(1))).length,
};
parent.postMessage(JSON.stringify(found), "*");
</script>"""
FRAME = """<!doctype html><body><iframe src="{page}" width="{width}" height="2000"></iframe><script>
addEventListener("message", message => { document.body.dataset.found = message.data; });
</script></body>"""
"""A window can't be as narrow as a phone, but a frame can."""


def measured(page, width: int, profile) -> dict:
    """What the browser makes of a page, all of it unfolded."""
    probe, frame = page.with_name("probe.html"), page.with_name("frame.html")
    probe.write_text(page.read_text().replace("</body>", MEASURE + "</body>"))
    frame.write_text(FRAME.replace("{page}", probe.name).replace("{width}", str(width)))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--window-size=1400,2000"]
    command += ["--virtual-time-budget=5000", "--dump-dom", frame.as_uri()]
    out = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(unescape(re.search(r'data-found="([^"]*)"', out)[1]))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What is hard to lay out: long names and figures, many columns, a picture that is gone."""
    results = []
    for name in ("runs/a_run_with_a_long_name/seed0", "runs/b/seed0"):
        for data in ("a/test", "b/test", *(f"another-dataset-{i}" for i in range(8))):
            results.append(
                Result(
                    task="zero-shot",
                    metrics={"top1": 1.0, "top5": 1.0, "mean_per_class": 0.475},
                    intervals={"top1": [0.912, 1.0], "mean_per_class": [0.327, 0.623]},
                    protocol={"metric": "top1", "resize": "crop", "profile": "clip-benchmark"},
                    data={"name": data, "remarks": ["36 samples instead of 50,000"], "used": 8},
                    model={"name": name, "fingerprint": "0123456789abcdef" * 4},
                    class_names=("cat", "dog_of_a_long_name" * 3),
                    per_class=(1.0, 0.0),
                    confusion=((4, 0), (4, 0)),
                )
            )
    board = reports.board(results)
    anchors = {(line, "a/test"): "result-1" for line in board.lines}
    described = reports.describe_result(results[0])
    cells = [Cell(image=Image.new("RGB", (30, 20)), text="1. score 0.31", detail="a/" * 60)]
    sections = [
        reports.headline({"top-1": "100.0 %", "of": "1,234,567 pictures"}),
        reports.overview(board, anchors),
        reports.group("a/test", described, note="top1 100.0%", anchor="result-1"),
        reports.curves({name: [{"step": n, "loss": 1.0 + n} for n in (1, 2)] for name in "ab"}),
        reports.hits([*cells, Cell(image=None, text="2. score 0.3", detail="gone.jpg")]),
        reports.pictures("Pictures", cells),
        reports.environment(),
    ]
    return reports.write(tmp_path_factory.mktemp("page") / "page.html", "A page", sections)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_no_figure_breaks_and_nothing_overflows(page, tmp_path, width):
    found = measured(page, width, tmp_path)
    assert found["width"] == width
    assert found["figures"] > 30
    assert found["scrolling"] >= 1
    assert found["broken"] == []
    assert found["overflow"] <= 0
    assert (found["unnamed"], found["lost"]) == (0, 0)
    assert found["right"]
