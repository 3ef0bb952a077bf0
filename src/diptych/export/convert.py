"""From anything that names weights to an exported folder, run and compared before it is there."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.checkpoints import load_model
from diptych.config import ClipConfig, TowerConfig
from diptych.config.model import Side
from diptych.errors import CheckpointError, ImageError, UnknownNameError
from diptych.export.compare import Comparison, compare
from diptych.export.immich import check_immich, write_beside
from diptych.export.kinds import KINDS
from diptych.export.load import opened, padding_tokenizer
from diptych.export.programs import SIDES, example, vectors_of
from diptych.inputs import Picture, Preprocess, Tokenizer, write_transformers_files
from diptych.models import Clip
from diptych.weights import exported
from diptych.weights.atomic import atomic
from diptych.weights.exported import Exported
from diptych.weights.native import Meta, sha256

NEAR = {"fp32": 0.9999, "int8": 0.99}
"""The least cosine with the model's vectors that is accepted where nobody says another."""
_NOISE = 12
"""Pictures of noise, where there are none."""
_MOST = 256
"""Pictures that are compared."""


def export(
    source: str | Path,
    to: str,
    out: str | Path,
    *,
    int8: bool = False,
    min_cosine: float | None = None,
    pictures: Iterable[Picture] | None = None,
    config: ClipConfig | TowerConfig | str | Path | None = None,
    accept_guess: bool = False,
) -> Comparison:
    """Writes the towers of the model at `source` (see `checkpoints.load_model`) to the folder `out`
    as programs of another runtime: `to` is one of `KINDS`. A tower with a deploy form is merged.

    `int8`: matrix products in eight bits. Then the programs are run, and their vectors compared
    with the model's: of `pictures` (the first 256 that can be read; None: noise) and of a few
    texts. Raises CheckpointError, and leaves nothing, where a cosine is below `min_cosine` (None:
    0.9999, of int8 0.99), where `out` exists, or where a tower can't be exported, and ConfigError
    where a package is missing.
    """
    if to not in KINDS:
        raise UnknownNameError("layout", to, KINDS)
    out = Path(out)
    precision = "int8" if int8 else "fp32"
    asked = NEAR[precision] if min_cosine is None else min_cosine
    model, meta = load_model(source, config=config, dtype=torch.float32, deploy=True)
    if meta.provenance.get("assumed") and not accept_guess:
        raise CheckpointError(
            f"{source}: how it is built is a guess; accept it by accept_guess= (--accept-guess), "
            "or say it by config= (--config)"
        )
    if to == "immich":
        check_immich(meta.config)
    described = replace(meta.config, token_dim=None, decoder=None)
    texts = meta.config.text.present
    tokenizer = padding_tokenizer(meta.config, meta.folder) if texts else None
    seen = meta.config.image.present
    pixels, inputs = _pixels(meta.config, pictures) if seen else (None, "texts")
    about = Exported(
        kind=to,
        precision=precision,
        config=described,
        scale=model.logit_scale.item(),
        bias=None if model.logit_bias is None else model.logit_bias.item(),
        provenance=_kept(meta),
    )
    with atomic(out, replaceable=lambda _: False) as room:
        folder = room / out.name
        folder.mkdir()
        _write(folder, model, about, tokenizer)
        exported.describe(folder, about)
        written = opened(folder, exported.read(folder))
        # What was quantised in place isn't the model any more.
        original = load_model(source, config=config, deploy=True).model if int8 else model
        comparison = compare(original, written, pixels, tokenizer, inputs)
        if not comparison.least >= asked:
            raise CheckpointError(
                f"{source} as {to} ({precision}) is too far from the model, below the cosine "
                f"{asked:g} (--min-cosine): {'; '.join(comparison.lines())}; nothing was written"
            )
        exported.describe(folder, replace(about, check=comparison.record()))
    return comparison


def _write(folder: Path, model: Clip, about: Exported, tokenizer: Tokenizer | None) -> None:
    kind = KINDS[about.kind]
    for side in SIDES:
        if about.config.missing == side:
            continue
        path = folder / kind.files[side]
        path.parent.mkdir(exist_ok=True)
        kind.write(vectors_of(model, side), about.config, side, path, about.precision == "int8")
    if tokenizer is None:
        return
    if about.kind == "immich":
        write_beside(folder, about.config, tokenizer)
        tokenizer.save(folder)  # where Diptych looks for it
    elif about.config.tokenizer.kind == "clip":
        write_transformers_files(folder, about.config.text.context_length)
    else:
        tokenizer.save(folder)


def _kept(meta: Meta) -> dict[str, Any]:
    kept = {name: note for name, note in meta.provenance.items() if name != "unused"}
    return kept | {"sha256": sha256(meta.file)}


def _pixels(config: ClipConfig, pictures: Iterable[Picture] | None) -> tuple[Tensor, str]:
    """What the image tower is compared on, and what that is called."""
    side: Side = "image"
    if pictures is None:
        return example(config, side, _NOISE), f"{_NOISE} pictures of seeded noise"
    preprocess = Preprocess(config.preprocess, config.image.image_size)
    found, unread = list[Tensor](), 0
    for picture in pictures:
        try:
            found.append(preprocess(picture))
        except ImageError:
            unread += 1
        if len(found) == _MOST:
            break
    if not found:
        raise CheckpointError("none of the pictures to compare on can be read")
    left = f" ({unread} can't be read)" if unread else ""
    return torch.stack(found), f"{len(found)} pictures{left}"
