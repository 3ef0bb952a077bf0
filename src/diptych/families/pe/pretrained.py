"""PE-Core's published models (Bolya et al. 2025, arXiv:2504.13181), under open_clip's names."""

from dataclasses import dataclass

from diptych.config import ClipConfig, PreprocessConfig
from diptych.families.clip.config import TextConfig
from diptych.families.entry import Claim, Entry, Training, Weights, figures
from diptych.families.pe.config import PeImageConfig


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of an image tower, as timm's name of it says."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    patch_size: int
    image_size: int
    class_token: bool = True


# fmt: off
SIZES = {  # timm's name of the architecture, without `vit_pe_core_`
    "tiny_patch16_384":     Size(width=192,  layers=12, heads=3,  mlp_width=768,  patch_size=16,
                                 image_size=384),
    "small_patch16_384":    Size(width=384,  layers=12, heads=6,  mlp_width=1536, patch_size=16,
                                 image_size=384),
    "base_patch16_224":     Size(width=768,  layers=12, heads=12, mlp_width=3072, patch_size=16,
                                 image_size=224),
    "large_patch14_336":    Size(width=1024, layers=24, heads=16, mlp_width=4096, patch_size=14,
                                 image_size=336),
    "gigantic_patch14_448": Size(width=1536, layers=50, heads=16, mlp_width=8960, patch_size=14,
                                 image_size=448, class_token=False),
}
_SMALL_TEXT = TextConfig(context_length=32)
_TEXT       = TextConfig(context_length=32, width=1024, layers=24, heads=16, mlp_width=4096)
_LARGE_TEXT = TextConfig(context_length=72, width=1280, layers=24, heads=20, mlp_width=5120)

MODELS = {  # open_clip's name: size, text tower, width of the shared space, the authors' name
    "PE-Core-T-16-384":    ("tiny_patch16_384",     _SMALL_TEXT, 512,  "PE-Core-T16-384"),
    "PE-Core-S-16-384":    ("small_patch16_384",    _SMALL_TEXT, 512,  "PE-Core-S16-384"),
    "PE-Core-B-16":        ("base_patch16_224",     _TEXT,       1024, "PE-Core-B16-224"),
    "PE-Core-L-14-336":    ("large_patch14_336",    _TEXT,       1024, "PE-Core-L14-336"),
    "PE-Core-bigG-14-448": ("gigantic_patch14_448", _LARGE_TEXT, 1280, "PE-Core-G14-448"),
}

# Zero-shot top-1 on ImageNet, and recall@1 of COCO's pictures for a caption, by the authors.
CLAIMS = {
    "PE-Core-T-16-384":    (62.1, None),
    "PE-Core-S-16-384":    (72.7, None),
    "PE-Core-B-16":        (78.4, 50.9),
    "PE-Core-L-14-336":    (83.5, 57.1),
    "PE-Core-bigG-14-448": (85.4, 58.1),
}
# fmt: on
PREPROCESS = PreprocessConfig(
    resize="squash", interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)
_SOURCE = "github.com/facebookresearch/perception_models, apps/pe/README.md"


def image_config(size: str) -> PeImageConfig:
    """The image tower of this size.

    >>> from diptych.families.pe.pretrained import image_config
    >>> image_config("large_patch14_336").rotary_grid
    24
    """
    s = SIZES[size]
    return PeImageConfig(
        image_size=s.image_size,
        patch_size=s.patch_size,
        width=s.width,
        layers=s.layers,
        heads=s.heads,
        mlp_width=s.mlp_width,
        class_token=s.class_token,
        rotary_grid=s.image_size // s.patch_size,
        pool_mlp_width=4 * s.width,
    )


def entries() -> list[Entry]:
    """All of them."""
    return [_entry(name) for name in MODELS]


def _entry(name: str) -> Entry:
    size, text, embed_dim, own = MODELS[name]
    config = ClipConfig(
        image=image_config(size), text=text, embed_dim=embed_dim, preprocess=PREPROCESS
    )
    top_1, recall = CLAIMS[name]
    claims = [*figures((top_1,), _SOURCE)]
    if recall is not None:
        metric = "coco text-to-image R@1"
        claims.append(Claim(metric=metric, value=recall, source=_SOURCE))
    timm, meta = f"timm/{name}", f"facebook/{own}"
    weights = (
        Weights(
            repo=timm,
            file="open_clip_model.safetensors",
            format="open-clip",
            licence="Apache-2.0",
            names=(timm,),
            tags=("meta",),
        ),
        Weights(
            repo=meta,
            file=f"{own}.pt",
            format="pe",
            licence="Apache-2.0",
            names=(f"{own}.pt", meta),
        ),
    )
    return Entry(
        name=name.lower(),
        config=config,
        weights=weights,
        aliases=(own,),
        claims=tuple(claims),
        training=Training(
            data="web pairs, then videos with synthetic captions", source="arXiv:2504.13181"
        ),
    )
