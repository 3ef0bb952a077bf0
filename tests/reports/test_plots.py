import re
import xml.etree.ElementTree as ET

from diptych.reports import plots, sections


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


def width(svg) -> float:
    return float(re.search(r"style=\"width: ([\d.]+)rem", svg)[1])


def test_a_matrix_is_as_large_as_its_classes_need():
    few = plots.matrix([[17, 0], [3, 9]], ["a", "b"])
    assert ">17<" in few
    many = plots.matrix([[1] * 20] * 20, [f"class {i}" for i in range(20)])
    assert width(few) < 15
    assert width(few) < width(many) < 60


def test_of_many_classes_the_pairs_that_are_confused_are_listed():
    """Class i is taken for i + 1 in i of its 60 pictures."""
    matrix = [[0] * 500 for _ in range(500)]
    for i in range(30):
        matrix[i][i + 1], matrix[i][i] = i, 60 - i
    section = sections.confusion(matrix, [f"c{i}" for i in range(500)])
    assert section.kind == "table"
    first, second, *_ = section.body["rows"]
    assert first == ["c29", "c30", "29", "48.3%"]
    assert second == ["c28", "c29", "28", "46.7%"]
    assert section.note == "The 20 most frequent of 29 pairs of classes."


def test_guides_lie_below_and_long_names_leave_no_warning(recwarn):
    names = [f"{'a_long_name/' * 9}{i}" for i in range(20)]
    svg = plots.lines({name: [(1, 2), (2, 3)] for name in names}, x="x", y="y")
    plots.matrix([[1] * 3] * 3, names[:3])
    guided = plots.lines({"a": [(0, 1)]}, x="x", y="y", guides={"chance": [(0, 1), (1, 1)]})
    assert guided.index("chance") < guided.index(">a<")
    assert names[-1] in svg
    assert not recwarn.list


def test_a_dollar_in_a_name_is_a_dollar():
    drawn = plots.matrix([[1, 0], [0, 1]], [r"$\bad{$", "$5 and $6"])
    assert "$5 and $6" in drawn


def test_what_no_text_can_hold_is_drawn_escaped():
    assert r"\ud800" in plots.matrix([[1, 0], [0, 1]], ["a", "\ud800"])
    assert r"\x1b" in plots.lines({"\x1b": [(1, 2.0)], "b": [(1, 2.0)]}, x="step", y="loss")
