"""CLIPA's published models (Li et al. 2023, arXiv:2305.07017 and arXiv:2306.15658) and CLIPS's (Liu
et al. 2024, arXiv:2411.16828), under open_clip's names, and OpenVision's (Li et al. 2025,
arXiv:2505.04601), under their own.

https://github.com/UCSC-VLAA/CLIPA, CLIPS and OpenVision
"""

from dataclasses import replace

from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.families.clip.config import VitConfig
from diptych.families.clip.open_clip_models import BIG, HUGE, LARGE
from diptych.families.clipa.config import ClipaTextConfig
from diptych.families.entry import Entry, Training, Weights, figures

PREPROCESS = PreprocessConfig(
    resize="squash",
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
"""ImageNet's mean and deviation."""
TOKENIZER = TokenizerConfig(kind="huggingface", name="bert-base-uncased", blank_separator=True)

# fmt: off
_TEXT       = ClipaTextConfig()
_HUGE_TEXT  = ClipaTextConfig(width=1024, layers=24, heads=16, mlp_width=4096)
_BIG_TEXT   = ClipaTextConfig(width=1280, layers=32, heads=20, mlp_width=5120)


def _model(image: VitConfig, text: ClipaTextConfig, embed_dim: int, size: int) -> ClipConfig:
    return ClipConfig(
        image=replace(image, image_size=size, pool="patches", pre_norm=False),
        text=text,
        embed_dim=embed_dim,
        preprocess=PREPROCESS,
        tokenizer=TOKENIZER,
    )


CLIPA = {
    "ViT-L-14-CLIPA":        _model(LARGE, _TEXT,      768,  224),
    "ViT-L-14-CLIPA-336":    _model(LARGE, _TEXT,      768,  336),
    "ViT-H-14-CLIPA":        _model(HUGE,  _HUGE_TEXT, 1024, 224),
    "ViT-H-14-CLIPA-336":    _model(HUGE,  _HUGE_TEXT, 1024, 336),
    "ViT-bigG-14-CLIPA":     _model(BIG,   _BIG_TEXT,  1280, 224),
    "ViT-bigG-14-CLIPA-336": _model(BIG,   _BIG_TEXT,  1280, 336),
}
# Zero-shot top-1 on ImageNet, by the authors (their README).
CLIPA_TOP_1 = {"ViT-L-14-CLIPA/datacomp1b": 79.7, "ViT-H-14-CLIPA-336/laion2b": 79.1}

CLIPS = {"ViT-L-14-CLIPS-224": "large", "ViT-H-14-CLIPS-224": "huge"}
"""open_clip's names, and the sizes, of OpenVision's towers. Their texts end with a class token."""

SIZES = {  # width, layers, heads, width of the perceptrons; of the image tower, then of the text's
    "tiny":   ((192,  12, 3,  768),  (192,  12, 3,  768)),
    "small":  ((384,  12, 6,  1536), (384,  12, 6,  1536)),
    "base":   ((768,  12, 12, 3072), (512,  12, 8,  2048)),
    "large":  ((1024, 24, 16, 4096), (768,  12, 12, 3072)),
    "so400m": ((1152, 27, 16, 4304), (1152, 27, 16, 4304)),
    "huge":   ((1280, 32, 16, 5120), (1024, 24, 16, 4096)),
}
OPEN_VISION = {  # size, patch size -> zero-shot top-1 on ImageNet by the pictures' size
    ("tiny",   16): {160: 46.9, 224: 49.6, 384: 51.5},
    ("tiny",   8):  {160: 51.9, 224: 53.5, 384: 53.9},
    ("small",  16): {160: 63.5, 224: 65.9, 384: 67.1},
    ("small",  8):  {160: 67.3, 224: 68.6, 384: 68.5},
    ("base",   16): {160: 72.4, 224: 73.9, 384: 74.5},
    ("base",   8):  {160: 74.8, 224: 75.4, 384: 75.6},
    ("large",  14): {84:  74.7, 224: 78.5, 336: 78.9},
    ("so400m", 14): {84:  76.2, 224: 79.7, 384: 79.9},
    ("huge",   14): {84:  77.4, 224: 80.4},
}
# fmt: on


def entries() -> list[Entry]:
    """CLIPA's, then CLIPS's and OpenVision's."""
    found = [*map(_clipa, CLIPA), *map(_clips, CLIPS)]
    for (size, patch_size), scores in OPEN_VISION.items():
        found += [
            _open_vision(size, patch_size, image_size, top_1)
            for image_size, top_1 in scores.items()
        ]
    return found


_HARDWARE = {"ViT-L-14-CLIPA": "4,008 A100 hours", "ViT-H-14-CLIPA-336": "8,640 A100 hours"}


def _clipa(name: str) -> Entry:
    data = {"datacomp1b": "datacomp1B", "laion2b": "laion2B"}
    tags = tuple(data) if name == "ViT-H-14-CLIPA-336" else ("datacomp1b",)
    return Entry(
        name=name.lower(),
        config=CLIPA[name],
        weights=tuple(_clipa_weights(name, tag, data[tag]) for tag in tags),
        training=Training(
            data="; ".join(data[tag] for tag in tags) + ", first of small pictures and short texts",
            hardware=_HARDWARE.get(name, ""),
            source="github.com/UCSC-VLAA/CLIPA, clipa_torch/README.md",
        ),
    )


def _clipa_weights(name: str, tag: str, data: str) -> Weights:
    top_1 = CLIPA_TOP_1.get(f"{name}/{tag}")
    source = "github.com/UCSC-VLAA/CLIPA, clipa_torch/README.md"
    repo = f"UCSC-VLAA/{name}-{data}"
    return Weights(
        repo=repo,
        format="open-clip",
        licence="Apache-2.0",
        names=(repo,),
        tags=(tag,),
        claims=figures((top_1,), source),
    )


def _clips(name: str) -> Entry:
    repo = f"UCSC-VLAA/{name}-Recap-DataComp-1B"
    tokenizer = replace(TOKENIZER, blank_separator=False, class_last=True)
    return Entry(
        name=name.lower(),
        config=replace(open_vision_config(CLIPS[name], 14, 224), tokenizer=tokenizer),
        weights=(Weights(repo=repo, format="open-clip", licence="Apache-2.0", names=(repo,)),),
        training=Training(
            data="Recap-DataComp-1B", languages="English", source="arXiv:2411.16828, the model card"
        ),
    )


def open_vision_config(size: str, patch_size: int, image_size: int) -> ClipConfig:
    """One of OpenVision's; its texts' GELU is approximated, its pictures' is not.

    >>> from diptych.families.clipa.pretrained import open_vision_config
    >>> open_vision_config("base", patch_size=16, image_size=224).text.context_length
    80
    """
    (width, layers, heads, mlp_width), (text_width, text_layers, text_heads, text_mlp) = SIZES[size]
    image = VitConfig(
        patch_size=patch_size,
        width=width,
        layers=layers,
        heads=heads,
        mlp_width=mlp_width,
        norm_eps=1e-6,
    )
    text = ClipaTextConfig(
        context_length=80,
        width=text_width,
        layers=text_layers,
        heads=text_heads,
        mlp_width=text_mlp,
        activation="gelu_tanh",
        norm_eps=1e-6,
    )
    return _model(image, text, text_width, image_size)


def _open_vision(size: str, patch_size: int, image_size: int, top_1: float) -> Entry:
    name = f"openvision-vit-{size}-patch{patch_size}-{image_size}"
    repo = f"UCSC-VLAA/{name}"
    return Entry(
        name=name,
        config=open_vision_config(size, patch_size, image_size),
        weights=(Weights(repo=repo, format="open-clip", licence="Apache-2.0", names=(repo,)),),
        claims=figures((top_1,), "github.com/UCSC-VLAA/OpenVision, README.md"),
        training=Training(data="Recap-DataComp-1B", source="arXiv:2505.04601"),
    )
