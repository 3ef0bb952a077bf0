"""Published models with an image tower of timm's and CLIP's text tower, under open_clip's names:
its ConvNeXts, whose weights `clip/hub.py` has by their tags, and ViTamin (Chen et al. 2024,
arXiv:2404.02132)."""

from dataclasses import dataclass, replace

from diptych.config import ClipConfig, PreprocessConfig
from diptych.families.clip.config import TextConfig
from diptych.families.clip.open_clip_models import (
    HUGE_TEXT,
    LARGE_TEXT,
    TEXT,
    TEXT_384,
    TEXT_640,
    TEXT_1024,
)
from diptych.families.entry import Entry, Training, Weights, figures
from diptych.families.timm.config import NaflexVitConfig, TimmConfig


def _convnext(
    size: str, image_size: int, text: TextConfig, embed_dim: int, mlp: bool = False
) -> ClipConfig:
    image = TimmConfig(
        name=f"convnext_{size}",
        image_size=image_size,
        projection="mlp" if mlp else "linear",
    )
    return ClipConfig(image=image, text=text, embed_dim=embed_dim)


_LARGE_16, _TEXT_20 = replace(LARGE_TEXT, layers=16), replace(TEXT_1024, layers=20)

# fmt: off
CONVNEXT = {
    "convnext_tiny":         _convnext("tiny",     224, TEXT,       1024),
    "convnext_small":        _convnext("small",    224, TEXT,       512),
    "convnext_base":         _convnext("base",     224, TEXT,       512),
    "convnext_base_w":       _convnext("base",     256, TEXT_640,   640),
    "convnext_base_w_320":   _convnext("base",     320, TEXT_640,   640),
    "convnext_large":        _convnext("large",    224, LARGE_TEXT, 768),
    "convnext_large_d":      _convnext("large",    256, _LARGE_16,  768, mlp=True),
    "convnext_large_d_320":  _convnext("large",    320, _LARGE_16,  768, mlp=True),
    "convnext_xlarge":       _convnext("xlarge",   256, _TEXT_20,   1024),
    "convnext_xxlarge":      _convnext("xxlarge",  256, HUGE_TEXT,  1024),
    "convnext_xxlarge_320":  _convnext("xxlarge",  320, HUGE_TEXT,  1024),
}
# fmt: on


def _other(name: str, text: TextConfig, image_size: int) -> ClipConfig:
    image = TimmConfig(name=name, image_size=image_size)
    return ClipConfig(image=image, text=text, embed_dim=text.width)


# fmt: off
OTHERS = {
    name: _other(name, text, image_size)
    for name, text, image_size in (
        ("swin_base_patch4_window7_224",      TEXT_640, 224),
        ("vit_medium_patch16_gap_256",        TEXT,     256),
        ("vit_relpos_medium_patch16_cls_224", TEXT,     224),
    )
}
# fmt: on
"""Under timm's names: open_clip has no others for them."""
NAFLEX = {
    "naflex_ViT-B-16": ClipConfig(
        image=NaflexVitConfig(name="naflexvit_base_patch16_gap", options={"global_pool": "avg"}),
        text=TextConfig(),
        embed_dim=512,
        preprocess=PreprocessConfig(resize="native", patches=196),
    ),
    "naflex_ViT-B-32": ClipConfig(
        image=NaflexVitConfig(
            name="naflexvit_base_patch16_gap",
            options={"global_pool": "avg", "pos_embed_grid_size": [7, 7]},
            patch_size=32,
        ),
        text=TextConfig(),
        embed_dim=512,
        preprocess=PreprocessConfig(resize="native", patches=49, patch_size=32),
    ),
}
"""Of open_clip's main branch, by its names; nobody published weights of them."""


