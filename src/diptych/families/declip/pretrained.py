"""DeCLIP's family (Li et al. 2021, arXiv:2110.05208; Cui et al. 2022, arXiv:2203.05796): five
methods on the same 15 million pairs of YFCC, and DeCLIP on 88 million. Numbers and links are from
github.com/Sense-GVT/DeCLIP, its README.

SLIP and FILIP here are DeCLIP's own; SLIP's authors published other models
(github.com/facebookresearch/SLIP).
"""

from dataclasses import replace

from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig
from diptych.families.entry import IMAGENET, Claim, Entry, Training, Weights

VOCABULARY = 49409
"""CLIP's tokens, and a mask token before the two special ones."""
PREPROCESS = PreprocessConfig(
    crop_share=0.875,
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
"""The shorter side to 256 pixels, the middle 224; ImageNet's mean and deviation."""

VIT = VitConfig(activation="quick_gelu")
RESNET = ResNetConfig()
TEXT = TextConfig(vocab_size=VOCABULARY, activation="quick_gelu", projection_bias=True)
BASE = ClipConfig(
    image=VIT,
    text=TEXT,
    embed_dim=512,
    preprocess=PREPROCESS,
    tokenizer=TokenizerConfig(kind="declip"),
)
BASE_RESNET = replace(BASE, image=RESNET, embed_dim=1024)

# fmt: off
MODELS = {
    "clip-vit-b-32-yfcc15m":    BASE,
    "slip-vit-b-32-yfcc15m":    BASE,
    "filip-vit-b-32-yfcc15m":   replace(BASE, embed_dim=768, token_dim=256),
    "declip-vit-b-32-yfcc15m":  BASE,
    "defilip-vit-b-32-yfcc15m": replace(BASE, token_dim=256),
    "clip-rn50-yfcc15m":        BASE_RESNET,
    "slip-rn50-yfcc15m":        replace(BASE_RESNET, image=replace(RESNET, head="linear")),
    "filip-rn50-yfcc15m":       replace(BASE_RESNET, token_dim=256),
    "declip-rn50-yfcc15m":      BASE_RESNET,
    "declip-vit-b-32-88m":      replace(BASE, embed_dim=3072),
    "declip-rn50-88m":          BASE_RESNET,
}

# Zero-shot top-1 on ImageNet by the README, and Google Drive's ids: of the whole model, of the
# image tower alone.
PUBLISHED = {
    "clip-vit-b-32-yfcc15m":    (32.8, "1Xr6fP6DlVzh4SMXXhtcOlh6hFWPaUgs2", ""),
    "slip-vit-b-32-yfcc15m":    (34.3, "1PhjUgjLHymTW42_6TaY21P685-lSjbTj", ""),
    "filip-vit-b-32-yfcc15m":   (39.5, "1qqsCMgOqOaQkmgkG205qoKxcOsr3QacO", ""),
    "declip-vit-b-32-yfcc15m":  (43.2, "1YOAjiSgOBV4gjPpMyo8UDRSZMFxkP3Dz", ""),
    "defilip-vit-b-32-yfcc15m": (45.0, "1FYId-kfhwneDGZO6R8nxAS7ti4_V4xwG", ""),
    "clip-rn50-yfcc15m":        (37.2, "1ln2doFyO3Jhld1GJUedHozvA6cdoE6jp", ""),
    "slip-rn50-yfcc15m":        (28.5, "", ""),
    "filip-rn50-yfcc15m":       (21.3, "", ""),
    "declip-rn50-yfcc15m":      (44.4, "1ZjgJkA-50p0U16kJS-oEKHRUWD2nAjJb", ""),
    "declip-vit-b-32-88m":      (66.2, "135v0R8zTiAppr-BejtoXRHeGeMTlDf2x",
                                       "1W2cCxsr3EjvOOWzVXZukLk38c8LC6UUm"),
    "declip-rn50-88m":          (62.5, "1YS6xRdF5bY4rvgyCFQVIyPMr7evfZi3D",
                                       "1SZJ8CU5dDIwuvZWxb4xdld7qv7aw6wKm"),
}

NOTES = {
    "filip-vit-b-32-yfcc15m": (
        "Trained token by token; its whole vectors weren't. Evaluate it by its tokens."
    ),
    "filip-rn50-yfcc15m": "Trained token by token. Configured by its authors, never released.",
    "slip-rn50-yfcc15m": (
        "Never released. Its code can't run as published; this is the ResNet beside it, which can: "
        "a linear layer stands behind the attention pool."
    ),
}
# fmt: on

SOURCE = "DeCLIP's README"
_YFCC = Training(
    data="YFCC15M, 15,388,848 pairs",
    languages="English",
    epochs="32",
    batch="4096",
    precision="fp32",
    hardware="4 nodes of 8 GPUs",
    use="academic use",
    source=f"{SOURCE} and configurations",
)
_88M = replace(_YFCC, data="88 M pairs", precision="fp16", languages="", batch="", hardware="")
_LICENCE = "BSD-2-Clause, academic use (by the README)"
_DRIVE = "https://drive.google.com/file/d/{}/view"


def entries() -> list[Entry]:
    """The models, in the order of the README's tables."""
    return [
        Entry(
            name=name,
            config=config,
            weights=_weights(name),
            aliases=_aliases(name),
            note=NOTES.get(name, ""),
            claims=(_claim(name),),
            training=_YFCC if name.endswith("yfcc15m") else _88M,
        )
        for name, config in MODELS.items()
    ]


def _claim(name: str) -> Claim:
    return Claim(metric=IMAGENET, value=PUBLISHED[name][0], source=SOURCE)


def _weights(name: str) -> tuple[Weights, ...]:
    _, whole, image = PUBLISHED[name]
    found = ((whole, "declip", ""), (image, "declip-image", "The image tower alone: no zero-shot."))
    return tuple(
        Weights(
            link=_DRIVE.format(drive), format=layout, licence=_LICENCE, names=(drive,), note=note
        )
        for drive, layout, note in found
        if drive
    )


def _aliases(name: str) -> tuple[str, ...]:
    """The configuration's folder, the model's type in it, and shorter names where 15 million pairs
    are meant."""
    method, _, rest = name.partition("-")
    tower, _, data = rest.rpartition("-")
    short, long = ("vit", "vitb32") if tower == "vit-b-32" else ("r50", "res50")
    if data == "88m":
        folder = f"declip88m_{'r50' if short == 'r50' else 'vitb32'}_declip"
        return folder, folder.removesuffix("_declip"), f"declip_{long}_88m", f"DeCLIP-88M-{tower}"
    spellings = (long, tower, "ViT-B32" if short == "vit" else "ResNet50")
    return f"yfcc15m_{short}_{method}", *(f"{method}-{each}" for each in spellings)
