"""What a folder holds, and the source that reads it.

Asked in this order: a table `metadata.*` (Hugging Face's imagefolder), shards, captions in files of
the pictures' names, a list of captions (Flickr8k, COCO), a sub-folder per class. Parts of a dataset
(`train/`, `val/`) are never classes, and captions that lie beside pictures are never passed over:
what can't be read as one of these is refused.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from diptych.data.captioned import CaptionedFiles, Texts, match_texts
from diptych.data.folders import class_folders, open_class_folders
from diptych.data.joined import Joined
from diptych.data.pictures import Contents
from diptych.data.source import Captioner, Source
from diptych.data.splits import find_parts
from diptych.data.tables import TableSource, is_list, is_list_of_captions, is_table
from diptych.data.tar import is_tar
from diptych.errors import DataError

PACKED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar")
"""Endings of files that can't be read at random."""
_GENERIC = re.compile(
    r"(?:.*[-_ ])?(?:images?|imgs?|pictures?|pics?|photos?|jpe?gs?|jpegimages|pngs?|data|dataset|"
    r"files)\d*",
    re.IGNORECASE,
)
"""Names of folders that say that there are pictures in them, and not what is on these."""
_CODE = re.compile(r"(\D*)(\d+)")
_SHARD = re.compile(r"(?:.*[-_ ])?\d{4,}")
"""Names of shards and parts, such as 00000 or part-0001."""
_CANDIDATES = 20
"""Files that are looked into for captions."""
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class FolderReader:
    """Opens folders, as the settings of a source have it."""

    captioner: Captioner
    open_shards: Callable[[Sequence[Path]], Source]
    open_table: Callable[[Path, Sequence[Path]], TableSource]
    """With folders in which the pictures of the table may lie."""

    def open(self, folder: Path) -> Source:
        """The source in a folder. Raises DataError for what can't be read as one."""
        metadata = sorted(path for path in folder.glob("metadata.*") if is_table(path))
        if metadata:
            tables = [self.open_table(path, ()) for path in metadata]
            return tables[0] if len(tables) == 1 else Joined(tables)
        if shards := sorted(path for path in folder.iterdir() if is_tar(path)):
            return self.open_shards(shards)
        contents = Contents.of(folder)
        if not contents.pictures:
            return self._without_pictures(contents)
        source = self._pictures(contents)
        if contents.unread:
            source.remarks = (*source.remarks, f"{folder} has {contents.unread}")
        return source

    def _pictures(self, contents: Contents) -> Source:
        alone = self.captioner.alone
        texts = {} if alone else match_texts(contents, self.captioner)
        lists, other = ([], "") if texts or alone else self._lists(contents)
        if len(lists) == 1:
            return lists[0]
        parts = find_parts(contents.parts)
        names = list(itertools.chain.from_iterable(parts.values()))
        if len(names) == 1 and len(contents.parts) == 1:
            return self.open(contents.root / names[0])
        if names:
            raise DataError(
                f"{contents.root} holds splits ({', '.join(names)}), which are no classes; give "
                f"one of them: {contents.root / names[0]}"
            )
        _refuse_splits_below(contents)
        if alone:
            return CaptionedFiles(contents.root, contents.pictures, {}, self.captioner)
        if lists:
            shown = ", ".join(str(table.path) for table in lists)
            raise DataError(
                f"{contents.root} has several lists of captions; give one of them: {shown}"
            )
        # Where no captions are needed, classes may be asked for.
        named = len(contents.parts) > 1 and not (
            _nameless(contents.parts) or _numbered(contents.parts)
        )
        if texts and (self.captioner.needed or not named):
            return CaptionedFiles(contents.root, contents.pictures, texts, self.captioner)
        return self._classes(contents, texts, other)

    def _lists(self, contents: Contents) -> tuple[list[TableSource], str]:
        """The lists of captions in the folder or beside it, of which the pictures are there; and
        why the first other table is none."""
        places = [contents.root / folder for folder in contents.picture_folders]
        found, other = list[TableSource](), ""
        for path in _candidates(contents)[:_CANDIDATES]:
            named = "caption" in path.name.lower()
            try:
                if not is_table(path) and not is_list(path):
                    raise DataError(
                        f"{path} is of no kind that is read; write it as .csv or .jsonl"
                    )
                table = self.open_table(path, places)
                if table.captioned and table.pictures_exist():
                    found.append(table)
                elif named:
                    raise DataError(f"the pictures that {path} names aren't in {contents.root}")
            except DataError as error:
                if named and self.captioner.needed:
                    raise
                other = other or str(error)
        return found, other

    def _classes(self, contents: Contents, texts: Texts, other: str) -> Source:
        root, parts, captioner = contents.root, contents.parts, self.captioner
        if len(parts) == 1 and _GENERIC.fullmatch(parts[0]) and _parts_of(contents, parts[0]):
            return self.open(root / parts[0])
        reason = _nameless(parts) or (_numbered(parts) if captioner.needed else "")
        if reason and not captioner.class_names:
            raise DataError(
                f"{root} has no captions that are read (docs/data.md says which are), and no "
                f"folders of classes: {reason}" + (f"; {other}" if other else "")
            )
        source = open_class_folders(root, captioner, contents, texts)
        source.remarks = tuple(self._said_of_classes(contents, source.class_names))
        return source

    def _said_of_classes(self, contents: Contents, names: Sequence[str]) -> Iterator[str]:
        root, flag = contents.root, f"{self.captioner.flags}class-names"
        if self.captioner.needed and not self.captioner.class_names and _codes(names):
            yield (
                f"{root}: its classes are called {_some(names)}; if these are no words that a "
                f"caption has, name them in a file, one a line: {flag}"
            )
        if empty := [path.name for path in class_folders(root) if path.name not in contents.parts]:
            yield f"{root}: {_some(empty)} without pictures"
        if loose := sum("/" not in name for name in contents.pictures):
            yield f"{root}: {loose:,} pictures that lie in no class's folder are left out"
        tables = [name for name in contents.others if "/" not in name and is_table(Path(name))]
        if tables:
            yield f"{root}: {_some(tables)} isn't used; folders are the classes"

    def _without_pictures(self, contents: Contents) -> Source:
        """The one table of a folder without pictures, or a DataError that says what there is."""
        root = contents.root
        tables = [root / name for name in contents.others if is_table(Path(name))]
        shards = [name for name in contents.others if is_tar(name)]
        if len(tables) == 1 and not shards:
            return self.open_table(tables[0], ())
        if shards:
            where = Path(shards[0]).parent
            raise DataError(
                f"{root} has its shards in folders; give those of one of them, such as "
                f"'{root / where}/*.tar'"
            )
        if tables:
            raise DataError(
                f"{root} has {len(tables)} tables ({_some([path.name for path in tables])}); give "
                "one of them, or those of one split as a 'pattern*'"
            )
        if packed := [name for name in contents.others if name.lower().endswith(PACKED)]:
            raise DataError(f"{root} holds compressed files, {_some(packed)}: unpack them first")
        unread = f"but {contents.unread}" if contents.unread else "tables or shards"
        raise DataError(f"{root} holds no pictures, {unread}")


