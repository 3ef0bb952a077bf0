"""The folders of GenLIP's authors, who write them as transformers does; of the model, which writes
captions, the image tower is read and written.

https://github.com/YanFangCS/GenLIP, veomni/models/transformers/genlip
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from diptych.config import ClipConfig, ImageTowerConfig, PreprocessConfig, TowerConfig
from diptych.config.serialize import read_as
from diptych.errors import CheckpointError, ConfigError, misfit
from diptych.families.clip.layouts import transformers
from diptych.families.clip.layouts import transformers_inputs as inputs
from diptych.families.genlip.config import GenlipImageConfig, GenlipNaflexConfig, GenlipSizes
from diptych.families.genlip.layouts.captioner import ASSUMED
from diptych.families.genlip.pretrained import NATIVE, SQUARES
from diptych.families.infer import infer_image
from diptych.weights.layout import Export, Inputs, Layout, WeightSource, refuse
from diptych.weights.mapping import Rule, Table, rows
from diptych.weights.read import read_json
from diptych.weights.state import State

MODEL = "genlip"
_PATCH = "vision_embeddings.patch_embedding"
_NATIVE = "GenLIPNaViTImageProcessor"
_WORDS = {  # ours: theirs, all of which their configurations say
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
    "patch_size": "patch_size",
    "activation": "hidden_act",
    "gated_mlp": "use_swiglu_ffn",
    "gated_attention": "gated_attention",
}
_DEFAULTS = {"rotary_theta": ("rope_theta", 10000.0), "norm_eps": ("layer_norm_eps", 1e-6)}
_TABLE = Table(
    rules=(
        *rows(
            "image.",
            "",
            ("patch.*", f"{_PATCH}.*"),
            ("norm_post.*", "ln_post.*"),
            ("projection.*", "proj.*"),
        ),
        Rule("image.blocks.#.*", "visual.layers.#.*"),
    ),
    noted=("embeddings.weight", "in_proj.*", "lm_head.*"),
)


def table(names: Collection[str]) -> Table:
    """The same for every file."""
    return _TABLE


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """From config.json; without it from the shapes."""
    file = source.file.parent / transformers.CONFIG
    if file.is_file() and (tower := describe_image(read_json(file), file)):
        return tower, {"config": file.name}
    return infer_image(state, "gelu"), {"assumed": f"{ASSUMED}; GenLIP's preprocessing"}


def describe_image(content: dict[str, Any], path: Path) -> ImageTowerConfig | None:
    """The tower of a model that config.json describes: for pictures of their own aspect if the
    image processor beside it makes such. Raises CheckpointError for one that ours isn't."""
    if content.get("model_type") != MODEL:
        return None
    native = (inputs.read_processor(path.parent) or {}).get("image_processor_type") == _NATIVE
    kind = GenlipNaflexConfig if native else GenlipImageConfig
    try:
        return _tower(kind, content)
    except (ConfigError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"{path.name} doesn't describe a GenLIP model: {misfit(error)}"
        ) from error


def _tower(kind: type[GenlipSizes], cfg: dict[str, Any]) -> GenlipSizes:
    said = {ours: cfg[theirs] for ours, theirs in _WORDS.items()}
    said |= {ours: cfg.get(word, default) for ours, (word, default) in _DEFAULTS.items()}
    scaling = cfg.get("rope_scaling") or {}
    if not cfg.get("mrope_interleaved") or scaling.get("rope_type", "default") not in _PLAIN:
        raise ConfigError("positions are interleaved rotations, which aren't scaled")
    pairs = said["width"] // said["heads"] // 2
    _, rows_, columns = read_as(
        tuple[int, int, int], tuple(scaling.get("mrope_section", (12, 12, 12))), "mrope_section"
    )
    # Theirs may have fewer pairs than a head; those that are left turn by time.
    said["rotary_sections"] = (pairs - rows_ - columns, rows_, columns)
    said["layer_scale"] = cfg.get("ls_init_value") or None
    size = cfg.get("image_size", 14 * said["patch_size"])
    return kind(image_size=read_as(int, size, "image_size"), **said)


