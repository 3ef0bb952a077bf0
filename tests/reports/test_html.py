import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from diptych import reports
from diptych.config import OptimConfig, Run
from diptych.reports import Cell, GridRow

ROWS = [
    {"step": 10, "loss": 4.0, "lr": 1e-3, "samples_per_second": 90.0},
    {"step": 20, "loss": 2.0, "lr": 5e-4, "samples_per_second": 91.0},
    {"step": 20, "evaluation": {"top1": 0.75, "top5": 0.9, "confusion": 3}},
]
VOID = {"wbr", "meta", "img", "br", "link", "input", "path", "use"}


class Balance(HTMLParser):
    """Collects tags and fails on one that is closed out of order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.sources = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def everything(picture="x.png"):
    return [
        reports.headline({"top-1": "75 %"}, note="of 4 pictures"),
        reports.prose("Limits", ["It knows digits only."]),
        reports.table("Numbers", ("part", "top-1"), [("seen", 0.98765)]),
        reports.curves({"run": ROWS}),
        reports.confusion([[3, 1], [0, 4]], ["cat", "dog"]),
        reports.grid(
            "Searches",
            [GridRow(query="a red 7", cells=[Cell(image=picture, text="0.31", right=False)])],
        ),
        reports.pictures("Pictures", [Cell(image=picture, text="a red seven")]),
        reports.config(Run(steps=5, optim=OptimConfig(lr=0.25)), against=Run(steps=5)),
        reports.environment(step=3),
    ]


@pytest.fixture
def picture():
    return Image.new("RGBA", (300, 200), (200, 30, 30, 255))


def parse(text):
    parser = Balance()
    parser.feed(text)
    assert not parser.open
    return parser


def test_one_file_that_needs_nothing_else(tmp_path, picture):
    page = reports.write(tmp_path / "deep" / "page.html", "Trial", everything(picture))
    text = page.read_text()
    parsed = parse(text)
    assert "script" not in parsed.seen
    assert "link" not in parsed.seen
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in parsed.sources)
    assert not re.search(r"url\((?!#)|@import", text)
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_every_section_shows_what_it_was_given(tmp_path, picture):
    text = reports.write(
        tmp_path / "page.html", "Trial", everything(picture), subtitle="a small one"
    ).read_text()
    for part in (
        "a small one",
        "75 %",
        "It knows digits only.",
        "0.9877",
        "zero-shot accuracy (%)",
        "cat",
        "a red 7",
    ):
        assert part in text
    assert '<figure class="wrong">' in text
    row = "".join(f'<td class="words"><div>{text}</div></td>' for text in _LR)
    assert f"<tr>{row}</tr>" in text


_LR = ("optim.<wbr>lr", "0.<wbr>0005", "0.<wbr>25")


def test_a_picture_that_is_gone_has_a_placeholder(tmp_path):
    sections = [reports.hits([Cell(image=None, text="1", detail="a/b.jpg")])]
    text = reports.write(tmp_path / "page.html", "Search", sections).read_text()
    assert "the picture is gone" in text
    assert "a/<wbr>b.<wbr>jpg" in text
    assert "<img" not in text


def test_a_long_page_has_contents_that_lead_somewhere(tmp_path):
    parts = [reports.prose(f"Part {number}", ["text"]) for number in range(5)]
    parts.append(reports.group("Folded", [reports.prose("Deep", ["x"])], anchor="deep"))
    text = reports.write(tmp_path / "page.html", "Long", parts).read_text()
    links = re.findall(r'<a href="#([\w-]+)">', text)
    assert links == ["part-1", "part-2", "part-3", "part-4", "part-5", "deep"]
    assert all(f'id="{link}"' in text for link in links)
    assert "<details" in text
    assert "<nav" not in reports.write(tmp_path / "p.html", "Short", parts[:2]).read_text()


def test_text_from_outside_is_escaped(tmp_path, picture):
    evil = '<script>alert("x")</script>'
    sections = [
        reports.headline({evil: evil}, note=evil),
        reports.prose(evil, [evil]),
        reports.table(evil, [evil], [[evil]], note=evil),
        reports.grid(evil, [GridRow(query=evil, cells=[Cell(image=picture, text=evil)])]),
        reports.config(Run(steps=1, recipe=evil), against=Run(steps=1)),
        reports.confusion([[1, 0], [0, 1]], [evil, "b"]),
    ]
    text = reports.write(tmp_path / "page.html", evil, sections, subtitle=evil).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    parse(text)


def test_light_dark_and_phone(tmp_path):
    text = reports.write(tmp_path / "page.html", "Trial", []).read_text()
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_thumbnails_are_small(tmp_path, picture):
    big = Image.effect_noise((2000, 1500), 80)
    text = reports.write(
        tmp_path / "p.html", "T", [reports.pictures("P", [Cell(image=big)])]
    ).read_text()
    assert len(text) < 60_000


def test_a_page_is_replaced_whole(tmp_path, monkeypatch):
    page = reports.write(tmp_path / "page.html", "First", [])
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        reports.write(page, "Second", [])
    assert "First" in page.read_text()
