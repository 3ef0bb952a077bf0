"""Tables for other programs."""

import csv

from diptych.cells import csv_rows


def test_what_was_in_the_cells_is_read_again(tmp_path):
    rows = [
        ["a\rb", "c\nd", "e\r\nf", 'g"h', "i,j", "", "=1+1", "\ttab"],
        ["two", "$x$", "|", "\\", "ends\r\n", "\r", "\n", "\u2028"],
    ]
    with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as file:
        csv_rows(file).writerows(rows)
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == rows
    assert (tmp_path / "a.csv").read_bytes().count(b"\r\n") == 2  # of the cells alone


def test_bytes_of_names_stay_and_other_halves_of_characters_are_replaced(tmp_path):
    with open(tmp_path / "a.csv", "w", encoding="utf-8", errors="surrogateescape") as file:
        csv_rows(file).writerow(["\udcff.png", "\ud800"])
    assert (tmp_path / "a.csv").read_bytes() == b"\xff.png,\xef\xbf\xbd\n"
