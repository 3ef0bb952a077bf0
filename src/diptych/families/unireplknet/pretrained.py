"""UniRepLKNet, ConvNets of large kernels (Ding et al. 2024, arXiv:2311.15599), and the CLIP model
around the large one (Zhang et al. 2024, arXiv:2410.08049).

The image towers were trained to classify ImageNet. All are in training form, as their weights are
published.
"""

from dataclasses import replace

from diptych.config import ClipConfig
from diptych.families.clip import TextConfig
from diptych.families.entry import IMAGENET, Claim, Entry, Training, Weights
from diptych.families.unireplknet import UniRepLKNetConfig

# fmt: off
_AT_224 = {
    "unireplknet-a":  UniRepLKNetConfig(depths=(2, 2, 6, 2),  widths=(40, 80, 160, 320)),
    "unireplknet-f":  UniRepLKNetConfig(depths=(2, 2, 6, 2),  widths=(48, 96, 192, 384)),
    "unireplknet-p":  UniRepLKNetConfig(depths=(2, 2, 6, 2),  widths=(64, 128, 256, 512)),
    "unireplknet-n":  UniRepLKNetConfig(depths=(2, 2, 8, 2),  widths=(80, 160, 320, 640)),
    "unireplknet-t":  UniRepLKNetConfig(depths=(3, 3, 18, 3), widths=(80, 160, 320, 640)),
    "unireplknet-s":  UniRepLKNetConfig(depths=(3, 3, 27, 3), widths=(96, 192, 384, 768)),
    "unireplknet-b":  UniRepLKNetConfig(depths=(3, 3, 27, 3), widths=(128, 256, 512, 1024)),
    "unireplknet-l":  UniRepLKNetConfig(depths=(3, 3, 27, 3), widths=(192, 384, 768, 1536)),
    "unireplknet-xl": UniRepLKNetConfig(depths=(3, 3, 27, 3), widths=(256, 512, 1024, 2048)),
}
_LARGEST = ("unireplknet-s", "unireplknet-b", "unireplknet-l", "unireplknet-xl")
_AT_384 = {f"{name}-384": replace(_AT_224[name], image_size=384) for name in _LARGEST}
TOWERS = _AT_224 | _AT_384

# The authors' files, whose names say where they were trained and how good they are: ImageNet-1K's
# top-1, which isn't known of classifiers of ImageNet-22K. Those were trained at 224 (S, B) and 192
# pixels (L, XL).
FILES = {
    "unireplknet-a":      {"unireplknet_a_in1k_224_acc77.03.pth": 77.03},
    "unireplknet-f":      {"unireplknet_f_in1k_224_acc78.58.pth": 78.58},
    "unireplknet-p":      {"unireplknet_p_in1k_224_acc80.23.pth": 80.23},
    "unireplknet-n":      {"unireplknet_n_in1k_224_acc81.64.pth": 81.64},
    "unireplknet-t":      {"unireplknet_t_in1k_224_acc83.21.pth": 83.21},
    "unireplknet-s":      {"unireplknet_s_in1k_224_acc83.91.pth": 83.91,
                           "unireplknet_s_in22k_pretrain.pth": None},
    "unireplknet-b":      {"unireplknet_b_in22k_pretrain.pth": None},
    "unireplknet-l":      {"unireplknet_l_in22k_pretrain.pth": None},
    "unireplknet-xl":     {"unireplknet_xl_in22k_pretrain.pth": None},
    "unireplknet-s-384":  {"unireplknet_s_in22k_to_in1k_384_acc86.44.pth": 86.44},
    "unireplknet-b-384":  {"unireplknet_b_in22k_to_in1k_384_acc87.40.pth": 87.40},
    "unireplknet-l-384":  {"unireplknet_l_in22k_to_in1k_384_acc87.88.pth": 87.88},
    "unireplknet-xl-384": {"unireplknet_xl_in22k_to_in1k_384_acc87.96.pth": 87.96},
}
# fmt: on

