"""Which layout weights are in, by the names of the tensors, not by the names of the files."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal, get_args

from diptych.checkpoints.steps import is_run, newest
from diptych.config.model import Side
from diptych.errors import CheckpointError
from diptych.families import layouts
from diptych.inputs.strangers import check_links
from diptych.weights import deepspeed, native
from diptych.weights.hub import SUFFIXES
from diptych.weights.layout import Layout, WeightSource
from diptych.weights.pickled import AVERAGES
from diptych.weights.read import WeightFile, read_weights, split_key

Part = Literal["model", "image", "text"]
"""What is wanted of weights: all of a model, or one tower."""


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


def open_foreign(path: Path) -> WeightSource:
    """The weights at `path`: a file, `FILE#KEY` for one of several versions in it, or a folder with
    one. Raises CheckpointError."""
    place, key = split_key(path)
    if not place.exists():
        raise CheckpointError(f"there is no file or folder {place}")
    file = _weight_file(place) if place.is_dir() else place
    if place.is_dir():
        check_links(file.parent)
    weights = read_weights(file, key)
    if other := _other(weights.tensors):
        raise CheckpointError(f"{path} {other}")
    bare, beside = _without_prefix(weights, place)
    return WeightSource(path=path, file=file, weights=bare, beside=tuple(beside))


def _other(names: Collection[str]) -> str:
    """What weights are that begin as CLIP's and aren't; empty: none of these."""
    last = {name.rpartition(".")[2] for name in names}
    parts = set(".".join(names).split("."))
    if parts & {"lora_A", "lora_B", "lora_embedding_A", "lora_magnitude_vector"}:
        return (
            "is a LoRA adapter, or a model with one in it: merge it (PEFT's merge_and_unload()), "
            "and save the model"
        )
    if "positional_embedding_res" in last:
        return (
            "is a Long-CLIP checkpoint with two position tables; make one of them, the first 20 "
            "rows of positional_embedding and the others of positional_embedding_res, and save it "
            "as positional_embedding"
        )
    return ""


def _without_prefix(weights: WeightFile, path: Path) -> tuple[WeightFile, list[str]]:
    """The model's weights without what training code put before all their names (Lightning's
    `model.`, a wrapper's `clip_model.`), and the names of the rest. Of several models that which
    `weights.key` says, or else the only one that is no moving average. Raises CheckpointError for
    several, or where none is so called."""
    state, key = weights.tensors, weights.key
    is_bare = whole(state) or _tower(state, "image") or _tower(state, "text")
    if is_bare and not key:
        return weights, []
    found = [prefix for prefix in _prefixes(state) if whole(state.part(prefix))]
    for side in get_args(Side):
        found = found or [each for each in _prefixes(state) if _tower(state.part(each), side)]
    if key and f"{key}." not in found:
        prefixes = [] if is_bare else [prefix.rstrip(".") for prefix in found]
        names = ", ".join([*weights.versions, *prefixes])
        raise CheckpointError(
            f"{path} has no weights {key!r}, only "
            + (names or f"one set without a name: leave #{key} out")
        )
    trained = [prefix for prefix in found if not set(prefix.split(".")) & set(AVERAGES)]
    prefix = f"{key}." if key else next(iter(trained or found), "")
    others = [each for each in trained or found if not each.startswith(prefix)]
    if others and not key:
        raise CheckpointError(
            f"{path} holds several models ({', '.join([prefix, *others])}); say which: "
            f"{path}#{prefix.rstrip('.')}"
        )
    averages = [each.rstrip(".") for each in found if not each.startswith(prefix)]
    taken = f"{prefix.rstrip('.')}, not {', '.join(averages)}" if averages and not key else ""
    rest = [name for name in state if not name.startswith(prefix)]
    chosen = weights._replace(tensors=state.part(prefix), taken=taken or weights.taken)
    return chosen, [] if averages else rest


def _prefixes(names: Collection[str]) -> list[str]:
    """All that stands before a name that tells a layout, the shortest first."""
    marks: set[str] = set()
    for layout in layouts():
        marks |= {*layout.image, *layout.text}
    found: set[str] = set()
    for name in names:
        parts = name.split(".")
        for i in range(1, len(parts)):
            if ".".join(parts[i:]) in marks:
                found.add(".".join(parts[:i]) + ".")
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def match(source: WeightSource, part: Part) -> tuple[Layout, Part]:
    """The layout of a model, or of a tower alone, and what there is to read: what is wanted, or of
    a model the tower that alone is there.

    Raises CheckpointError, saying what each layout would have had.
    """
    names = source.weights.tensors
    if part != "text" and not whole(names):
        described = (layout for layout in layouts() if layout.is_described(source))
        if found := next(described, None):
            return found, "image"
    return match_names(names, part, source.path)


def match_names(names: Collection[str], part: Part, path: Path) -> tuple[Layout, Part]:
    """The same by the names of weights alone, which `path` is called in messages."""
    if found := whole(names):
        return found, part
    return _match_model(names, path) if part == "model" else (_match_tower(names, part, path), part)


def _match_model(names: Collection[str], path: Path) -> tuple[Layout, Part]:
    for layout in layouts():
        marked = all(set(_marks(layout, side)) & set(names) for side in get_args(Side))
        if marked:
            raise CheckpointError(
                f"{path} holds both towers of a model ({layout.name}) but no {layout.scale[0]}, "
                "without which similarities have no temperature: add it (the logarithm of the "
                "factor, ln 100 = 4.6052 in most), or start a model's towers from the file "
                "(--model.image.init, --model.text.init)"
            )
    for side in get_args(Side):
        if found := _tower(names, side):
            _check_alone(names, side, path)
            return found, side
    tried = {layout.name: layout.lacks(names) for layout in layouts() if layout.text}
    hints = [hint for layout in layouts() if (hint := layout.hint(names))]
    raise CheckpointError(
        f"{path} is in no layout that Diptych knows: {'; '.join(hints) or _compared(tried, names)}"
    )


def _check_alone(names: Collection[str], side: Side, path: Path) -> None:
    """Raises CheckpointError for a tower that has parts of the other one beside it: what is missing
    was lost."""
    other = "text" if side == "image" else "image"
    marks: set[str] = set()
    for layout in layouts():
        marks |= set(_marks(layout, other)) - set(_marks(layout, side))
    if found := sorted(marks & set(names)):
        raise CheckpointError(
            f"{path} holds the {side} tower of a model and of the {other} tower only parts "
            f"({found[0]}); save one of them alone, or the whole model"
        )


def _match_tower(names: Collection[str], side: Side, path: Path) -> Layout:
    if found := _tower(names, side):
        return found
    for layout in layouts():
        if set(_marks(layout, side)) & set(names):
            return layout  # its table says which names it doesn't know
    tried = {layout.name: _marks(layout, side)[0] for layout in layouts() if _marks(layout, side)}
    raise CheckpointError(
        f"{path} holds no {side} tower that Diptych knows: {_compared(tried, names)}"
    )


def whole(names: Collection[str]) -> Layout | None:
    """The layout of a whole model with these names; None: of none that Diptych knows."""
    matching = (layout for layout in layouts() if layout.text and not layout.lacks(names))
    return next(matching, None)


def _tower(names: Collection[str], side: Side) -> Layout | None:
    """The layout that knows all `names`, among which is a tower of this `side`."""
    # What only the other tower tells apart is called by the more general layout's name.
    tried = layouts() if side == "image" else sorted(layouts(), key=lambda each: each.priority)
    for layout in tried:
        if set(_marks(layout, side)) & set(names) and not layout.table(names).unknown(names):
            return layout
    return None


def _marks(layout: Layout, side: Side) -> tuple[str, ...]:
    return layout.image if side == "image" else layout.text


def weight_files() -> list[str]:
    """Names that weights have in folders, the preferred first."""
    found: list[str] = []
    for layout in layouts():
        found += layout.weight_files
    return list(dict.fromkeys(found))


def _compared(tried: dict[str, str], names: Collection[str]) -> str:
    expected = ", ".join(f"{name} would have {missing}" for name, missing in tried.items())
    return f"{expected}; its weights begin with {', '.join(list(names)[:3]) or 'nothing'}"


def _weight_file(folder: Path) -> Path:
    if merged := deepspeed.weight_file(folder):
        return merged
    preferred = weight_files()
    files = [folder / name for name in preferred if (folder / name).is_file()]
    files = files or sorted(
        file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file()
    )
    if not files:
        raise CheckpointError(f"{folder} holds no weights and is no run with a checkpoint")
    if len(files) > 1 and files[0].name not in preferred:
        raise CheckpointError(
            f"{folder} holds {len(files)} weight files; name one of them, such as {files[0].name}"
        )
    return files[0]
