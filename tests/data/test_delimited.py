"""Tables of text as people write them lose no row, and change no caption."""

import csv
import io
import pickle

import pytest

from diptych.data import open_source
from diptych.errors import DataError, DataWarning
from tests.data.builders import config, picture


@pytest.fixture
def table(tmp_path):
    """Opens a table of so many bytes, with pictures 0.jpg to 9.jpg beside it."""
    for n in range(10):
        (tmp_path / f"{n}.jpg").write_bytes(picture(n))

    def open_table(content, name="t.csv", **options):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        return open_source(config(tmp_path, tmp_path / name, **options))

    return open_table


def read(source):
    return [(source[n].key, *source[n].captions) for n in range(len(source))]


TWO = [("0.jpg", "a cat, sitting"), ("1.jpg", 'a "big" dog')]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'image,caption\n0.jpg,"a cat, sitting"\n1.jpg,"a ""big"" dog"\n'),
        ("t.csv", 'image,caption\r\n0.jpg,"a cat, sitting"\r\n1.jpg,a "big" dog'),
        ("t.csv", 'image,caption\r0.jpg,"a cat, sitting"\r1.jpg,a "big" dog\r'),
        ("t.csv", 'image, caption\n0.jpg, "a cat, sitting"\n1.jpg,  a "big" dog \n\n \n'),
        ("t.csv", '"image","caption"\n"0.jpg","a cat, sitting"\n"1.jpg","a \\"big\\" dog"\n'),
        ("t.csv", '\ufeffImage,Caption\n0.jpg,"a cat, sitting"\n1.jpg,"a ""big"" dog"\n'),
        ("T.CSV", 'FILEPATH,TITLE\n0.jpg,"a cat, sitting"\n1.jpg,a "big" dog\n'),
        ("t.csv", 'filepath\ttitle\n0.jpg\ta cat, sitting\n1.jpg\ta "big" dog\n'),
        ("t.tsv", 'filepath\ttitle\n0.jpg\ta cat, sitting\n1.jpg\t"a ""big"" dog"\n'),
        ("t.tsv", 'title\tfilepath\n"a cat, sitting"\t0.jpg\na "big" dog\t1.jpg\n'),
        ("t.csv", 'filepath;title\n0.jpg;a cat, sitting\n1.jpg;a "big" dog\n'),
        ("t.csv", 'id|image| caption\n1|0.jpg| a cat, sitting\n2|1.jpg| a "big" dog\n'),
        ("t.csv", 'sep=;\r\nfilepath;title\r\n0.jpg;a cat, sitting\r\n1.jpg;a "big" dog\r\n'),
        ("t.csv", '\ufeff"sep=\t"\nimage\tcaption\n0.jpg\ta cat, sitting\n1.jpg\ta "big" dog\n'),
        ("t.tsv", 'image,caption\n0.jpg,"a cat, sitting"\n1.jpg,"a ""big"" dog"\n'),
        ("t.txt", 'image,caption\n0.jpg,a cat, sitting\n1.jpg,a "big" dog\n'),
        ("t.token", '0.jpg#0\ta cat, sitting\n1.jpg#4\ta "big" dog\n'),
        ("t.txt", '0.jpg,a cat, sitting\n1.jpg,a "big" dog\n'),
    ],
)
def test_every_dialect_gives_the_same_pairs(table, name, text):
    source = table(text, name)
    assert [caption for _, caption in read(source)] == [caption for _, caption in TWO]
    assert [source[n].image.rpartition("/")[2] for n in range(2)] == ["0.jpg", "1.jpg"]
    assert source.bad_samples == ()
    assert read(pickle.loads(pickle.dumps(source))) == read(source)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
def test_encodings_of_spreadsheets_are_read(table, encoding):
    source = table("image,caption\n0.jpg,Kätzchen 🐈\n1.jpg,Größe\n".encode(encoding))
    assert read(source) == [("0.jpg", "Kätzchen 🐈"), ("1.jpg", "Größe")]


def test_rows_that_are_not_utf8_are_read_as_windows_writes_them_and_that_is_said(table):
    text = "image,caption\n0.jpg,Größe – 5 €\n".encode("cp1252") + "1.jpg,Größe\n".encode()
    with pytest.warns(DataWarning, match="1 rows of .* read as Windows-1252, the first: .*Größe"):
        source = table(text)
    assert read(source) == [("0.jpg", "Größe – 5 €"), ("1.jpg", "Größe")]


def test_a_table_without_a_header_is_read_where_it_is_clear(table):
    with pytest.warns(DataWarning, match="no header; its columns are read as caption and image"):
        source = table("a cat\t0.jpg\na dog\t1.jpg\n", "t.tsv")
    assert read(source) == [("0.jpg", "a cat"), ("1.jpg", "a dog")]
    with pytest.raises(DataError, match=r"no picture column, only 0.jpg, 7, a cat: .*image-key"):
        table("0.jpg,7,a cat\n1.jpg,8,a dog\n")


