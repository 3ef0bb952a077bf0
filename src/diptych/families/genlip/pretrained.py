"""GenLIP's models (Fang et al. 2026, arXiv:2605.00809): its image towers, and CLIP models over them
under open_clip's names, of which no weights are published."""

from dataclasses import asdict, dataclass, replace

from diptych.config import ClipConfig, PreprocessConfig
from diptych.families.clip.config import TextConfig
from diptych.families.entry import Entry, Training, Weights
from diptych.families.genlip.config import GenlipImageConfig, GenlipNaflexConfig


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of an image tower."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    rotary_sections: tuple[int, int, int]


# fmt: off
SIZES = {  # as the authors' configurations have them
    "l":  Size(width=1152, layers=24, heads=16, mlp_width=2752, rotary_sections=(12, 12, 12)),
    "so": Size(width=1152, layers=27, heads=16, mlp_width=3072, rotary_sections=(12, 12, 12)),
    "g":  Size(width=1536, layers=40, heads=16, mlp_width=4096, rotary_sections=(16, 16, 16)),
}
# fmt: on
EMBED_DIM = 1024
"""Of the words, to whose space the towers project."""
PATCHES = 1024
"""The most of a picture of its own aspect, in the authors' second stage; the fewest are 16."""
SQUARES = PreprocessConfig(
    resize="squash", interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)
"""SigLIP 2's, which the authors take."""
NATIVE = replace(SQUARES, resize="native", patches=PATCHES, patch_size=16)
_STAGE = "Recap-DataComp-1B"
_STAGES = f"{_STAGE}; then Infinity-MM and BLIP3o's long captions, at the pictures' own aspect"
_SOURCE = "arXiv:2605.00809"
_USE = "an image tower alone: features of pictures, for probes or for a language model"
_NO_WEIGHTS = "no weights of it are known to Diptych; a file of the authors' is read as it is"
_TEXT = TextConfig(width=768, layers=12, heads=12, mlp_width=3072)


def square(size: str) -> GenlipImageConfig:
    """The tower of this size for squares.

    >>> from diptych.families.genlip.pretrained import square
    >>> square("g").layers
    40
    """
    return GenlipImageConfig(**asdict(SIZES[size]))


def native(size: str) -> GenlipNaflexConfig:
    """The same for pictures of their own aspect.

    >>> from diptych.families.genlip.pretrained import native
    >>> native("l").mlp_width
    2752
    """
    return GenlipNaflexConfig(image_size=224, **asdict(SIZES[size]))


def entries() -> list[Entry]:
    """Towers of both stages, and models over them."""
    found: list[Entry] = []
    for size in SIZES:
        found += [_square(size), _native(size)]
    for size in SIZES:
        found += [_clip(size, squares=False), _clip(size, squares=True)]
    return found


def _square(size: str) -> Entry:
    return Entry(
        name=f"genlip-{size}-16",
        config=square(size),
        note=_NO_WEIGHTS,
        training=Training(data=_STAGE, languages="English", use=_USE, source=_SOURCE),
    )


def _native(size: str) -> Entry:
    """Of one repository the name is known; of the others only that there is a collection."""
    repo = "YanFang/GenLIP-L16-NaViT"
    weights = Weights(repo=repo, format="genlip", licence="Apache-2.0", names=(repo,))
    return Entry(
        name=f"genlip-{size}-16-navit",
        config=native(size),
        weights=(weights,) if size == "l" else (),
        note="" if size == "l" else _NO_WEIGHTS,
        training=Training(data=_STAGES, languages="English", use=_USE, source=_SOURCE),
    )


def _clip(size: str, squares: bool) -> Entry:
    config = ClipConfig(
        image=square(size) if squares else native(size),
        text=_TEXT,
        embed_dim=EMBED_DIM,
        preprocess=SQUARES if squares else replace(NATIVE, patches=14**2),
    )
    return Entry(
        name=f"clip-genlip-{'fixed-' if squares else ''}ref-{size}16",
        config=config,
        note="a configuration of open_clip's, to be trained from GenLIP's tower",
    )