CLIP = ClipConfig(
    image=TOWERS["unireplknet-l"],
    text=TextConfig(width=1024, layers=24, heads=16, mlp_width=4096),
    embed_dim=1024,
)
"""Nobody published this configuration: the text tower is the card's, the width of the shared space
that of the other models with this text tower, the projection without bias the one that the card's
wording means."""
CLIP_320 = replace(CLIP, image=replace(CLIP.image, image_size=320))

_CARD = "The card's 847 M weights, 198 GMAC and > 79 % are another model's, a ConvNeXt-XXLarge's."
_TRAINING = Training(
    data="LAION-2B, its English pairs",
    languages="English",
    seen="11.7 B",
    batch="76,800",
    precision="bf16",
    hardware="128 A100 of 40 GB",
    source="the card's command, read by its own arithmetic (docs/unireplknet.md)",
)
"""By the card's command, whose 256 epochs are checkpoints of 45,646,078 samples: the last quarter
at 320 pixels."""
_AUTHORS = "DingXiaoH/UniRepLKNet"
_CLIP_WEIGHTS = Weights(
    repo="Yiyuan/CLIP-UniRepLKNet-L-laion5B-s10B-b75k",
    file="UniRepLKNet-L-b75k_s10B_CLIP-in1k_75.72.pt",
    format="unireplknet",
    licence="Apache-2.0",
    names=(
        "UniRepLKNet-L-b75k_s10B_CLIP-in1k_75.72.pt",
        "UniRepLKNet-L-b75k_s10B_CLIP-in1k_75.72",
        "Yiyuan/CLIP-UniRepLKNet-L-laion5B-s10B-b75k",
        "CLIP-UniRepLKNet-L-laion5B-s10B-b75k",
    ),
    tags=("laion5b_s11b_b75k", "laion5b_s10b_b75k"),
    note=(
        "To judge by the card's own example, the trunk alone: without projection and text tower "
        "no zero-shot."
    ),
    claims=(
        Claim(
            metric=IMAGENET,
            value=75.7,
            source="the weights' card, which also says 76.3",
        ),
        Claim(metric=IMAGENET, value=76.6, source="arXiv:2410.08049"),
    ),
)


def entries() -> list[Entry]:
    """The CLIP model at its two sizes, then the image towers alone, at theirs."""
    return [
        Entry(
            name="clip-unireplknet-l",
            config=CLIP,
            weights=(_CLIP_WEIGHTS,),
            aliases=(
                "CLIP-UniRepLKNet_large-laion5B-s11B-b75K",
                "UniRepLKNet_large.laion5b_s11b_b75k",
                "CLIP-UniRepLKNet-L-224",
            ),
            note=(
                f"{_CARD} Which size its published weights were trained at last, nobody says: "
                "evaluate at both."
            ),
            training=_TRAINING,
        ),
        Entry(
            name="clip-unireplknet-l-320",
            config=CLIP_320,
            weights=(replace(_CLIP_WEIGHTS, names=()),),
            note=_CARD,
            training=_TRAINING,
        ),
        *(_tower(name) for name in TOWERS),
    ]


def _tower(name: str) -> Entry:
    return Entry(
        name=name,
        config=TOWERS[name],
        weights=tuple(_file(file, top_1) for file, top_1 in FILES[name].items()),
        note=(
            "An image classifier's trunk, trained on pictures normalised by ImageNet's mean and "
            "deviation."
        ),
    )


def _file(file: str, top_1: float | None) -> Weights:
    """One of the authors' files."""
    metric, source = "imagenet1k top-1 as a classifier", "the file's name"
    return Weights(
        repo=_AUTHORS,
        file=file,
        format="unireplknet",
        licence="Apache-2.0",
        names=(file, file.removesuffix(".pth"), f"{_AUTHORS}/{file}"),
        claims=() if top_1 is None else (Claim(metric=metric, value=top_1, source=source),),
    )
