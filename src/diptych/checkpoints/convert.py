"""From any layout to any other, proven before it is called done."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from diptych.checkpoints.content import Config, described, read, say_assumed
from diptych.checkpoints.convert_tower import convert_tower, proven_deploy
from diptych.config import ClipConfig, ImageTowerConfig, PreprocessConfig, TowerConfig
from diptych.config.alone import alone
from diptych.errors import CheckpointError, UnknownNameError
from diptych.families import layouts
from diptych.inputs import Preprocess, build_tokenizer
from diptych.models import Clip
from diptych.models.clip import unit
from diptych.weights import native
from diptych.weights.assemble import assemble
from diptych.weights.atomic import atomic
from diptych.weights.layout import Export
from diptych.weights.leftovers import left_behind
from diptych.weights.native import Meta
from diptych.weights.state import State
from diptych.weights.tower import tower_weights

NATIVE = "native"


def targets() -> list[str]:
    """What can be written: the native format, and the layouts that families export.

    >>> from diptych.checkpoints.convert import targets
    >>> targets()[:4]
    ['native', 'unireplknet', 'transformers', 'pe']
    """
    return [NATIVE, *dict.fromkeys(export.name for export in _exports())]


def _exports() -> list[Export]:
    found: list[Export] = []
    for layout in layouts():
        found += layout.exports
    return found


def convert(
    source: str | Path,
    to: str,
    out: str | Path,
    *,
    config: Config | str | Path | None = None,
    deploy: bool = False,
    accept_guess: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Writes the model at `source` (see `load_model`) in the layout `to` at `out`: a folder, or a
    file for `openai`, `eva`, `declip` and `mobileclip`; for `unireplknet` a file of its image tower
    alone, which `source` may be, too (`convert_tower`).

    The weights keep their dtype. Before `out` gets its name it is read back: every tensor must be
    bit-equal, and the features that its own configuration gives must equal the source's. `config`
    (or a model's name, or the path of a published JSON configuration) overrules what stands beside
    foreign weights. `deploy` merges an image tower that has a deploy form. `accept_guess`: weights
    that don't say how they are built are converted by what their shapes suggest, which the native
    format's provenance then says. `say` gets a sentence on what of the source stays behind. Raises
    CheckpointError if `out` exists, or `to` can't hold this model.

    >>> import tempfile
    >>> from dataclasses import replace
    >>> from diptych import models, pretrained
    >>> from diptych.checkpoints import convert
    >>> from diptych.families.clip import VitConfig
    >>> from diptych.weights import save_model
    >>> image = VitConfig(image_size=32, width=64, layers=1, heads=1, mlp_width=128)
    >>> model = models.build(replace(pretrained.get("tiny"), image=image))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = convert(save_model(f"{folder}/model", model), "open-clip", f"{folder}/out")
    ...     sorted(file.name for file in path.iterdir())
    ['open_clip_config.json', 'open_clip_model.safetensors']
    """
    if to not in targets():
        raise UnknownNameError("layout", to, targets())
    alone = next((each for each in _exports() if each.name == to and each.part == "image"), None)
    if alone:
        return convert_tower(
            source, alone, out, config=config, deploy=deploy, accept_guess=accept_guess
        )
    out = Path(out)
    content = read(source, config=config)
    say_assumed(source, content, accepted=accept_guess)
    state, meta = content.state, described(content)
    if said := left_behind(meta.provenance):
        say(said)
    if _export(to, meta).cuts and meta.config.missing is None:
        state, meta = _image_alone(state, meta)
        say(f"{to} holds image towers alone: the text tower stays behind")
    try:
        if deploy:
            state, meta = _deployed(state, meta)
        original = assemble(State.of(state), meta.config)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    export = _export(to, meta)
    if meta.config.missing and not export.alone:
        fitting = (each for each in _exports() if each.alone and each.holds(_of_kind(meta)))
        able = sorted({NATIVE, *(each.name for each in fitting)})
        raise CheckpointError(
            f"{source} has no {meta.config.missing} tower, and {to} is for whole models; "
            f"{' and '.join(able)} hold one tower"
        )
    with atomic(out, replaceable=lambda _: False) as room:
        try:
            _write(room / out.name, export, state, meta)
        except CheckpointError as error:
            raise CheckpointError(f"{source} can't be written as {to}: {error}") from error
        _verify(room / out.name, export, state, meta.config, original)
    return out


