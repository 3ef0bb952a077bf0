"""Models that open_clip and transformers have loaded, as loads to compare."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from diptych.checkpoints.describe import read_config
from diptych.checkpoints.detect import match_names
from diptych.config import ClipConfig
from diptych.diagnosis.load import Load
from diptych.errors import CheckpointError, ConfigError, first_line
from diptych.weights.state import State


def from_open_clip(
    model: Any, preprocess: Any, tokenizer: Any, config: ClipConfig | str | Path, name: str = ""
) -> Load:
    """What `open_clip.create_model_and_transforms` and `get_tokenizer` gave: the model, its
    transform in evaluation, its tokenizer. `config`: the name of the model, which it doesn't know
    itself, or its JSON. Also for another model with `encode_image`, `encode_text` and weights in a
    layout that Diptych reads, such as OpenAI's.

    Raises CheckpointError for weights that are in none, UnknownNameError for a name that nothing
    has.
    """
    device = next(model.parameters()).device
    dtype = max(model.visual.parameters(), key=Tensor.numel).dtype
    known = read_config(config)
    assert known is not None
    return Load(
        name=name or f"open_clip:{config}",
        config=known,
        weights=_ours(model.state_dict(), "open_clip's model"),
        pixels=lambda picture: preprocess(picture),
        ids=lambda texts: tokenizer(texts).cpu(),
        encode_image=lambda pixels: model.encode_image(pixels.to(device, dtype)),
        encode_text=lambda ids: model.encode_text(ids.to(device)),
    )


def from_transformers(model: Any, processor: Any, name: str = "") -> Load:
    """A `CLIPModel`, `SiglipModel`, … of transformers and its processor. Texts are padded to the
    context, as all of these models were trained.

    Raises CheckpointError for a model that Diptych doesn't know.
    """
    device, dtype = model.device, next(model.vision_model.parameters()).dtype
    config = _described(model.config)
    context = config.text.context_length

    def pixels(picture: Image.Image) -> Tensor:
        return processor.image_processor(images=picture, return_tensors="pt")["pixel_values"][0]

    def ids(texts: list[str]) -> Tensor:
        return processor.tokenizer(
            texts, padding="max_length", max_length=context, truncation=True, return_tensors="pt"
        )["input_ids"]

    return Load(
        name=name or f"transformers:{model.config.name_or_path}",
        config=config,
        weights=_ours(model.state_dict(), "transformers' model"),
        pixels=pixels,
        ids=ids,
        encode_image=lambda pixels: _pooled(
            model.get_image_features(pixel_values=pixels.to(device, dtype))
        ),
        encode_text=lambda ids: _pooled(model.get_text_features(input_ids=ids.to(device))),
    )


def _pooled(found: Any) -> Tensor:
    """Since transformers 5 features come in an object of several."""
    return found if isinstance(found, Tensor) else found.pooler_output


def _described(config: Any) -> ClipConfig:
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        found = read_config(Path(folder) / "config.json")
    assert found is not None
    return found


def _ours(weights: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    state = State.of(weights)
    layout, _ = match_names(state, "model", Path(what))
    return dict(layout.table(state).to_ours(state))


def open_clip_named(name: str, pretrained: str | None, dtype: str, device: str) -> Load:
    """What open_clip loads by a name and `pretrained`. Raises ConfigError, with open_clip's own
    sentence, for what it refuses, and where it isn't installed."""
    try:
        import open_clip
    except ImportError as error:
        raise ConfigError("open_clip: needs open_clip: `pip install open_clip_torch`") from error
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained, precision=dtype, device=device
        )
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # whatever it raises for names, files and networks
        raise ConfigError(f"open_clip can't load {name}: {first_line(error)}") from error
    said = f"open_clip:{name}" + (f":{pretrained}" if pretrained else "")
    return from_open_clip(model.eval(), preprocess, tokenizer, _config_of(name), said)


def _config_of(name: str) -> ClipConfig | str | Path:
    """What open_clip knows of a model by its name: a folder's or a repository's own JSON, else the
    name's."""
    import json

    import open_clip

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "open_clip_config.json"
        content: Any = open_clip.get_model_config(name)
        if content is None:
            raise ConfigError(f"open_clip has no configuration of {name}")
        file.write_text(json.dumps(content))
        found = read_config(file)
    assert found is not None
    return found


def transformers_named(name: str, dtype: str, device: str) -> Load:
    """What transformers loads from a folder or `org/name`. Raises ConfigError as
    `open_clip_named`; `dtype` empty: as the weights are stored, transformers' default."""
    try:
        from transformers import AutoModel, AutoProcessor
    except ImportError as error:
        raise ConfigError(
            "transformers: needs transformers: `pip install diptych[bridges]`"
        ) from error
    try:
        model = AutoModel.from_pretrained(name, dtype=dtype or "auto").to(device).eval()
        processor = AutoProcessor.from_pretrained(name)
    except Exception as error:  # whatever it raises for names, files and networks
        raise ConfigError(f"transformers can't load {name}: {first_line(error)}") from error
    try:
        return from_transformers(model, processor, f"transformers:{name}")
    except AttributeError as error:  # a model of one tower, or a processor of one kind of input
        raise CheckpointError(
            f"transformers:{name} is a {type(model).__name__} with a {type(processor).__name__}, "
            "and not a model of two towers with both of its processors"
        ) from error
