"""A model with its tokenizer and its image transform: pictures and texts to unit vectors."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import chain
from typing import Any, Literal, TypeVar, cast

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from diptych.batch import TextLengths
from diptych.config import ClipConfig
from diptych.config.alone import need
from diptych.encoder.extract import extract
from diptych.encoder.identity import Identity, fingerprint
from diptych.encoder.progress import track
from diptych.errors import ConfigError, ImageError, reason
from diptych.inputs import Picture, Preprocess, Tokenizer, tokenizer_of
from diptych.inputs.picture import is_picture
from diptych.inputs.room import room
from diptych.inputs.truncation import find_truncated, warn_if_truncated
from diptych.models import Clip
from diptych.models.evaluating import evaluating
from diptych.threads import Turn, usable_cores

T = TypeVar("T")
V = TypeVar("V")
Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

_TOKENS = 1 << 12
"""Of a batch of texts: what a layer makes of them stays near the processor."""


class Embedder:
    """Pictures and texts to unit vectors: the part of an `Encoder` that calls the towers. Several
    threads may ask it: one of them at a time is in the towers, the others wait for their turn.

    >>> import torch
    >>> from diptych import models, pretrained
    >>> from diptych.encoder.embedder import Embedder
    >>> embedder = Embedder(models.build(pretrained.get("tiny")))
    >>> grey = torch.full((3, 60, 80), 128, dtype=torch.uint8)
    >>> embedder.embed_images([grey, grey]).shape == embedder.embed_texts(["a cat", "a dog"]).shape
    True
    """

    def __init__(
        self,
        model: Clip,
        tokenizer: Tokenizer | None = None,
        preprocess: Preprocess | None = None,
        *,
        name: str = "a model in memory",
        provenance: Mapping[str, Any] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ):
        config = model.config
        self.model = model
        self.tokenizer = tokenizer or tokenizer_of(config)
        self.preprocess = preprocess or Preprocess(config.preprocess, config.image.image_size)
        self.provenance = dict(provenance or {})
        self._weights = weights
        self._turn = Turn()
        self.name = os.path.abspath(name) if os.path.exists(name) else name

    @property
    def config(self) -> ClipConfig:
        """The model's configuration."""
        return self.model.config

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.config.embed_dim

    @property
    def device(self) -> torch.device:
        """Where the towers compute."""
        return self.model.logit_scale.device

    @property
    def dtype(self) -> str:
        """Precision of the towers: fp32, bf16 or fp16; torch's name for others."""
        dtype = _dtype(self.model)
        names = {kind: name for name, kind in DTYPES.items()}
        return names.get(dtype, str(dtype).removeprefix("torch."))

    @cached_property
    def identity(self) -> Identity:
        """Who made these vectors; computed once, so the weights must not change after."""
        return Identity(
            name=self.name,
            dtype=self.dtype,
            fingerprint=fingerprint(self.config, self._weights or self.model.state_dict()),
        )

    def embed_images(
        self,
        images: Picture | Iterable[Picture],
        batch_size: int = 32,
        progress: bool = False,
        unreadable: Callable[[int, ImageError], None] | None = None,
    ) -> Float[Tensor, "images width"]:
        """One row per picture; a single picture gives one row.

        Pictures are read and decoded by threads while the tower works. One that can't be read
        raises ImageError naming it; with `unreadable` it is left out, and `unreadable(position,
        error)` is called.
        """
        batches = self._of_images(images, self._vectors, batch_size, progress, unreadable)
        vectors = list(batches)
        return torch.cat(vectors) if vectors else torch.zeros(0, self.width)

    def _of_images(
        self,
        images: Picture | Iterable[Picture],
        encode: Callable[[UInt8[Tensor, "batch 3 height wide"]], V],
        batch_size: int,
        progress: bool,
        unreadable: Callable[[int, ImageError], None] | None,
    ) -> Iterator[V]:
        """What `encode` makes of each batch of one or several pictures."""
        if is_picture(images) or not isinstance(images, Iterable):
            images = [cast(Picture, images)]
        check_order("images", images)
        batches = self._stream(
            enumerate(cast(Iterable[Picture], images)),
            encode,
            read=lambda item: item[1],
            name=lambda item: (
                str(item[1]) if isinstance(item[1], str | os.PathLike) else f"picture {item[0]}"
            ),
            batch_size=batch_size,
            total=len(images) if isinstance(images, Sequence | Tensor) else None,
            progress=progress,
            unreadable=unreadable and (lambda item, error: unreadable(item[0], error)),
        )
        return (part for _, part in batches)

    def stream(
        self,
        items: Iterable[T],
        *,
        read: Callable[[T], Picture],
        name: Callable[[T], str],
        batch_size: int = 32,
        total: int | None = None,
        progress: bool = False,
        unreadable: Callable[[T, ImageError], None] | None = None,
    ) -> Iterator[tuple[list[T], Float[Tensor, "batch width"]]]:
        """Batches of items and their vectors, for more pictures than fit in memory; see `extract`.

        `read` gets an item's picture and runs in the threads too; `name` says what to call it in an
        error.
        """
        return self._stream(
            items,
            self._vectors,
            read=read,
            name=name,
            batch_size=batch_size,
            total=total,
            progress=progress,
            unreadable=unreadable,
        )

    def _vectors(
        self, pixels: UInt8[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch width"]:
        return _unit(self.image_features(pixels))

    def _stream(
        self,
        items: Iterable[T],
        encode: Callable[[UInt8[Tensor, "batch 3 height wide"]], V],
        *,
        read: Callable[[T], Picture],
        name: Callable[[T], str],
        batch_size: int,
        total: int | None,
        progress: bool,
        unreadable: Callable[[T, ImageError], None] | None,
    ) -> Iterator[tuple[list[T], V]]:
        need(self.config, "image", self.name)  # before pictures are read
        batches = extract(
            items,
            partial(self._prepare, read=read, name=name),
            lambda pixels: encode(torch.stack(pixels)),
            batch_size=batch_size,
            threads=0 if total == 1 else min(8, usable_cores()),
            unreadable=unreadable,
            name=name,
        )
        return track(batches, "pictures", total) if progress else batches

    def embed_texts(
        self, texts: str | Iterable[str], batch_size: int = 256, progress: bool = False
    ) -> Float[Tensor, "texts width"]:
        """One row per text; a single text gives one row. Those that are longer than the context are
        counted in a TruncationWarning."""
        need(self.config, "text", self.name)
        check_order("texts", texts)
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows = [self.tokenizer.encode(text) for text in texts]
        warn_if_truncated(find_truncated(self.tokenizer, texts, rows))
        return self.embed_ids(rows, batch_size, progress)

    def embed_ids(
        self, rows: Sequence[Sequence[int]], batch_size: int = 256, progress: bool = False
    ) -> Float[Tensor, "texts width"]:
        """One row per text as ids, special tokens included and padding not. Texts of like length
        share a batch, so little is padding; `batch_size` is the most texts of one."""
        vectors = torch.zeros(len(rows), self.width)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
        batches = self._encode_groups(rows, order, batch_size)
        for group, part in track(batches, "texts", len(rows)) if progress else batches:
            vectors[group] = part
        return vectors

    def _encode_groups(
        self, rows: Sequence[Sequence[int]], order: Sequence[int], batch_size: int
    ) -> Iterator[tuple[Sequence[int], Float[Tensor, "batch width"]]]:
        start = 0
        while start < len(order):
            fitting = max(1, _TOKENS // max(1, len(rows[order[start]])))
            group = order[start : start + min(batch_size, fitting)]
            start += len(group)
            texts = [rows[i] for i in group]
            features = self.text_features(self.tokenizer.pad(texts), list(map(len, texts)))
            yield group, _unit(features)

    @contextmanager
    def _evaluating(self, gradients: bool = False) -> Generator[None, None, None]:
        """`evaluating` the model, by one thread at a time."""
        with self._turn, evaluating(self.model, gradients):
            yield

    def pixels(self, images: Iterable[Picture]) -> Float[Tensor, "images 3 height wide"]:
        """What the image tower is called with: pictures prepared and normalised, where and as
        precise as it is. Raises ImageError for one that can't be read."""
        return self._normal(torch.stack([self.preprocess.pixels(image) for image in images]))

    def _prepare(
        self, item: T, read: Callable[[T], Picture], name: Callable[[T], str]
    ) -> UInt8[Tensor, "3 height wide"]:
        try:
            with room.held():  # reading counts, too
                return self.preprocess.pixels(read(item))
        except (ImageError, OSError) as error:
            why, label = reason(error), name(item)
            raise ImageError(why if label in why else f"{label}: {why}") from error

    def image_features(
        self, pixels: UInt8[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch width"]:
        """What the tower makes of squares that `preprocess.pixels` gave: on the CPU, in the tower's
        precision, of any length. Raises ConfigError if that precision is too small for the numbers.

        >>> import torch
        >>> from diptych import Encoder, models, pretrained
        >>> encoder = Encoder(models.build(pretrained.get("tiny")))
        >>> encoder.image_features(torch.zeros(2, 3, 48, 48, dtype=torch.uint8)).shape
        torch.Size([2, 128])
        """
        with self._evaluating():
            features = self.model.encode_image(self._normal(pixels))
        return self._finite(features)

    def _normal(
        self, pixels: UInt8[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch 3 height wide"]:
        """Normalised, where and as precise as the tower is."""
        normal = self.preprocess.normalise(pixels.to(self.device, non_blocking=True))
        return normal.to(_dtype(self.model))

    def text_features(
        self, ids: Int[Tensor, "batch length"], lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "batch width"]:
        """What the tower makes of texts as `tokenizer.pad` gives them: on the CPU, in the tower's
        precision, of any length. With their `lengths`, padding is left out where it may be."""
        with self._evaluating():
            features = self.model.encode_text(
                ids.to(self.device, non_blocking=True),
                lengths=None if lengths is None else TextLengths.of(lengths).to(self.device),
            )
        return self._finite(features)

    def _finite(self, features: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        features = features.cpu().clone()  # no inference tensor: a layer can be trained on it
        if not features.isfinite().all():
            raise ConfigError(
                f"{self.name} gives numbers that are not finite in {self.dtype}; try another dtype"
            )
        return features


def _unit(features: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
    return normalize(features.float(), dim=-1)


def _dtype(model: Clip) -> torch.dtype:
    """Of its towers, of which one may be absent; exported ones have no parameters and take what the
    scale is, float32."""
    towers = chain(model.image.parameters(), model.text.parameters())
    return next(chain(towers, [model.logit_scale])).dtype


def check_order(what: str, values: object) -> None:
    """Raises ConfigError for what are not several things in an order."""
    kind = type(values).__name__
    if isinstance(values, Set | Mapping):
        raise ConfigError(f"{what} is a {kind}, and rows have an order: give a list")
    if isinstance(values, bytes) or not isinstance(values, Iterable):
        raise ConfigError(f"{what} is of the kind {kind}: give a list")
