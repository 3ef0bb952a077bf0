"""open_clip's layouts: OpenAI's names, `text.` before the text tower's, other libraries' towers.

`open_clip_config.json` beside the weights says what they don't.
https://github.com/mlfoundations/open_clip
"""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.config import (
    Activation,
    ClipConfig,
    DecoderConfig,
    ImageTowerConfig,
    TextTowerConfig,
    TowerConfig,
)
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import openai
from diptych.families.clip.layouts.open_clip_config import (
    from_json,
    is_custom,
    parts_of,
    to_json,
)
from diptych.families.clip.layouts.towers import OpenClipTower, open_clip_towers
from diptych.families.clip.published import check_vocabulary, published, published_tower
from diptych.families.infer import infer, infer_image
from diptych.weights.archive import has_quick_gelu
from diptych.weights.atomic import save_torch
from diptych.weights.layout import GIVE_CONFIG, Export, Layout, WeightSource
from diptych.weights.mapping import Rule, Table
from diptych.weights.read import read_json
from diptych.weights.state import State
from diptych.weights.writing import save_tensors

NAME = "open-clip"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names."""
    rules, ignored = list[Rule](openai.SCALE), list[str](openai.IGNORED)
    for base in (ImageTowerConfig, TextTowerConfig, DecoderConfig):
        tower = _fitting(base, names)
        rules += tower.rules(names) if tower else ()
        ignored += tower.ignored if tower else ()
    if openai.LONG in names:
        rules.insert(0, openai.LONG_POSITIONS)
    return Table(rules=tuple(rules), ignored=tuple(ignored))


def export_table(config: ClipConfig) -> Table:
    """The rules for a model of ours. Raises CheckpointError for a tower that open_clip hasn't."""
    image, text, *others = parts_of(config)
    text_rules = text.export_rules(config.text)
    if is_custom(config) and text_rules == openai.text(""):
        text_rules = openai.text("text.")
    rules = list(openai.SCALE)
    for decoder in others:  # before the text tower's, of which it may know one in another way
        rules += decoder.export_rules(config.decoder)
    return Table(rules=(*rules, *image.export_rules(config.image), *text_rules))


def _fitting(base: type[TowerConfig], names: Collection[str]) -> OpenClipTower | None:
    return next((tower for tower in _towers(base) if tower.fits(names)), None)


def _towers(base: type[TowerConfig]) -> Iterable[OpenClipTower]:
    return (tower for tower in open_clip_towers() if issubclass(tower.kind, base))


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From `open_clip_config.json`; without it from the shapes, and OpenAI's code where the file is
    OpenAI's, else the published models of these shapes."""
    if (source.file.parent / CONFIG).is_file():
        return from_json(read_json(source.file.parent / CONFIG)), {"config": CONFIG}
    _check_inferable(source)
    if set(openai.NUMBERS) <= source.weights.tensors.keys():
        said = "shapes, and OpenAI's code: quick_gelu, heads of 64 channels"
        return of_openai(state), {"config": said}
    return published(infer(state, _activation(source, state)))


def of_openai(state: State) -> ClipConfig:
    """The model that OpenAI's code makes of weights under our names. Raises CheckpointError for
    another vocabulary than its tokenizer's."""
    config = infer(state, "quick_gelu")
    check_vocabulary(config.text)
    return config


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """The image tower's, from the shapes and the published towers of these."""
    _check_inferable(source)
    return published_tower(infer_image(state, _activation(source, state)))


def _check_inferable(source: WeightSource) -> None:
    tower = _fitting(ImageTowerConfig, source.weights.tensors)
    if tower is not None and not tower.inferable:
        raise CheckpointError(
            f"{source.file} holds a {tower.kind.__name__}, whose configuration can't be inferred "
            f"from its weights, and no {CONFIG} lies beside it; {GIVE_CONFIG}"
        )


def _activation(source: WeightSource, state: State) -> Activation:
    """An archive's program tells it. So do Long-CLIP's two tables, and, likely, matrices in half
    precision beside norms in single, as OpenAI's code holds them on a GPU."""
    if source.weights.kind == "archive":
        return "quick_gelu" if has_quick_gelu(source.file) else "gelu"
    if openai.LONG in source.weights.tensors:
        return "quick_gelu"
    kinds = {tensor.dtype for tensor in state.shapes.values() if tensor.is_floating_point()}
    return "quick_gelu" if kinds == {torch.float16, torch.float32} else "gelu"


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """Both files, for `open_clip.create_model("local-dir:FOLDER")`.

    Raises CheckpointError for what open_clip can't hold.
    """
    written = to_json(config)
    foreign = export_table(config).to_foreign(state)
    folder.mkdir()
    save_tensors(folder / WEIGHTS, foreign, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(written, indent=2) + "\n")


def export_file(path: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """The state dict alone, as `torch.save` writes it: what OpenAI's loader takes as a `.pt`. Its
    three numbers stand in it, by which it is known.

    Raises CheckpointError for a model that OpenAI's loader wouldn't make of it.
    """
    openai.check(config)
    sizes = (config.image.image_size, config.text.context_length, config.text.vocabulary)
    numbers = {name: torch.tensor(size) for name, size in zip(openai.NUMBERS, sizes)}
    save_torch(path, export_table(config).to_foreign(state) | numbers)


def describe(content: dict[str, Any], path: Path) -> ClipConfig | None:
    """open_clip's schema or EVA-CLIP's, with or without `model_cfg` around it."""
    if "model_type" in content or "vision_config" in content:
        return None
    return from_json(content if "model_cfg" in content else {"model_cfg": content})


def layout() -> Layout:
    """open_clip's, with the marks of all towers that families offer for it."""
    images, texts = list(_towers(ImageTowerConfig)), list(_towers(TextTowerConfig))
    return Layout(
        name=NAME,
        image=_marks(images),
        text=_marks(texts),
        scale=("logit_scale",),
        table=table,
        config=read_config,
        config_file=CONFIG,
        tower_config=tower_config,
        describe=describe,
        weight_files=(WEIGHTS, "open_clip_pytorch_model.bin"),
        exports=(
            Export(name=NAME, write=export),
            Export(name="openai", write=export_file, place="file"),
        ),
    )


def _marks(towers: Iterable[OpenClipTower]) -> tuple[str, ...]:
    """Names of which one tells a tower: CLIP's own first."""
    found: list[str] = []
    for tower in reversed(list(towers)):
        found += tower.marks
    return tuple(dict.fromkeys(found))
