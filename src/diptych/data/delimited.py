"""Tables of text with a separator, as people write them: with or without quotes, a header, a byte
order mark.

Opening is one scan that finds where each row lies; a row is parsed when it is asked for. What a
line says is read in this order: as RFC 4180 has it (a quoted field doubles its inner quotes, or
puts a backslash before them, and may run over lines); plainly, its quotes being letters (CC3M's
captions); a quoted field whose inner quotes are single. The first reading with as many fields as
the header is taken; a line with none is left out and listed. So a stray quote never swallows rows:
a field doesn't run on over lines that are rows by themselves.
"""

import codecs
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from diptych.data.encodings import converted, not_utf8, text_of_line
from diptych.data.files import LONGEST_TEXT, OpenFiles
from diptych.data.lines import count_letter, filled, find_lines, mapped
from diptych.data.pictures import is_picture, without_number
from diptych.data.rows import Columns, Rows
from diptych.data.source import BadSample
from diptych.errors import DataError

SEPARATORS = (",", "\t", ";", "|")
_SPELLED = {"\\t": "\t", "tab": "\t"}
_DEFAULTS = {".tsv": "\t", ".token": "\t"}
_LINES_OF_A_FIELD = 1000
"""Lines after which a quote that stays open is taken for a stray one."""
_LOOKED_AHEAD = 1 << 22
"""Letters in which the end of such quotes is looked for in vain, over a whole file."""
_SHOWN = 80
_OPENING = re.compile(r' *"')
_EXCEL = re.compile(r'"?sep=([\x00-\x7f])"?', re.IGNORECASE)
"""A first line that tells Excel the separator, and is no row."""


class DelimitedRows(Rows):
    """Rows as column -> text. Whether the header has the `wanted` columns tells the separator where
    none is given. With `surplus`, separators beyond the last column belong to the text in it: lists
    of captions seldom quote them.
    """

    def __init__(
        self,
        path: Path,
        wanted: Columns,
        *,
        separator: str = "",
        surplus: bool = False,
    ):
        self._reopen = functools.partial(
            DelimitedRows, path, wanted, separator=separator, surplus=surplus
        )
        self._path, self._files = path, OpenFiles()
        self._memory = converted(path)
        self._ahead = _LOOKED_AHEAD
        data = self._whole()
        start = len(codecs.BOM_UTF8) if bytes(data[:3].tobytes()) == codecs.BOM_UTF8 else 0
        starts, ends = find_lines(data, start, path)
        lines = filled(data, starts, ends)
        if not lines.any():
            raise DataError(f"{path} is empty")
        first = int(lines.argmax())
        line = self._first_line(starts, ends, first)
        if (told := _EXCEL.fullmatch(line)) and lines[first + 1 :].any():
            separator = separator or told[1]
            first += 1 + int(lines[first + 1 :].argmax())
            line = self._first_line(starts, ends, first)
        self._separator, self.columns, named = _header(line, path, wanted, separator, surplus)
        self._surplus = surplus
        # The column of pictures tells rows from lines of one quoted field.
        image = wanted.image(self.columns)
        self._image = self.columns.index(image) if image else 0
        after = first + 1 if named else first
        self._starts, self._ends = self._scan(data, starts[after:], ends[after:], after + 1)
        self.remarks = tuple(self._said_of(data, named))

    def __reduce__(self):
        return (self._reopen, ())

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Mapping[str, str]:
        fields = self._fields(self._line(self._starts, self._ends, index))
        assert fields is not None
        return dict(zip(self.columns, fields, strict=True))

    def _whole(self) -> np.ndarray:
        if self._memory is not None:
            return np.frombuffer(self._memory, np.uint8)
        return mapped(self._path)

    def _line(self, starts: np.ndarray, ends: np.ndarray, number: int) -> str:
        start, end = int(starts[number]), int(ends[number])
        if self._memory is not None:
            return text_of_line(self._memory[start:end])
        return text_of_line(self._files.read(self._path, start, end - start, most=LONGEST_TEXT))

    def _first_line(self, starts: np.ndarray, ends: np.ndarray, number: int) -> str:
        try:
            return self._line(starts, ends, number)
        except DataError as error:
            raise DataError(f"the first line of {self._path} can't be read: {error}") from None

    def _fields(self, line: str) -> list[str] | None:
        """The line's fields; None where no reading of it has as many as there are columns."""
        count, separator = len(self.columns), self._separator
        if '"' in line:
            strict = _quoted(line, separator)
            if strict is not None and len(strict) == count:
                return strict
        plain = [field.strip() for field in line.split(separator)]
        if len(plain) == count:
            return plain
        if '"' in line:
            lenient = _quoted(line, separator, lenient=True)
            if lenient is not None and len(lenient) == count:
                return lenient
        if self._surplus and len(plain) > count:
            return [field.strip() for field in line.split(separator, count - 1)]
        return None

    def _scan(
        self, data: np.ndarray, starts: np.ndarray, ends: np.ndarray, line: int
    ) -> tuple[Int64[np.ndarray, " rows"], Int64[np.ndarray, " rows"]]:
        """Where the rows begin and end. `line` is the first line's number in the file."""
        if not len(starts):
            return starts, ends
        plain = count_letter(data, '"', starts) == 0
        plain &= count_letter(data, self._separator, starts) == len(self.columns) - 1
        # A line that is too long to be read is a row that can't be.
        plain |= ends - starts > LONGEST_TEXT
        kept, ends, bad = plain.copy(), ends.copy(), list[BadSample]()
        after = 0
        ordinary, view = _ordinary_row(self._separator, len(self.columns)), data.data
        for number in np.flatnonzero(~plain).tolist():
            if number < after:
                continue
            if ordinary.fullmatch(view, int(starts[number]), int(ends[number])):
                kept[number] = True
                continue
            text, after = self._line(starts, ends, number), number + 1
            if not text.strip():
                continue
            last = self._last_line(starts, ends, number)
            if last > number:
                kept[number + 1 : last + 1] = False
                ends[number], after = ends[last], last + 1
            elif self._fields(text) is None:
                found = len(_quoted(text, self._separator, lenient=True) or [""])
                reason = (
                    f"{found} fields where the header has {len(self.columns)}: {text[:_SHOWN]!r}"
                )
                bad.append(BadSample(str(self._path), f"line {line + number}", reason))
                continue
            kept[number] = True
        self.bad_samples = tuple(bad)
        return starts[kept], ends[kept]

    def _last_line(self, starts: np.ndarray, ends: np.ndarray, number: int) -> int:
        """The line in which the row that begins in this line ends."""
        lines = [self._line(starts, ends, number)]
        if _quoted(lines[0], self._separator) != []:
            return number
        letters = tried = len(lines[0])
        for last in range(number + 1, min(number + _LINES_OF_A_FIELD, len(starts))):
            letters += int(ends[last] - starts[last])
            if letters > LONGEST_TEXT or tried > self._ahead:
                break
            lines.append(self._line(starts, ends, last))
            if '"' not in lines[-1]:
                continue
            tried += letters
            fields = _quoted("\n".join(lines), self._separator)
            if fields == []:
                continue
            fits = fields is not None and len(fields) == len(self.columns)
            if fits and not self._rows_by_themselves(lines):
                return last
            break
        self._ahead -= tried
        return number

    def _rows_by_themselves(self, lines: Sequence[str]) -> bool:
        """Whether each line is a row, with a picture of the same kind of name as the first's."""
        endings = set[str]()
        for line in lines:
            fields = self._fields(line)
            if fields is None:
                return False
            endings.add(os.path.splitext(fields[self._image])[1].lower())
        return len(endings) == 1

    def _said_of(self, data: np.ndarray, named: bool) -> Iterator[str]:
        if not named and not self._surplus:  # a list of captions seldom has one
            names = " and ".join(self.columns)
            yield f"{self._path} has no header; its columns are read as {names}"
        foreign = list(not_utf8(data, self._starts, self._ends))
        if foreign:
            shown = self._line(self._starts, self._ends, foreign[0])[:_SHOWN]
            yield (
                f"{len(foreign):,} rows of {self._path} aren't UTF-8 and are read as Windows-1252, "
                f"the first: {shown!r}; write the file as UTF-8 if that is wrong"
            )


