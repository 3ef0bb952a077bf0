"""What is known about a published model."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from diptych.config import ClipConfig, ImageTowerConfig

IMAGENET = "imagenet1k zero-shot top-1"
COCO = "coco text-to-image R@5"
COCO_TEXTS = "coco image-to-text R@5"
DATACOMP = "mean of DataComp's 38 sets"
"""What most cards print."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published number, and who published it.

    >>> from diptych.families import Claim
    >>> Claim(metric="imagenet1k zero-shot top-1", value=63.2, source="arXiv:2103.00020").value
    63.2
    """

    metric: str
    value: float
    source: str


def figures(values: Sequence[float | None], source: str) -> tuple[Claim, ...]:
    """Claims of zero-shot top-1 on ImageNet, the mean of DataComp's 38 sets and recall@5 of COCO's
    pictures by texts, in per cent and in this order; None, or left out at the end: not published.

    >>> from diptych.families.entry import figures
    >>> [claim.metric for claim in figures((63.2, None, 55.9), "arXiv:2103.00020")]
    ['imagenet1k zero-shot top-1', 'coco text-to-image R@5']
    """
    metrics = (IMAGENET, DATACOMP, COCO)[: len(values)]
    pairs = zip(metrics, values, strict=True)
    return tuple(
        Claim(metric=metric, value=value, source=source)
        for metric, value in pairs
        if value is not None
    )


@dataclass(frozen=True, kw_only=True)
class Training:
    """How published weights came about, and for what, as their authors say; what they don't say is
    empty.

    >>> from diptych.families import Training
    >>> Training(data="LAION-400M", batch="41K").says
    ('data LAION-400M', 'batch 41K')
    """

    data: str = ""
    languages: str = ""
    """Of the texts, or how many: `English`, `109`."""
    seen: str = ""
    """Samples, with repetitions."""
    epochs: str = ""
    batch: str = ""
    precision: str = ""
    hardware: str = ""
    """What it ran on, and for how long."""
    image_init: str = ""
    """Whose weights the image tower started from; of ours by name."""
    text_init: str = ""
    teacher: str = ""
    """The model whose features were predicted: of masked image modelling, or by a text tower."""
    use: str = ""
    """What the authors say that the weights are for, and what not."""
    source: str = ""
    """Who says all this."""

    @property
    def says(self) -> tuple[str, ...]:
        """What is known, for people."""
        values = (
            (field.name.replace("_", " "), getattr(self, field.name)) for field in fields(self)
        )
        return tuple(f"{name} {value}" for name, value in values if value)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A file of weights, on the Hugging Face hub or elsewhere."""

    repo: str = ""
    """`org/name`. Empty: it is on no hub, and `link` says where."""
    file: str = ""
    """Empty: what the repository holds in this layout, perhaps in several files."""
    link: str = ""
    """A page from which people download it, where there is no `repo`."""
    format: str
    """The name of its layout (`weights.layout.Layout`), such as `open-clip`; a key of the JSON that
    `diptych models` gives, too."""
    licence: str
    dtype: str = ""
    """Of the stored numbers: `fp32`, `fp16` or `bf16`. Empty: not recorded here."""
    size: str = ""
    """Of the file, as its publisher gives it."""
    sha256: str = ""
    """Empty: not recorded here; the hub's own checksum is used."""
    names: tuple[str, ...] = ()
    """What means this file: its own name, or that of a repository which holds nothing else of this
    kind."""
    tags: tuple[str, ...] = ()
    """What other libraries call these weights of the model: `model/tag` means this file."""
    note: str = ""
    claims: tuple[Claim, ...] = ()
    training: Training = Training()
    """Of this file, where a model's files were trained in several ways."""
    config: ClipConfig | None = None
    """Of a repository that says itself how the model is built: where it isn't the entry's."""
    copies: tuple["Weights", ...] = ()
    """The same weights in other repositories, which say themselves how the model is built."""

    @property
    def place(self) -> str:
        """`org/name`, or `org/name/file`; the link to what is on no hub.

        >>> from diptych import pretrained
        >>> pretrained.weights("vit-b-32-quickgelu").place
        'timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors'
        """
        return self.link or f"{self.repo}/{self.file}".rstrip("/")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A named model, or an image tower alone.

    >>> from diptych import pretrained
    >>> from diptych.families import Entry
    >>> Entry(name="mine", config=pretrained.get("tiny"), aliases=("my-tiny",)).image.image_size
    48
    """

    name: str
    config: ClipConfig | ImageTowerConfig
    weights: tuple[Weights, ...] = ()
    """The preferred first."""
    aliases: tuple[str, ...] = ()
    """Other names that find it, beside its own; spelling is compared without case, `/`, `_` and `@`
    read as `-`."""
    note: str = ""
    """What a user should know that the configuration doesn't say."""
    claims: tuple[Claim, ...] = ()
    """Of the model, beside those of its files."""
    training: Training = Training()

    @property
    def image(self) -> ImageTowerConfig:
        """The model's image tower, or the one that it is."""
        return self.config.image if isinstance(self.config, ClipConfig) else self.config
