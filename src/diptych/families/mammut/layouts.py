"""Files of MaMMUT: open_clip's, and those of LAION's fork (`mammut_ViT-*/epoch_latest.pt`), which
are known by their names of tensors."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import ClipConfig
from diptych.config.serialize import difference
from diptych.errors import CheckpointError
from diptych.families.clip.config import VitConfig
from diptych.families.clip.layouts import open_clip, openai
from diptych.families.clip.layouts.open_clip_config import from_json
from diptych.families.clip.layouts.open_clip_inputs import preprocess_json
from diptych.families.clip.weights import heads, vit_fields
from diptych.families.mammut.config import MammutDecoderConfig, MammutTextConfig
from diptych.families.mammut.open_clip import (
    decoder_rules,
    fork_json,
    is_fork,
    text_rules,
)
from diptych.families.mammut.pretrained import MODELS
from diptych.weights.layout import GIVE_CONFIG, Export, Layout, WeightSource
from diptych.weights.mapping import Table, count_numbers
from diptych.weights.read import read_json
from diptych.weights.state import State
from diptych.weights.writing import save_tensors

_UNSEEN = {"image.heads", "image.image_size", "text.heads", "decoder.heads"}
"""Fields in which models of the same shapes may differ, or that the shapes tell."""
_NEEDED = (
    "image.class_token",
    "image.patch.weight",
    "image.positions",
    "image.projection.weight",
    "text.tokens.weight",
    "text.positions",
    "decoder.readers.0.mlp.up.weight",
)
"""What the configuration is read from."""


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From `open_clip_config.json`; without it from the shapes, and the published model of these.
    How pictures and texts are read isn't in the weights: by the program that has such names.

    Raises CheckpointError for shapes that no published model has.
    """
    beside = source.file.parent / open_clip.CONFIG
    if beside.is_file():
        return from_json(read_json(beside)), {"config": open_clip.CONFIG}
    fork = is_fork(source.weights.tensors)
    inferred = infer(state, fork)
    alike = [each for each in MODELS.values() if difference(each, inferred).keys() <= _UNSEEN]
    if not alike:
        raise CheckpointError(
            "no published MaMMUT has towers of these shapes, so their heads can't be told; "
            + GIVE_CONFIG
        )
    side = _side(inferred)
    # Pictures may have a margin that makes no patch: 512 pixels of 14.
    known = next((each for each in alike if _side(each) == side), None)
    if known is None:
        image = replace(alike[0].image, image_size=inferred.image.image_size)
        known = replace(alike[0], image=image)
    program = "LAION's fork" if fork else "open_clip"
    read = f"gelu, not quick_gelu; {program}'s means of tokens; heads as in the published models"
    return known, {"config": "shapes", "assumed": f"{read}; CLIP's preprocessing"}


def _side(config: ClipConfig) -> int:
    assert isinstance(config.image, VitConfig)
    return config.image.side


def infer(state: State, fork: bool) -> ClipConfig:
    """The configuration behind weights under our names, of the `fork` or of open_clip; heads are of
    64 channels. Raises CheckpointError for what isn't there."""
    shapes = state.shapes
    for name in _NEEDED:
        if name not in shapes:
            raise CheckpointError(f"it has no {name}, which every MaMMUT has (in Diptych's names)")
    image = VitConfig(**vit_fields(state.part("image.").shapes), pool="all" if fork else "patches")
    vocab_size, width = shapes["text.tokens.weight"].shape
    layers, readers = (count_numbers(shapes, name) for name in ("text.blocks.", "decoder.readers."))
    every = -(-layers // readers)
    lean = "text.blocks.0.mlp.up.weight" not in shapes
    sizes: dict[str, Any] = {
        "context_length": len(shapes["text.positions"]),
        "vocab_size": vocab_size,
        "width": width,
        "layers": layers,
        "heads": heads(width, "text"),
        "mlp_width": len(shapes["decoder.readers.0.mlp.up.weight"]),
    }
    text = MammutTextConfig(
        **sizes,
        pool="all" if fork else "real",
        masked=not fork,
        projection="text.projection.weight" in shapes,
        lean_every=every if lean else 0,
    )
    decoder = MammutDecoderConfig(**sizes, every=every, picture_width=image.width)
    embed_dim = len(shapes["image.projection.weight"])
    return ClipConfig(image=image, text=text, decoder=decoder, embed_dim=embed_dim)


def export_fork(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """Weights and configuration for LAION's fork. Raises CheckpointError for what it can't hold."""
    written = {"model_cfg": fork_json(config), "preprocess_cfg": preprocess_json(config.preprocess)}
    rules = (*openai.SCALE, *openai.VIT, *text_rules(fork=True), *decoder_rules(fork=True))
    foreign = Table(rules=rules).to_foreign(state)
    folder.mkdir()
    save_tensors(folder / open_clip.WEIGHTS, foreign, {"format": "pt"})
    (folder / open_clip.CONFIG).write_text(json.dumps(written, indent=2) + "\n")


def layouts() -> tuple[Layout, ...]:
    """One for both: `--to open-clip` writes open_clip's names, `--to mammut` those of the fork."""
    return (
        Layout(
            name="mammut",
            image=("visual.conv1.weight",),
            text=("text.resblocks.0.ln_1.weight",),
            scale=("logit_scale",),
            table=open_clip.table,
            config=read_config,
            config_file=open_clip.CONFIG,
            weight_files=(open_clip.WEIGHTS, "open_clip_pytorch_model.bin"),
            exports=(Export(name="mammut", write=export_fork),),
            priority=1,
        ),
    )