@dataclass(frozen=True, kw_only=True)
class _Vitamin:
    """A published ViTamin."""

    name: str
    size: str
    text: TextConfig
    image_size: int = 224
    repo: str
    seen: str
    imagenet: float | None = None
    average: float | None = None
    note: str = ""

    @property
    def architecture(self) -> str:
        """timm's name of the image tower."""
        return f"vitamin_{self.size}_{self.image_size}"

    def entry(self) -> Entry:
        image = TimmConfig(name=self.architecture, image_size=self.image_size)
        weights = Weights(
            repo=f"jienengchen/{self.repo}",
            file="pytorch_model.bin",
            format="open-clip",
            licence="MIT",
            names=(f"jienengchen/{self.repo}",),
            tags=("datacomp1b",),
            claims=figures((self.imagenet, self.average), "github.com/Beckschen/ViTamin"),
        )
        return Entry(
            name=self.name.lower(),
            config=ClipConfig(image=image, text=self.text, embed_dim=self.text.width),
            weights=(weights,),
            note=self.note,
            training=Training(data="DataComp-1B", seen=self.seen),
        )


def _vitamin(
    name: str,
    image_size: int,
    seen: str,
    imagenet: float | None = None,
    average: float | None = None,
    note: str = "",
) -> _Vitamin:
    """`name` as open_clip has it, without the picture's size."""
    kind = name.partition("-")[0]
    size, text = _SIZES[kind]
    small = kind in ("S", "B")
    named = name if image_size == 224 else f"{name}-{image_size}"
    locked = name.endswith("-LTT")
    return _Vitamin(
        name=f"ViTamin-{named}",
        size=size,
        text=LARGE_TEXT if locked else text,
        image_size=image_size,
        repo=f"ViTamin-{name}" if small else f"ViTamin-{name}-{image_size}px",
        seen=seen,
        imagenet=imagenet,
        average=average,
        note="Trained beside a text tower that was locked." if locked else note,
    )


# fmt: off
_SIZES = {
    "S":  ("small",  TEXT_384),
    "B":  ("base",   TEXT),
    "L":  ("large",  LARGE_TEXT),
    "L2": ("large2", HUGE_TEXT),
    "XL": ("xlarge", TextConfig(width=1152, layers=27, heads=16, mlp_width=4608)),
}
_TWO = "There are figures of a training of 12.8 B + 0.5 B samples, too: {}."
# Samples seen, zero-shot top-1 on ImageNet and the average over 38 datasets: the authors' README.
VITAMIN = (
    _vitamin("S",     224, "1.28 B",          62.2, 53.2),
    _vitamin("S-LTT", 224, ""),
    _vitamin("B",     224, "1.28 B",          68.9, 57.7),
    _vitamin("B-LTT", 224, ""),
    _vitamin("L",     224, "12.8 B",          80.8, 66.7),
    _vitamin("L",     256, "12.8 B + 0.2 B",  81.2, 67.0),
    _vitamin("L",     336, "12.8 B + 0.2 B",  81.6, 67.0),
    _vitamin("L",     384, "12.8 B + 0.2 B",  81.8, 67.2),
    _vitamin("L2",    224, "12.8 B",          80.9, 66.4),
    _vitamin("L2",    256, "12.8 B + 0.5 B",  81.5, 67.4),
    _vitamin("L2",    336, "12.8 B + 0.5 B",  81.8, 67.8),
    _vitamin("L2",    384, "12.8 B + 0.5 B",  82.1, 68.1),
    _vitamin("XL",    256, "40 B",            82.3, 67.5, _TWO.format("82.1, 67.6")),
    _vitamin("XL",    336, "40 B + 1 B",      82.7, 68.0),
    _vitamin("XL",    384, "40 B + 1 B",      82.9, 68.1, _TWO.format("82.6, 68.1")),
)
# fmt: on


def entries() -> list[Entry]:
    """ConvNeXts, ViTamins, then what nobody published weights of."""
    others = [Entry(name=_named(name), config=config) for name, config in (OTHERS | NAFLEX).items()]
    convnext = [Entry(name=_named(name), config=config) for name, config in CONVNEXT.items()]
    return [*convnext, *(model.entry() for model in VITAMIN), *others]


def _named(name: str) -> str:
    return name.lower().replace("_", "-")