def _deployed(state: State, meta: Meta) -> tuple[State, Meta]:
    image: ImageTowerConfig = meta.config.image
    if not tower_weights(image).has_deploy_form:
        raise CheckpointError(f"a {type(image).__name__} has no deploy form")
    merged, tower = proven_deploy(state.part("image."), image)
    return state.replaced("image.", merged), replace(meta, config=replace(meta.config, image=tower))


def _image_alone(state: State, meta: Meta) -> tuple[State, Meta]:
    """Of a whole model."""
    whole = meta.config
    config = alone(whole.image, whole.embed_dim, preprocess=whole.preprocess)
    scale = {"logit_scale": torch.tensor([config.logit_scale])}
    image = State({}).replaced("image.", state.part("image.")).updated(scale)
    return image, replace(meta, config=config)


def _export(to: str, meta: Meta) -> Export:
    """What writes this model: the native format, or of the layouts of that name the first that is
    meant for its towers. Raises CheckpointError where none is."""
    if to != NATIVE:
        tower, text = _of_kind(meta), meta.config.text
        fitting = [each for each in _exports() if each.name == to and each.holds(tower)]
        meant = (each for each in fitting if each.texts and each.texts(text))
        general = (each for each in fitting if not each.texts)
        if export := next(meant, None) or next(general, None):
            return export
        raise CheckpointError(f"{to} has no place for a {type(tower).__name__}")
    # What stays behind isn't this folder's any more.
    kept = {name: note for name, note in meta.provenance.items() if name != "unused"}
    provenance = kept | {"sha256": native.sha256(meta.file)}
    return Export(name=NATIVE, write=partial(native.write, provenance=provenance), alone=True)


def _of_kind(meta: Meta) -> TowerConfig:
    """The tower by which it is told what writes a model."""
    return meta.config.text if meta.config.missing == "image" else meta.config.image


def _write(path: Path, to: Export, state: Mapping[str, Tensor], meta: Meta) -> None:
    to.write(path, meta.config, {name: tensor.contiguous() for name, tensor in state.items()})
    if meta.config.tokenizer.kind == "huggingface" and path.is_dir():
        length = meta.config.text.context_length
        build_tokenizer(meta.config.tokenizer, length, meta.folder).save(path)


def _verify(
    path: Path,
    to: Export,
    state: Mapping[str, Tensor],
    config: ClipConfig,
    original: Clip,
) -> None:
    content = read(path, config=config if to.place == "file" else None)
    again, meta = content.state, described(content)
    differing = [
        name
        for name, tensor in state.items()
        if name not in again or not _same(tensor, again[name])
    ]
    if differing or len(again) != len(state):
        raise CheckpointError(
            f"{to.name} doesn't give back the same weights ({len(differing)} differ): "
            "please report this"
        )
    if _seen(meta.config) != _seen(config):
        raise CheckpointError(
            f"{to.name} doesn't give back the same preprocessing: please report this"
        )
    pixels, ids = _example(config)
    converted = assemble(State.of(again), meta.config)
    pairs = (
        (original.image, converted.image, pixels),
        (original.text, converted.text, ids),
    )
    with torch.inference_mode():
        for ours, theirs, example in pairs:
            if not ours.config.present:
                continue
            if not torch.equal(unit(ours(example).pooled), unit(theirs(example).pooled)):
                raise CheckpointError(
                    f"{to.name} doesn't give back the same features: please report this"
                )


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def _seen(config: ClipConfig) -> tuple[PreprocessConfig, int]:
    """How pictures are made: without the padding's colour where nothing is padded, and with pixels
    for the share that a crop keeps."""
    how = config.preprocess
    fill = how.fill if how.resize == "longest" else 0
    return replace(how, fill=fill, crop_share=1.0), int(config.image.image_size / how.crop_share)


def _example(config: ClipConfig) -> tuple[Tensor, Tensor]:
    """Two random pictures, as the tower takes them, and captions."""
    generator = torch.Generator().manual_seed(0)
    size = config.image.image_size
    levels = torch.randint(256, (2, 3, size, size), generator=generator, dtype=torch.uint8)
    pixels = torch.stack([*map(Preprocess(config.preprocess, size), levels)])
    vocab_size = config.text.vocabulary or 8
    ids = torch.randint(1, vocab_size, (2, config.text.context_length), generator=generator)
    return pixels, ids
