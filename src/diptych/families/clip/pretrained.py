"""OpenAI's CLIP models (Radford et al. 2021, arXiv:2103.00020).

The plain names have GELU, as in open_clip; OpenAI's weights were trained with QuickGELU and belong
to `-quickgelu`.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from diptych.config import ClipConfig
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig
from diptych.families.entry import Claim, Entry, Weights

BASE = VitConfig()
LARGE = VitConfig(patch_size=14, width=1024, layers=24, heads=16, mlp_width=4096)
TEXT = TextConfig()
LARGE_TEXT = TextConfig(width=768, heads=12, mlp_width=3072)

# fmt: off
MODELS = {
    "vit-b-32":     ClipConfig(image=BASE,                                     text=TEXT,       embed_dim=512),
    "vit-b-16":     ClipConfig(image=replace(BASE, patch_size=16),             text=TEXT,       embed_dim=512),
    "vit-l-14":     ClipConfig(image=LARGE,                                    text=LARGE_TEXT, embed_dim=768),
    "vit-l-14-336": ClipConfig(image=replace(LARGE, image_size=336),           text=LARGE_TEXT, embed_dim=768),
    "rn50":         ClipConfig(image=ResNetConfig(),                           text=TEXT,       embed_dim=1024),
    "rn101":        ClipConfig(image=ResNetConfig(layers=(3, 4, 23, 3)),       text=TEXT,       embed_dim=512),
}

# Zero-shot top-1 on ImageNet as the paper's Table 11 gives it, the repository in open_clip's
# layout, and OpenAI's own in transformers' layout (there is none for the ResNets).
PUBLISHED = {
    "vit-b-32":     (63.2, "timm/vit_base_patch32_clip_224.openai",  "openai/clip-vit-base-patch32"),
    "vit-b-16":     (68.6, "timm/vit_base_patch16_clip_224.openai",  "openai/clip-vit-base-patch16"),
    "vit-l-14":     (75.3, "timm/vit_large_patch14_clip_224.openai", "openai/clip-vit-large-patch14"),
    "vit-l-14-336": (76.2, "timm/vit_large_patch14_clip_336.openai", "openai/clip-vit-large-patch14-336"),
    "rn50":         (59.6, "timm/resnet50_clip.openai",              None),
    "rn101":        (62.2, "timm/resnet101_clip.openai",             None),
}
# fmt: on


def quick(config: ClipConfig) -> ClipConfig:
    """`config` with QuickGELU in its transformers; a ResNet's ReLUs stay."""
    image = config.image
    if isinstance(image, VitConfig):
        image = replace(image, activation="quick_gelu")
    assert isinstance(config.text, TextConfig)
    return replace(config, image=image, text=replace(config.text, activation="quick_gelu"))


def entries() -> list[Entry]:
    """Each model with GELU, without weights, and with QuickGELU and OpenAI's weights."""
    plain = [Entry(name=name, config=config) for name, config in MODELS.items()]
    return plain + [
        Entry(
            name=f"{name}-quickgelu",
            config=quick(config),
            weights=tuple(_weights(*PUBLISHED[name])),
            aliases=(f"{name}-openai", f"openai-{name}"),
        )
        for name, config in MODELS.items()
    ]


def _weights(top_1: float, open_clip: str, transformers: str | None) -> Iterator[Weights]:
    claims = (
        Claim(
            metric="imagenet1k zero-shot top-1", value=top_1, source="arXiv:2103.00020, Table 11"
        ),
    )
    common = partial(Weights, licence="MIT", claims=claims)
    yield common(
        repo=open_clip, file="open_clip_model.safetensors", layout="open-clip", names=(open_clip,)
    )
    if transformers:
        yield common(
            repo=transformers,
            file="pytorch_model.bin",
            layout="transformers",
            names=(transformers,),
        )
