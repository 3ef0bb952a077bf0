"""Which layout weights are in, by the names of the tensors, not by the names of the files."""

from collections.abc import Collection, Iterator
from itertools import product
from pathlib import Path
from typing import get_args

from diptych.checkpoints.folders import check_whole, weight_file
from diptych.checkpoints.kinds import check_beside
from diptych.checkpoints.prefixes import Part, marks, other, tower, whole, without_prefix
from diptych.checkpoints.steps import is_run, newest
from diptych.config.model import Side
from diptych.errors import CheckpointError, MissingError
from diptych.families import layouts
from diptych.inputs.strangers import check_links
from diptych.weights import native
from diptych.weights.layout import Layout, WeightSource
from diptych.weights.read import read_weights, split_key


def detect(path: str | Path) -> str:
    """The name of the layout at `path`: "native", "openai" (an OpenAI archive), or that of a
    published layout, of a whole model or an image tower alone.

    Raises CheckpointError if nothing is there, or nothing that Diptych reads.

    >>> import tempfile
    >>> from diptych import models, pretrained
    >>> from diptych.checkpoints import detect
    >>> from diptych.weights import save_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     detect(save_model(f"{folder}/model", models.build(pretrained.get("tiny"))))
    'native'
    """
    path = Path(path)
    if native_folder(path):
        return "native"
    source = open_foreign(path)
    if source.weights.kind == "archive":
        return "openai"
    return match(source, "model")[0].name


def native_folder(path: Path) -> Path | None:
    """The native checkpoint that `path` means: the folder itself, one of its two files, a run's
    newest; else None."""
    if path.name in (native.META, native.WEIGHTS) and native.is_native(path.parent):
        return path.parent
    if native.is_native(path) or (path / native.META).is_file():
        return path
    return newest(path, lambda folder: folder, model_alone=True) if is_run(path) else None


def open_foreign(path: Path, part: Part = "model") -> WeightSource:
    """The weights at `path`: a file, `FILE#KEY` for one of several versions in it, or a folder with
    one; `part`: what is wanted of them. Raises CheckpointError."""
    place, key = split_key(path)
    if not place.exists():
        raise MissingError(f"there is no file or folder {place}")
    file = weight_file(place) if place.is_dir() else place
    if place.is_dir():
        check_links(file.parent)
    else:
        check_whole(file)
    weights = read_weights(file, key)
    if another := other(weights.tensors):
        raise CheckpointError(f"{path} {another}")
    bare, beside = without_prefix(weights, place, part)
    return WeightSource(path=path, file=file, weights=bare, beside=tuple(beside))


def match(source: WeightSource, part: Part) -> tuple[Layout, Part]:
    """The layout of a model, or of a tower alone, and what there is to read: what is wanted, or of
    a model the tower that alone is there.

    Raises CheckpointError, saying what the closest layout would have had.
    """
    names = source.weights.tensors
    if part != "text" and not whole(names):
        described = (layout for layout in layouts() if layout.is_described(source))
        if found := next(described, None):
            return found, "image"
    try:
        layout, found = match_names(names, part, source.path)
    except CheckpointError:
        check_beside(source)  # which says more than names that nothing knows
        raise
    if found not in ("model", part):
        _check_apart(source, found)
    return layout, found


def _check_apart(source: WeightSource, side: Side) -> None:
    """Raises CheckpointError for a file that holds the other tower, too, behind other words."""
    other = tuple(f".{name}" for name in _telling(_other_side(side)))
    if found := [name for name in source.beside if f".{name}".endswith(other)]:
        raise CheckpointError(
            f"{source.path} holds the {side} tower and the {_other_side(side)} tower apart "
            f"({found[0]}); save the state dict of a model that has both, or start a model's "
            "towers from the file (--model.image.init, --model.text.init)"
        )
    if lost := _lost(source, side):
        raise CheckpointError(_parts(source.path, side, lost))