_PLAIN = ("default", "mrope")


def alone_inputs(folder: Path, tower: TowerConfig) -> Inputs | None:
    """From preprocessor_config.json, and else as in the authors' training."""
    cfg = inputs.read_processor(folder)
    if isinstance(tower, GenlipNaflexConfig):
        how = replace(NATIVE, patch_size=tower.patch_size)
        if cfg is not None:
            how = inputs.described(folder, cfg, lambda cfg: _native(cfg, how))
        return Inputs(preprocess=how)
    if not isinstance(tower, GenlipImageConfig):
        return None
    return Inputs(preprocess=inputs.read_preprocess(folder, tower.image_size, SQUARES))


def _native(cfg: dict[str, Any], how: PreprocessConfig) -> PreprocessConfig:
    """Of pictures of their own aspect, no larger than in training: the processor's own default
    would make 5120 patches of each."""
    most = read_as(int, cfg.get("max_pixels", how.patches * how.patch_size**2), "max_pixels")
    patches = min(most // how.patch_size**2, how.patches)
    return inputs.read_normal(cfg, how, resize="native", patches=patches, patch_size=how.patch_size)


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """The tower's tensors and both descriptions, under the authors' names: their code needs a
    model's words, too, which a tower hasn't. Raises CheckpointError for a tower with parts that
    theirs hasn't."""
    image = config.image
    assert isinstance(image, GenlipSizes)
    content = _config_json(image)
    tower = {name: tensor for name, tensor in state.items() if name.startswith("image.")}
    weights = _TABLE.to_foreign(tower)
    folder.mkdir()
    save_file(weights, folder / transformers.WEIGHTS, metadata={"format": "pt"})
    for name, said in (
        (transformers.CONFIG, content),
        (inputs.PREPROCESSOR, _preprocess_json(config)),
    ):
        (folder / name).write_text(json.dumps(said, indent=2) + "\n")


def _config_json(image: GenlipSizes) -> dict[str, Any]:
    if image.norm != "layer" or not (image.attention_bias and image.mlp_bias and image.patch_bias):
        raise CheckpointError(
            "the authors' code of GenLIP has layer norms, and biases in all linear layers; "
            "--to native keeps others"
        )
    values = {ours: getattr(image, ours) for ours in (*_WORDS, *_DEFAULTS)}
    said = {theirs: values[ours] for ours, theirs in _WORDS.items()}
    said |= {word: values[ours] for ours, (word, _) in _DEFAULTS.items()}
    return said | {
        "model_type": MODEL,
        "architectures": ["GenLIPModel"],
        "image_size": image.image_size,
        "ls_init_value": image.layer_scale or 0.0,
        "mrope_interleaved": True,
        "rope_scaling": {"type": "mrope", "mrope_section": list(image.rotary_sections)},
    }


def _preprocess_json(config: ClipConfig) -> dict[str, Any]:
    how = config.preprocess
    if how.resize != "native":
        return inputs.preprocess_json(config)
    return {
        "image_processor_type": _NATIVE,
        "do_resize": True,
        "resample": inputs.RESAMPLE[how.interpolation],
        "patch_size": how.patch_size,
        "max_pixels": how.patches * how.patch_size**2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(how.mean),
        "image_std": list(how.std),
        "do_convert_rgb": True,
    }


GENLIP = Layout(
    name="genlip",
    image=(f"{_PATCH}.weight",),
    text=(),
    scale=(),
    table=table,
    config=refuse,
    config_file=transformers.CONFIG,
    model_types=(MODEL,),
    tower_config=tower_config,
    describe_image=describe_image,
    inputs=alone_inputs,
    weight_files=(),
    exports=(
        Export(
            name="genlip",
            write=export,
            holds=lambda tower: isinstance(tower, GenlipSizes),
            alone=True,
            cuts=True,
        ),
    ),
)
