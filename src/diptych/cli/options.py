"""Flags that several verbs share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from diptych.cli.show import say
from diptych.config.ranges import Filled, Patches, Pixels, Some

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.search import Index


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and how the model computes."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default the GPU if there is one."""
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the towers."""
    batch_size: Some = 64
    """Pictures that the tower sees at a time."""
    config: str = ""
    """How the model is built, where its file doesn't say: a model's name, or a published JSON
    file."""
    image_size: Pixels | None = None
    """Take pictures of this side, in pixels, instead of the model's own."""
    patches: Patches | None = None
    """Of a model that takes pictures of their own aspect (NaFlex): the most patches of a picture,
    instead of the model's own number."""
    memory: str | None = None
    """At most so much of the weights on the device, such as 20GB; the other blocks come when they
    are needed."""

    def load(self, model: str, dtype: str | None = None, device: str | None = None) -> "Encoder":
        """The model of that name or path, as the flags say; `dtype` and `device` overrule theirs.
        Tensors of its file that the model doesn't use are listed on stderr."""
        from diptych.encoder import load
        from diptych.weights.leftovers import left_behind

        encoder = load(
            model,
            device or self.device,
            dtype or self.dtype,
            config=self.config or None,
            image_size=self.image_size,
            patches=self.patches,
            memory=self.memory,
        )
        if said := left_behind(encoder.provenance):
            say(said, error=True)
        return encoder


@dataclass(frozen=True, kw_only=True)
class OfIndex:
    """An index, and how its model is loaded."""

    index: Annotated[Positional[str], arg(metavar="X.index"), Filled("X.index")]
    """What `diptych embed` made."""
    model: str = ""
    """Where the index's model lies now, if it has moved."""
    config: str = ""
    """How the model is built, as `diptych embed` was told."""
    image_size: Pixels | None = None
    """Side of the pictures, as `diptych embed` was told."""
    patches: Patches | None = None
    """The most patches of a picture, as `diptych embed` was told."""
    device: str | None = None
    """cpu, cuda or cuda:N; by default the GPU if there is one."""

    def open(self) -> "Index":
        """The index, with the model that the flags name, or else its own."""
        from diptych.encoder import load
        from diptych.search import Index

        index = Index.open(self.index, device=self.device)
        if not (self.model or self.config or self.image_size or self.patches):
            return index
        encoder = load(
            self.model or index.made_by.name,
            self.device,
            index.made_by.dtype,
            config=self.config or None,
            image_size=self.image_size,
            patches=self.patches,
        )
        return Index.open(self.index, encoder)