def _header(
    line: str, path: Path, wanted: Columns, separator: str, surplus: bool
) -> tuple[str, tuple[str, ...], bool]:
    """The separator, the columns' names, and whether the line holds them. Without a header, a
    picture's name beside one other field tells which is which."""
    separator = _SPELLED.get(separator, separator)
    if separator and (len(separator) > 1 or not separator.isascii() or separator == '"'):
        raise DataError(f"a separator is one ASCII letter such as ; or \\t, not {separator!r}")
    default = _DEFAULTS.get(path.suffix.lower(), ",")
    tried = [separator] if separator else [default, *(s for s in SEPARATORS if s != default)]
    headers = {each: _names(line, each) for each in tried}
    for each, names in headers.items():
        if wanted.fit(names):
            return each, names, True
    for each, names in headers.items():
        fields = line.split(each, 1) if surplus else names
        pictures = [is_picture(without_number(field.strip())) for field in fields]
        if len(fields) == 2 and sum(pictures) == 1:
            return each, ("image", "caption") if pictures[0] else ("caption", "image"), False
    best = max(headers, key=lambda each: len(headers[each]))
    return best, headers[best], True


def _names(line: str, separator: str) -> tuple[str, ...]:
    names = _quoted(line, separator) or line.split(separator)
    return tuple(name.strip() for name in names)


def _quoted(line: str, separator: str, lenient: bool = False) -> list[str] | None:
    """The fields of a line with quotes. None where an inner quote is single, unless `lenient`; an
    empty list where a quoted field stays open."""
    fields, at = list[str](), 0
    while True:
        if opened := _OPENING.match(line, at):
            close = _closing(line, opened.end(), separator, lenient)
            if close is None:
                return None
            if close < 0:
                return []
            inner = line[opened.end() : close].replace('\\"', '"')
            fields.append(inner.replace('""', '"'))
            end = line.find(separator, close)
        else:
            end = line.find(separator, at)
            fields.append(line[at : end if end >= 0 else len(line)].strip())
        if end < 0:
            return fields
        at = end + 1


@functools.cache
def _end_of_field(separator: str) -> re.Pattern[str]:
    return re.compile(rf" *(?:{re.escape(separator)}|\Z)")


def _ordinary_row(separator: str, columns: int) -> re.Pattern[bytes]:
    """A line of so many fields, of which the quoted ones are as RFC 4180 has them: most lines, told
    without reading them field by field."""
    field = rf'(?: *"(?:[^"\\]|"")*+" *|[^"{re.escape(separator)}]*+)'
    row = rf"{field}(?:{re.escape(separator)}{field}){{{columns - 1}}}\r?"
    return re.compile(row.encode())


def _closing(line: str, start: int, separator: str, lenient: bool) -> int | None:
    """Where the closing quote of the field stands whose text begins at `start`: -1 if nowhere, None
    where an inner quote is single."""
    end_of_field, at = _end_of_field(separator), start
    while (at := line.find('"', at)) >= 0:
        escaped = at > start and line[at - 1] == "\\"
        if line[at + 1 : at + 2] == '"' and not escaped:
            at += 2
        elif not escaped and end_of_field.match(line, at + 1):
            return at
        elif escaped or lenient:
            at += 1
        else:
            return None
    return -1
