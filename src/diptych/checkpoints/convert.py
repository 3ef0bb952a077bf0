"""From any format to any other, proven before it is called done."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from diptych.checkpoints import native
from diptych.checkpoints.assemble import assemble
from diptych.checkpoints.atomic import atomic
from diptych.checkpoints.convert_tower import convert_tower, proven_deploy
from diptych.checkpoints.describe import read_config
from diptych.checkpoints.formats import declip, eva, eva_transformers, open_clip, transformers
from diptych.checkpoints.load import read_model
from diptych.checkpoints.native import Meta
from diptych.checkpoints.rename import left_behind
from diptych.checkpoints.state import State
from diptych.config import ClipConfig, EvaConfig, PreprocessConfig, TextConfig, UniRepLKNetConfig
from diptych.errors import CheckpointError, UnknownNameError
from diptych.inputs import build_tokenizer
from diptych.models import Clip

TARGETS = ("native", "open-clip", "openai", "transformers", "eva", "declip", "unireplknet")
_FILES = ("openai", "eva", "declip")
"""Of which the weights are all: their reader has to be told the configuration."""


def convert(
    source: str | Path,
    to: str,
    out: str | Path,
    *,
    config: ClipConfig | str | Path | None = None,
    deploy: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Writes the model at `source` (see `load_model`) in the format `to` at `out`: a folder, or a
    file for `openai`, `eva` and `declip`; for `unireplknet` a file of its image tower alone, which
    `source` may be, too (`convert_tower`).

    The weights keep their dtype. Before `out` gets its name it is read back: every tensor must be
    bit-equal, and the features that its own configuration gives must equal the source's. `config`
    (or a zoo name, or the path of a published JSON configuration) overrules what stands beside
    foreign weights. `deploy` merges an image tower that has a deploy form. `say` gets a sentence on
    what of the source stays behind. Raises CheckpointError if `out` exists, or `to` can't hold this
    model."""
    if to not in TARGETS:
        raise UnknownNameError("checkpoint format", to, TARGETS)
    if to == "unireplknet":
        return convert_tower(source, out, deploy=deploy)
    out = Path(out)
    state, meta = read_model(source, config=read_config(config))
    if said := left_behind(meta.provenance):
        say(said)
    try:
        if deploy:
            state, meta = _deployed(state, meta)
        original = assemble(State.of(state), meta.config)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    with atomic(out, replaceable=lambda _: False) as room:
        try:
            _write(room / out.name, to, state, meta)
        except CheckpointError as error:
            raise CheckpointError(f"{source} can't be written as {to}: {error}") from error
        _verify(room / out.name, to, state, meta.config, original)
    return out


def _deployed(state: State, meta: Meta) -> tuple[State, Meta]:
    if not isinstance(meta.config.image, UniRepLKNetConfig):
        raise CheckpointError(f"a {type(meta.config.image).__name__} has no deploy form")
    image, tower = proven_deploy(state.part("image."), meta.config.image)
    return state.replaced("image.", image), replace(meta, config=replace(meta.config, image=tower))


def _write(path: Path, to: str, state: Mapping[str, Tensor], meta: Meta) -> None:
    folder = eva_transformers if isinstance(meta.config.image, EvaConfig) else transformers
    # What stays behind isn't this folder's any more.
    told = {name: note for name, note in meta.provenance.items() if name != "unused"}
    write = {
        "native": partial(native.write, provenance=told | {"sha256": native.sha256(meta.file)}),
        "open-clip": open_clip.export,
        "openai": open_clip.export_file,
        "transformers": folder.export,
        "eva": eva.export_file,
        "declip": declip.export_file,
    }[to]
    write(path, meta.config, {name: tensor.contiguous() for name, tensor in state.items()})
    if meta.config.tokenizer.kind == "huggingface" and path.is_dir():
        build_tokenizer(meta.config.tokenizer, meta.config.text.context_length, meta.folder).save(
            path
        )


def _verify(
    path: Path, to: str, state: Mapping[str, Tensor], config: ClipConfig, original: Clip
) -> None:
    again, meta = read_model(path, config=config if to in _FILES else None)
    differing = [
        name
        for name, tensor in state.items()
        if name not in again or not _same(tensor, again[name])
    ]
    if differing or len(again) != len(state):
        raise CheckpointError(
            f"{to} doesn't give back the same weights ({len(differing)} differ): please report this"
        )
    if _seen(meta.config.preprocess) != _seen(config.preprocess):
        raise CheckpointError(f"{to} doesn't give back the same preprocessing: please report this")
    pixels, ids = _example(config)
    converted = assemble(State.of(again), meta.config)
    with torch.inference_mode():
        for ours, theirs in zip(original(pixels, ids), converted(pixels, ids), strict=True):
            if not torch.equal(ours, theirs):
                raise CheckpointError(
                    f"{to} doesn't give back the same features: please report this"
                )


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def _seen(preprocess: PreprocessConfig) -> PreprocessConfig:
    """Without the padding's colour where nothing is padded."""
    return preprocess if preprocess.resize == "longest" else replace(preprocess, fill=0)


def _example(config: ClipConfig) -> tuple[Tensor, Tensor]:
    """Two random pictures and captions."""
    generator = torch.Generator().manual_seed(0)
    size = config.image.image_size
    vocab_size = config.text.vocab_size if isinstance(config.text, TextConfig) else 8
    ids = torch.randint(1, vocab_size, (2, config.text.context_length), generator=generator)
    return torch.randn(2, 3, size, size, generator=generator), ids