def _nameless(parts: Sequence[str]) -> str:
    """Why folders of these names are no classes; empty: they may be."""
    if not parts:
        return "its pictures lie in no sub-folders"
    if all(map(_GENERIC.fullmatch, parts)):
        return f"{_some(parts)} says nothing of what is on the pictures"
    return ""


def _numbered(parts: Sequence[str]) -> str:
    """The same, of names that captions can't be made of."""
    if all(map(_SHARD.fullmatch, parts)):
        return f"{_some(parts)} look like the numbers of shards"
    return ""


def _codes(names: Sequence[str]) -> bool:
    """Whether the names are numbers, or differ in their number alone."""
    found = [_CODE.fullmatch(name) for name in names]
    return all(found) and len({match[1] for match in found if match}) == 1


def _parts_of(contents: Contents, part: str) -> tuple[str, ...]:
    """The folders with pictures in a sub-folder, if all its pictures lie in such."""
    deep = [name.split("/") for name in contents.pictures if name.startswith(f"{part}/")]
    if any(len(names) < 3 for names in deep):
        return ()
    return tuple(dict.fromkeys(names[1] for names in deep))


def _refuse_splits_below(contents: Contents) -> None:
    """Splits may also lie below folders of pictures (`images/train/`) or classes (`cat/train/`)."""
    below = dict.fromkeys(
        names[1] for name in contents.pictures if len(names := name.split("/")) > 2
    )
    names = list(itertools.chain.from_iterable(find_parts(below).values()))
    if len(names) > 1:
        example = contents.root / contents.parts[0] / names[0]
        what = (
            f"give one of them: {example}"
            if len(contents.parts) == 1
            else "give each a folder of its own, and one of these"
        )
        raise DataError(f"{contents.root} holds splits ({example}, …) below its folders; {what}")


def _candidates(contents: Contents) -> list[Path]:
    """Files that may be lists of captions: in the folder and its sub-folders; beside it, those that
    have its name in theirs (`annotations/captions_NAME.json`)."""
    root, found = contents.root, list[Path]()
    for name in contents.others:
        if name.count("/") < 2:
            found.append(root / name)
    above = root.absolute().parent
    for place in (above, above / "annotations", above / "captions"):
        if place.is_dir():
            found += sorted(
                path for path in place.glob(f"*{root.absolute().name}*") if path.is_file()
            )
    return [path for path in found if _may_list_captions(path)]


def _may_list_captions(path: Path) -> bool:
    name = path.name.lower()
    if "caption" in name:
        return True
    if path.suffix.lower() == ".json":  # others are large, and seldom captions
        return name.startswith("dataset")
    return is_table(path) or is_list_of_captions(path)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