def test_the_separator_can_be_said(table):
    text = "image~caption\n0.jpg~a, b\n"
    assert read(table(text, separator="~")) == [("0.jpg", "a, b")]
    tab = "image\tcaption\n0.jpg\ta\n"
    assert (
        read(table(tab, separator="\\t")) == read(table(tab, separator="tab")) == [("0.jpg", "a")]
    )
    with pytest.raises(DataError, match=r"one ASCII letter such as ; or \\t, not '::'"):
        table(text, separator="::")
    with pytest.raises(DataError, match="no picture column, only image~caption"):
        table(text)


@pytest.mark.parametrize(
    "stray",
    [
        ['"starts here'],
        ['"starts here', 'ends here"'],
        ['"starts', '"starts again', 'and "so', 'on"'],
        ['ends here"', 'a "" b', '"', '""" three'],
    ],
)
@pytest.mark.parametrize("order", [("image", "caption"), ("caption", "image")])
def test_stray_quotes_lose_no_row(table, stray, order):
    """In a table without quoting, as CC3M's and CC12M's; the rows between two stray quotes, too."""
    captions = [f"caption {n}" for n in range(3000)]
    for place, text in enumerate(stray):
        captions[700 * place + 100] = text
    rows = [{"image": f"{n % 10}.jpg", "caption": text} for n, text in enumerate(captions)]
    lines = ["\t".join(order), *("\t".join(row[name] for name in order) for row in rows)]
    source = table("\n".join(lines), "t.tsv")
    assert [source[n].captions[0] for n in range(len(source))] == captions
    assert source.bad_samples == ()


def test_a_quoted_caption_may_run_over_lines(table):
    captions = ["one\ntwo", 'a "quoted\nline", and more', "x, y\n\nz", "plain", "1.jpg,x\ny"]
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["image", "caption"])
    writer.writerows([f"{n}.jpg", text] for n, text in enumerate(captions))
    assert [caption for _, caption in read(table(out.getvalue()))] == captions


def test_each_line_is_a_row_or_is_listed(table):
    """10,000 rows of which every 500th has a field too many, or a quote that nothing closes."""
    lines = ["image,caption"]
    for n in range(10_000):
        lines.append(f"{n % 10}.jpg,{'a, b' if n % 1000 == 0 else f'fine {n}'}")
        if n % 1000 == 500:
            lines[-1] = f'{n % 10}.jpg,"open, {n}'
    source = table("\n".join(lines), max_bad_share=0.01)
    assert (len(source), len(source.bad_samples)) == (9980, 20)
    assert source.bad_samples[1].key == "line 502"
    assert source.bad_samples[1].reason.endswith("""2: '0.jpg,"open, 500'""")
    with pytest.raises(DataError, match=r"20 of 10,000 rows .*line 2: 3 fields where the header"):
        table("\n".join(lines), max_bad_share=0.001)


def test_single_quotes_in_a_quoted_field_are_letters(table):
    source = table('image,caption\n0.jpg,"a "big" dog, sitting"\n1.jpg,"b\\"\n')
    assert read(source) == [("0.jpg", 'a "big" dog, sitting'), ("1.jpg", '"b\\"')]


def test_two_columns_of_one_name_are_refused_where_they_are_used(table):
    with pytest.raises(DataError, match=r"has 2 columns called 'caption'"):
        table("image,caption,caption\n0.jpg,a,b\n")
    assert read(table("image,caption,x,x\n0.jpg,a,b,c\n")) == [("0.jpg", "a")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,caption\nnowhere.jpg,a\n", r"nowhere.jpg doesn't exist; .* is --data.image-root$"),
        ("image,caption\nhttps://a/b.jpg,a\n", "https://a/b.jpg isn't a local file; download"),
        ("image,caption\n", "holds no samples"),
        ("", "t.csv is empty"),
        ("\n\n", "t.csv is empty"),
        ("url,id\n0.jpg,a\n", "no picture column, only url, id: name one in --data.image-key"),
        (
            "image,id\n0.jpg,a\n",
            "no caption column, only image, id: name one in --data.caption-key",
        ),
    ],
)
def test_what_can_not_be_read_is_one_sentence(table, text, says):
    with pytest.raises(DataError, match=says) as caught:
        table(text)
    assert "\n" not in str(caught.value)


def test_pictures_are_found_beside_the_table_and_that_is_said(tmp_path, table):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/x.jpg").write_bytes(picture(1))
    with pytest.warns(DataWarning, match=r"aren't beside it; they are read from .*/photos/$"):
        source = table("image,caption\nx.jpg,a\n")
    assert source[0].image == str(tmp_path / "photos/x.jpg")


def test_paths_from_the_current_folder_and_from_windows_are_found(tmp_path, table, monkeypatch):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x.jpg").write_bytes(picture(1))
    monkeypatch.chdir(tmp_path)
    with pytest.warns(DataWarning, match="they are read from ./$"):
        assert table("image,caption\na/b/x.jpg,a\n", "a/t.csv")[0].image == "a/b/x.jpg"
    assert table("image,caption\na\\b\\x.jpg,a\n")[0].image == str(tmp_path / "a/b/x.jpg")