def _lost(source: WeightSource, side: Side) -> str:
    """A name beside a tower that a layout has in the other tower alone; empty: there is none."""
    for layout, names in product(layouts(), _without_outer(source.beside)):
        own = layout.table(layout.image if side == "image" else layout.text)
        for mark in marks(layout, _other_side(side)):
            both = layout.table({*marks(layout, side), mark})
            known = set(names) - set(both.unknown(names))
            if found := own.unknown(name for name in names if name in known):
                return found[0]
    return ""


def _without_outer(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The names, and what is left of them without the words that all of them begin with."""
    while names:
        yield names
        firsts, dots, rests = zip(*(name.partition(".") for name in names), strict=True)
        names = rests if len({*firsts}) == 1 and all(dots) else ()


def _other_side(side: Side) -> Side:
    return "text" if side == "image" else "image"


def _telling(side: Side) -> set[str]:
    """Names that tell a tower of this side, and none of the other side."""
    found: set[str] = set()
    for layout in layouts():
        found |= set(marks(layout, side)) - set(marks(layout, _other_side(side)))
    return found


def match_names(names: Collection[str], part: Part, path: Path) -> tuple[Layout, Part]:
    """The same by the names of weights alone, which `path` is called in messages."""
    if found := whole(names):
        return found, part
    return _match_model(names, path) if part == "model" else (_match_tower(names, part, path), part)


def _match_model(names: Collection[str], path: Path) -> tuple[Layout, Part]:
    for layout in layouts():
        marked = all(set(marks(layout, side)) & set(names) for side in get_args(Side))
        if marked:
            raise CheckpointError(
                f"{path} holds both towers of a model ({layout.name}) but no {layout.scale[0]}, "
                "without which similarities have no temperature: add it (the logarithm of the "
                "factor, ln 100 = 4.6052 in most), or start a model's towers from the file "
                "(--model.image.init, --model.text.init)"
            )
    for side in get_args(Side):
        if found := tower(names, side):
            _check_alone(names, side, path)
            return found, side
    hints = [hint for layout in layouts() if (hint := layout.hint(names))]
    missing = {layout: layout.lacks(names) for layout in layouts() if layout.text}
    raise CheckpointError(
        f"{path} is in no layout that Diptych knows: "
        f"{'; '.join(hints) or _compared(missing, names)}"
    )


def _check_alone(names: Collection[str], side: Side, path: Path) -> None:
    """Raises CheckpointError for a tower that has parts of the other one beside it: what is missing
    was lost."""
    if found := sorted(_telling(_other_side(side)) & set(names)):
        raise CheckpointError(_parts(path, side, found[0]))


def _parts(path: Path, side: Side, name: str) -> str:
    return (
        f"{path} holds the {side} tower of a model and of the {_other_side(side)} tower only "
        f"parts ({name}); save one of them alone, or the whole model"
    )


def _match_tower(names: Collection[str], side: Side, path: Path) -> Layout:
    if found := tower(names, side):
        return found
    for layout in layouts():
        if set(marks(layout, side)) & set(names):
            return layout  # its table says which names it doesn't know
    missing = {layout: marks(layout, side)[0] for layout in layouts() if marks(layout, side)}
    raise CheckpointError(
        f"{path} holds no {side} tower that Diptych knows: {_compared(missing, names)}"
    )


def _compared(missing: dict[Layout, str], names: Collection[str]) -> str:
    """What the weights are called, and what is `missing` for the layout that knows most of them."""
    unknown = {layout: len(layout.table(names).unknown(names)) for layout in missing}
    # Of several, the more general, but none that is tried when all others failed.
    general = sorted(missing, key=lambda layout: (layout.priority < 0, layout.priority))
    closest = min(general, key=lambda layout: unknown[layout])
    begin = f"its weights begin with {', '.join(list(names)[:3]) or 'nothing'}"
    if unknown[closest] == len(names):
        return f"{begin}; docs/formats.md has the layouts"
    return f"{begin}; it would need {missing[closest]} to be in the closest, {closest.name}"
