"""The contract between data and objectives: what an objective asks for, and what it gets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

ImageView = Literal["plain", "strong"]
"""`plain`: the training crop. `strong`: a harder crop, colours and sharpness changed
(`StrongConfig`)."""
TextView = Literal["plain", "augmented", "masked"]
"""`plain`: a caption. `augmented`: with words replaced, swapped or deleted. `masked`: with some
tokens masked, for masked language modelling (MLM). All views of a step are of one caption."""


@dataclass(frozen=True)
class HiddenView:
    """How many patches are hidden of each picture, for masked image modelling: of `side` x `side`,
    `count` by blocks; or, unless `exact`, as many of `count` as blocks happen to find."""

    side: int
    count: int
    exact: bool = True


@dataclass(frozen=True, kw_only=True)
class Views:
    """Which views of each pair (crops of the picture, forms of the caption) an objective needs, in
    the order in which it wants them.

    >>> from diptych.batch import Views
    >>> Views(image=("strong", "strong")).text
    ('plain',)
    """

    image: tuple[ImageView, ...] = ("plain",)
    text: tuple[TextView, ...] = ("plain",)
    """None: pictures without captions will do."""
    hidden: HiddenView | None = None
    """Patches that are to be hidden; None: none."""
    whole_length: bool = False
    """Captions are padded to the context length, not to the longest of the batch: for objectives
    that encode the padding, too."""
    taught: bool = False
    """What each teacher said of the plain crop and of the caption, or is shown of them
    (`Batch.taught`)."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One pair as a source yields it, before any view is made.

    `image` is the encoded file, or a path. `captions` are alternatives: one is drawn. `label` is
    the class index where the source has classes; `labels` are the indices where a picture may have
    several. `frames` are all pictures of a clip, of which `image` is one; empty: `image` alone.
    """

    key: str
    image: bytes | str
    frames: tuple[bytes, ...] = ()
    captions: tuple[str, ...] = ()
    label: int | None = None
    labels: tuple[int, ...] = ()
    meta: Mapping[str, object] | None = None


class TextLengths(NamedTuple):
    """How many ids each text of a batch has, special tokens included and padding not. Whoever
    chooses shapes by them reads them here, and doesn't wait for a device.

    >>> from diptych.batch import TextLengths
    >>> TextLengths.of([3, 5, 4]).rows(1, 3).host
    (5, 4)
    """

    host: tuple[int, ...]
    device: Int[Tensor, " batch"]
    """The same numbers, where the batch is."""

    @classmethod
    def of(cls, lengths: Sequence[int]) -> "TextLengths":
        """On the CPU."""
        return cls(tuple(lengths), torch.tensor(lengths))

    def rows(self, start: int, stop: int) -> "TextLengths":
        """Those of the rows from `start` up to, and without, `stop`."""
        return TextLengths(self.host[start:stop], self.device[start:stop])

    def to(self, device: torch.device) -> "TextLengths":
        """The same on `device`."""
        return self._replace(device=sent(self.device, device))


class Taught(NamedTuple):
    """What a teacher said of each pair; or, of a teacher that is to be asked, what it is shown.

    Said: unit vectors Float[batch, width] and the factor on their cosine similarities. Shown:
    levels UInt8[batch, 3, size, size] of the same crop, and ids Int[batch, context] of the same
    caption, both as this teacher takes them.
    """

    images: Tensor
    texts: Tensor
    scale: float | None = None
    """None: it is to be asked."""

    def rows(self, start: int, stop: int) -> "Taught":
        """Those of the rows from `start` up to, and without, `stop`."""
        return Taught(self.images[start:stop], self.texts[start:stop], self.scale)

    def to(self, device: torch.device) -> "Taught":
        """The same on `device`."""
        return Taught(sent(self.images, device), sent(self.texts, device), self.scale)


class HiddenPatches(NamedTuple):
    """Which patches are hidden of each picture of a batch.

    >>> import torch
    >>> from diptych.batch import HiddenPatches
    >>> HiddenPatches(torch.tensor([[False, True], [True, True]]), (1, 2)).flat()
    tensor([1, 2, 3])
    """

    places: Bool[Tensor, "batch patches"]
    """In reading order, where the batch is."""
    counts: tuple[int, ...]
    """How many of each: so that whoever chooses shapes by them waits for no device."""

    @classmethod
    def of(cls, places: Bool[Tensor, "batch patches"]) -> "HiddenPatches":
        """On the CPU."""
        return cls(places, tuple(places.sum(dim=1).tolist()))

    def rows(self, start: int, stop: int) -> "HiddenPatches":
        """Those of the rows from `start` up to, and without, `stop`."""
        return HiddenPatches(self.places[start:stop], self.counts[start:stop])

    def to(self, device: torch.device) -> "HiddenPatches":
        """The same on `device`."""
        return self._replace(places=sent(self.places, device))

    def flat(self) -> Int[Tensor, " hidden"]:
        """The numbers of the hidden ones, in order, among the patches of all pictures in a row."""
        # `nonzero` would make the host ask how many they are. A stable sort puts them first.
        order = self.places.flatten().int().argsort(descending=True, stable=True)
        return order[: sum(self.counts)]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pairs, ready for the towers.

    `images[v]`: Float[batch, 3, height, width], normalised, one per image view; or levels (UInt8),
    a quarter of the bytes, of which `normalise` makes them when they are needed: `ready`.
    `texts[v]`: Int[batch, length], one per text view, padded to the longest caption of the batch.
    `index`: Int[batch], each sample's place in its source. `mlm_labels`: Int[batch, length], the
    ids of the tokens that the `masked` text view masks, -100 elsewhere; None without such a view.
    They stay on the CPU, where shapes can be chosen by them.
    `lengths[v]`: of `texts[v]`; None where they aren't known.
    `hidden`: the patches that are hidden of each picture; None where the views ask for none.
    `levels`: the `images` before they were normalised, for models that normalise in another way;
    None where they never were levels, or still are.
    `taught[t]`: of teacher t, for objectives that distil.
    """

    images: tuple[Shaped[Tensor, "batch 3 height width"], ...]
    texts: tuple[Int[Tensor, "batch _"], ...]
    index: Int[Tensor, " batch"]
    mlm_labels: Int[Tensor, "batch _"] | None = None
    lengths: tuple[TextLengths, ...] | None = None
    normalise: Callable[[Tensor], Tensor] | None = None
    hidden: HiddenPatches | None = None
    levels: tuple[Shaped[Tensor, "batch 3 height width"], ...] | None = None
    taught: tuple[Taught, ...] = ()

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, start: int, stop: int) -> "Batch":
        """The micro-batch of the rows from `start` up to, and without, `stop`.

        >>> import torch
        >>> from diptych.batch import Batch
        >>> images, texts = torch.zeros(4, 3, 8, 8), torch.zeros(4, 5, dtype=torch.long)
        >>> batch = Batch(images=(images,), texts=(texts,), index=torch.arange(4))
        >>> len(batch.rows(1, 3))
        2
        """
        return replace(
            self,
            images=tuple(image[start:stop] for image in self.images),
            texts=tuple(text[start:stop] for text in self.texts),
            index=self.index[start:stop],
            mlm_labels=None if self.mlm_labels is None else self.mlm_labels[start:stop],
            lengths=None
            if self.lengths is None
            else tuple(view.rows(start, stop) for view in self.lengths),
            hidden=None if self.hidden is None else self.hidden.rows(start, stop),
            levels=None if self.levels is None else tuple(view[start:stop] for view in self.levels),
            taught=tuple(teacher.rows(start, stop) for teacher in self.taught),
        )

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        return replace(
            self,
            images=tuple(sent(image, device) for image in self.images),
            texts=tuple(sent(text, device) for text in self.texts),
            index=sent(self.index, device),
            lengths=None
            if self.lengths is None
            else tuple(view.to(device) for view in self.lengths),
            hidden=None if self.hidden is None else self.hidden.to(device),
            levels=None
            if self.levels is None
            else tuple(sent(view, device) for view in self.levels),
            taught=tuple(teacher.to(device) for teacher in self.taught),
        )

    def lengths_of(self, view: int) -> TextLengths | None:
        """Of `texts[view]`; None where they aren't known."""
        return None if self.lengths is None else self.lengths[view]

    def ready(self) -> "Batch":
        """The same with its pictures normalised, as towers take them.

        >>> import torch
        >>> from diptych.batch import Batch
        >>> levels = torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)
        >>> batch = Batch(images=(levels,), texts=(torch.tensor([[1, 2]]),), index=torch.arange(1),
        ...               normalise=lambda levels: levels / 255)
        >>> batch.ready().images[0].unique()
        tensor([0.2000])
        """
        if self.normalise is None:
            return self
        images = tuple(map(self.normalise, self.images))
        return replace(self, images=images, normalise=None, levels=self.images)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; from the CPU it goes there without anyone waiting."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()  # from other memory a copy waits for the GPU's queue
    return tensor.to(device, non_blocking=True)
