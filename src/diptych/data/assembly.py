"""Chunks of a batch, put together on the device as they come."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from diptych.batch import Taught
from diptych.data.views import BatchViews
from diptych.inputs.masking import IGNORE_INDEX


class Assembly:
    """The views of `rows` samples, of which chunks are added one after the other.

    What has one size for all rows (pictures above all) is copied to the device at once; captions,
    which are padded to the longest of all rows, are kept on the CPU. What a chunk lies in is free
    again when `add` returns. The result is what `ViewTransform.collate` makes of all rows in one.
    """

    def __init__(
        self, rows: int, pad_id: int, device: torch.device, stream: torch.cuda.Stream | None = None
    ):
        self._rows, self._pad_id, self._device, self._stream = rows, pad_id, device, stream
        self._wholes = list[Tensor]()
        self._parts, self._filled = list[BatchViews](), 0

    @property
    def full(self) -> bool:
        """Whether all rows are there."""
        return self._filled == self._rows

    def add(self, views: BatchViews, sample_index: Int[Tensor, " rows"]) -> None:
        """The next rows."""
        first, self._filled = self._filled, self._filled + len(sample_index)
        fixed = [sample_index, *_fixed(views)]
        with torch.cuda.stream(self._stream) if self._stream else contextlib.nullcontext():
            if not first:
                self._wholes = [self._whole(chunk) for chunk in fixed]
            for chunk, whole in zip(fixed, self._wholes, strict=True):
                whole[first : self._filled].copy_(chunk, non_blocking=True)
        labels = views.mlm_labels
        kept = views._replace(
            texts=tuple(each.clone() for each in views.texts),
            mlm_labels=None if labels is None else labels.clone(),
            lengths=tuple(each.clone() for each in views.lengths),
            **{name: each.clone() for name, each in _others(views).items()},
        )
        self._parts.append(kept)
        if self._stream is not None:
            self._stream.synchronize()  # a copy of some megabytes, beside the step

    def _whole(self, chunk: Tensor) -> Tensor:
        return chunk.new_empty(self._rows, *chunk.shape[1:], device=self._device)

    def views(self) -> tuple[BatchViews, Int[Tensor, " batch"]]:
        """The whole batch: its views, and its samples' places in the source."""
        parts, (sample_index, *fixed) = self._parts, self._wholes
        texts = zip(*(part.texts for part in parts), strict=True)
        lengths = zip(*(part.lengths for part in parts), strict=True)
        labels = [part.mlm_labels for part in parts if part.mlm_labels is not None]
        whole = _with_fixed(parts[0], iter(fixed))
        whole = whole._replace(
            texts=tuple(_padded(view, self._pad_id) for view in texts),
            mlm_labels=_padded(labels, IGNORE_INDEX) if labels else None,
            lengths=tuple(torch.cat(view) for view in lengths),
            truncated=tuple(caption for part in parts for caption in part.truncated),
            **{name: torch.cat([_others(part)[name] for part in parts]) for name in _others(whole)},
        )
        return whole, sample_index


def _fixed(views: BatchViews) -> list[Tensor]:
    """What has one size for all rows."""
    found = [*views.images, *(change for change in views.changes if change is not None)]
    for teacher in views.taught:
        found += [teacher.images, teacher.texts]
    return found


def _others(views: BatchViews) -> dict[str, Tensor]:
    """Further fields with a row for each sample, by name, which stay on the CPU."""
    values = views._asdict().items()
    return {name: x for name, x in values if isinstance(x, Tensor) and name != "mlm_labels"}


def _with_fixed(views: BatchViews, fixed: Iterator[Tensor]) -> BatchViews:
    """The views with others in the place of those that `_fixed` gave, in that order."""
    return views._replace(
        images=tuple(next(fixed) for _ in views.images),
        changes=tuple(None if each is None else next(fixed) for each in views.changes),
        taught=tuple(Taught(next(fixed), next(fixed), each.scale) for each in views.taught),
    )


def _padded(parts: Sequence[Tensor], fill: int) -> Tensor:
    """Rows under each other, each as long as the longest."""
    if len(parts) == 1:
        return parts[0]
    rows, longest = sum(map(len, parts)), max(part.shape[1] for part in parts)
    whole, first = parts[0].new_full((rows, longest), fill), 0
    for part in parts:
        whole[first : first + len(part), : part.shape[1]] = part
        first += len(part)
    return whole
