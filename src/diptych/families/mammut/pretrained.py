"""MaMMUT's models (Kuo et al. 2023, arXiv:2303.16839): those that LAION trained with its fork of
open_clip (Nezhurina et al. 2025, arXiv:2506.04598), and open_clip's own, which read no padding.

https://github.com/LAION-AI/open_clip_mammut and https://github.com/mlfoundations/open_clip,
model_configs; https://github.com/LAION-AI/scaling-laws-for-comparison
"""

from typing import Any

from diptych.config import ClipConfig, PreprocessConfig
from diptych.families.clip.config import VitConfig
from diptych.families.entry import COCO, COCO_TEXTS, IMAGENET, Claim, Entry, Training, Weights
from diptych.families.mammut.config import MammutDecoderConfig, MammutTextConfig
from diptych.families.timm import NaflexVitConfig


def _model(
    image: dict[str, Any], text: dict[str, Any], fork: bool = True, lean: bool = False
) -> ClipConfig:
    """`lean`: blocks of text in front of a reader have no MLP."""
    heads: dict[str, Any] = {"heads": image["width"] // 64, "mlp_width": 4 * image["width"]}
    vit = VitConfig(**heads | image, pool="all" if fork else "patches")
    sizes: dict[str, Any] = {"heads": text["width"] // 64, "mlp_width": 4 * text["width"]} | text
    return ClipConfig(
        image=vit,
        text=MammutTextConfig(
            **sizes,
            pool="all" if fork else "real",
            masked=not fork,
            lean_every=2 if lean else 0,
        ),
        decoder=MammutDecoderConfig(**sizes, picture_width=vit.width),
        embed_dim=text["width"],
    )


# fmt: off
_IMAGE = {
    "S": {"width": 384,  "layers": 12},
    "M": {"width": 512,  "layers": 12},
    "B": {"width": 768,  "layers": 12},
    "L": {"width": 1024, "layers": 24},
    "H": {"width": 1280, "layers": 32, "heads": 16},
}
_TEXT = {
    "S":    {"width": 384,  "layers": 12},
    "M":    {"width": 512,  "layers": 12},
    "B":    {"width": 512,  "layers": 12},
    "B-16": {"width": 768,  "layers": 12},
    "L":    {"width": 768,  "layers": 12},
    "H":    {"width": 1024, "layers": 24},
}
LAION = {
    "S-32": "S", "S-16": "S",    "S-14": "S",
    "M-32": "M", "M-16": "M",    "M-14": "M",
    "B-32": "B", "B-16": "B-16", "B-14": "B",
    "B-32-384": "B", "B-16-384": "B-16",
    "B-32-512": "B", "B-16-512": "B-16",
    "L-32": "L", "L-16": "L",    "L-14": "L", "L-14-384": "L", "L-14-512": "L",
    "H-32": "H", "H-16": "H",    "H-14": "H",
}
"""Image tower -> text tower, by the fork's names."""
_LEAN = ("S", "M", "B")
# fmt: on


def _image(name: str) -> dict[str, Any]:
    scale, patch, *side = name.split("-")
    return _IMAGE[scale] | {"patch_size": int(patch), "image_size": int(*side or ["224"])}


MODELS = {
    f"mammut_ViT-{name}": _model(_image(name), _TEXT[text], lean=text in _LEAN)
    for name, text in LAION.items()
} | {
    f"mammut2_ViT-{name}": _model(_image(name), _TEXT[name[0]], fork=False)
    for name in ("B-32", "B-16", "L-14")
}
"""By their names in the fork, and in open_clip (`mammut2`)."""


def _naflex(patch_size: int, patches: int, **options: Any) -> ClipConfig:
    image = NaflexVitConfig(
        name="naflexvit_base_patch16_gap",
        patch_size=patch_size,
        options={"global_pool": "avg", "pre_norm": True, **options},
    )
    how = PreprocessConfig(resize="native", patches=patches, patch_size=patch_size)
    decoder = MammutDecoderConfig(pictures="normed")
    return ClipConfig(
        image=image, text=MammutTextConfig(), decoder=decoder, embed_dim=512, preprocess=how
    )


NAFLEX = {
    "mammut2-naflex_ViT-B-16": _naflex(16, 256),
    "mammut2-naflex_ViT-B-32": _naflex(32, 64, pos_embed_grid_size=[8, 8]),
}
"""Of open_clip's main branch, for pictures of their own aspect."""
TINY = ClipConfig(
    image=VitConfig(
        image_size=48, patch_size=8, width=128, layers=2, heads=4, mlp_width=256, pool="patches"
    ),
    text=MammutTextConfig(context_length=32, width=64, layers=2, heads=2, mlp_width=128),
    decoder=MammutDecoderConfig(
        context_length=32, width=64, layers=2, heads=2, mlp_width=128, picture_width=128
    ),
    embed_dim=64,
)
"""For tests, as CoCa's. The vocabulary is CLIP's, which makes most of the parameters."""
_NOTE = "writes captions, too (diptych caption)"
_CARD = "the model's card, and arXiv:2506.04598"
_NAMED = "the repository's name"
TRAINING = {
    "mammut_ViT-L-14": Training(data="DataComp-1.4B", seen="12.8 B", batch="180K", source=_NAMED),
    "mammut_ViT-L-14-512": Training(
        data="DataComp-1B, then its pictures of 512 pixels",
        seen="76 M of the larger pictures",
        batch="73K",
        source=_NAMED,
    ),
}
WEIGHTS = {
    "mammut_ViT-L-14": Weights(
        repo="laion/openMaMMUT-ViT-L-14-DataComp-1.4B-s12.8B-b180K",
        format="mammut",
        licence="see the model's card",
        names=("laion/openMaMMUT-ViT-L-14-DataComp-1.4B-s12.8B-b180K",),
        tags=("datacomp1b_s12.8b_b180k",),
        claims=(Claim(metric=IMAGENET, value=80.34, source=_CARD),),
    ),
    "mammut_ViT-L-14-512": Weights(
        repo="laion/openMaMMUT-ViT-L-14-512x512-pt_datacomp1b-ft_datacomp512x512-s76M-b73k",
        format="mammut",
        licence="see the model's card",
        names=("laion/openMaMMUT-ViT-L-14-512x512-pt_datacomp1b-ft_datacomp512x512-s76M-b73k",),
        tags=("datacomp512x512_s76m_b73k",),
        note="fine-tuned on larger pictures of DataComp",
        claims=(
            Claim(metric=IMAGENET, value=80.94, source="the model's card"),
            Claim(metric=COCO, value=71.95, source="the model's card"),
            Claim(metric=COCO_TEXTS, value=86.56, source="the model's card"),
        ),
    ),
}
"""Of the models on the hub by themselves. Those of arXiv:2506.04598's scales lie in
laion/scaling-laws-for-comparison, and `diptych.load` takes their files."""


def entries() -> list[Entry]:
    """All sizes, two of them with weights; and the tiny one."""
    published = [
        Entry(
            name=name.lower().replace("_", "-"),
            config=config,
            weights=(WEIGHTS[name],) if name in WEIGHTS else (),
            note=_NOTE,
            training=TRAINING.get(name, Training()),
        )
        for name, config in (MODELS | NAFLEX).items()
    ]
    return [*published, Entry(name="tiny-mammut", config=TINY)]
