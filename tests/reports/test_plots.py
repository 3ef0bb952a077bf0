import re
import xml.etree.ElementTree as ET

from diptych.reports import plots


def test_drawings_take_the_pages_colours_and_label_their_axes():
    svg = plots.lines(
        {"top1": [(1, 10), (2, 30)], "top5": [(1, 40), (2, 60)]}, x="step", y="accuracy (%)"
    )
    ET.fromstring(svg)
    assert "step" in svg
    assert "accuracy (%)" in svg
    assert "top5" in svg
    assert set(re.findall(r"var\((--[\w-]+)\)", svg)) >= {
        "--soft",
        "--line",
        "--series-0",
        "--series-1",
    }
    assert not re.search(r"#0[0-9a-f]0[0-9a-f]0[0-9a-f]", svg)


def test_two_drawings_on_a_page_share_no_identifiers():
    one = plots.lines({"loss": [(1, 1), (2, 2)]}, x="step", y="loss")
    two = plots.lines({"top1": [(1, 1), (2, 2)]}, x="step", y="top1")
    found = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (one, two)]
    assert found[0]
    assert not found[0] & found[1]
    for svg, known in zip((one, two), found):
        assert {
            name
            for pair in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
            for name in pair
            if name
        } <= known


def test_the_same_numbers_give_the_same_drawing():
    points = {"loss": [(1, 1.0), (2, 0.5)]}
    assert plots.lines(points, x="step", y="loss") == plots.lines(points, x="step", y="loss")


def test_matrix_writes_counts_of_few_classes_and_shades_many():
    assert ">17<" in plots.matrix([[17, 0], [3, 9]], ["a", "b"])
    many = [[int(i == j) for i in range(30)] for j in range(30)]
    assert ">c7<" not in plots.matrix(many, [f"c{i}" for i in range(30)])
