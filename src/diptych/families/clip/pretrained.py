"""OpenAI's CLIP models (Radford et al. 2021, arXiv:2103.00020), and open_clip's further ones.

The plain names have GELU, as in open_clip; OpenAI's weights were trained with QuickGELU and belong
to `-quickgelu`.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from diptych.config import ClipConfig
from diptych.families.clip import (
    ResNetConfig,
    TextConfig,
    VitConfig,
    long_clip,
    open_clip_models,
)
from diptych.families.clip.figures import FIGURES, measured
from diptych.families.clip.open_clip_models import BASE, LARGE, LARGE_TEXT, TEXT
from diptych.families.entry import IMAGENET, Claim, Entry, Training, Weights

BASE_16 = replace(BASE, patch_size=16)
LARGE_336 = replace(LARGE, image_size=336)
RN50 = ResNetConfig()
RN101 = ResNetConfig(layers=(3, 4, 23, 3))

# fmt: off
MODELS = {
    "vit-b-32":     ClipConfig(image=BASE,      text=TEXT,       embed_dim=512),
    "vit-b-16":     ClipConfig(image=BASE_16,   text=TEXT,       embed_dim=512),
    "vit-l-14":     ClipConfig(image=LARGE,     text=LARGE_TEXT, embed_dim=768),
    "vit-l-14-336": ClipConfig(image=LARGE_336, text=LARGE_TEXT, embed_dim=768),
    "rn50":         ClipConfig(image=RN50,      text=TEXT,       embed_dim=1024),
    "rn101":        ClipConfig(image=RN101,     text=TEXT,       embed_dim=512),
}

# Zero-shot top-1 on ImageNet as the paper's Table 11 gives it.
TOP_1 = {
    "vit-b-32":     63.2,
    "vit-b-16":     68.6,
    "vit-l-14":     75.3,
    "vit-l-14-336": 76.2,
    "rn50":         59.6,
    "rn101":        62.2,
}
# The repositories in open_clip's layout, and OpenAI's own in transformers' (there are none of the
# ResNets).
OPEN_CLIP = {
    "vit-b-32":     "timm/vit_base_patch32_clip_224.openai",
    "vit-b-16":     "timm/vit_base_patch16_clip_224.openai",
    "vit-l-14":     "timm/vit_large_patch14_clip_224.openai",
    "vit-l-14-336": "timm/vit_large_patch14_clip_336.openai",
    "rn50":         "timm/resnet50_clip.openai",
    "rn101":        "timm/resnet101_clip.openai",
}
TRANSFORMERS = {
    "vit-b-32":     "openai/clip-vit-base-patch32",
    "vit-b-16":     "openai/clip-vit-base-patch16",
    "vit-l-14":     "openai/clip-vit-large-patch14",
    "vit-l-14-336": "openai/clip-vit-large-patch14-336",
}
# fmt: on


_TRAINING = Training(
    data="400 M pairs of the web (WIT)",
    languages="English",
    seen="12.8 B",
    epochs="32",
    batch="32,768",
    precision="fp16, mixed",
    use="research; deployed uses are out of scope, surveillance and face recognition in any case",
    source="arXiv:2103.00020, §2.2, §2.5 and table 18; OpenAI's model card",
)
_OWN_TRAINING = {
    "vit-l-14": replace(_TRAINING, hardware="256 V100, 12 days"),
    "vit-l-14-336": replace(_TRAINING, epochs="32, and one of 336 pixels"),
}


_MEASURED = {label.lower(): measured(label) for label in FIGURES}


def quick(config: ClipConfig) -> ClipConfig:
    """`config` with QuickGELU in its transformers; a ResNet's ReLUs stay."""
    image = config.image
    if isinstance(image, VitConfig):
        image = replace(image, activation="quick_gelu")
    assert isinstance(config.text, TextConfig)
    return replace(config, image=image, text=replace(config.text, activation="quick_gelu"))


def entries() -> list[Entry]:
    """Each model with GELU, without weights, and with QuickGELU and OpenAI's weights; open_clip's
    others; Long-CLIP's."""
    plain = [Entry(name=name, config=config) for name, config in MODELS.items()]
    more = open_clip_models.MODELS | {
        f"{name}-quickgelu": quick(open_clip_models.MODELS[name]) for name in open_clip_models.QUICK
    }
    others = [Entry(name=name, config=config) for name, config in more.items()]
    openai = [
        Entry(
            name=f"{name}-quickgelu",
            config=quick(config),
            weights=tuple(_weights(name)),
            aliases=(f"{name}-openai", f"openai-{name}", f"{name}-quickgelu-openai"),
            training=_OWN_TRAINING.get(name, _TRAINING),
        )
        for name, config in MODELS.items()
    ]
    long = long_clip.entries({name: quick(config) for name, config in MODELS.items()})
    return [*plain, *openai, *others, *long]


def _weights(name: str) -> Iterator[Weights]:
    metric, source = IMAGENET, "arXiv:2103.00020, Table 11"
    claims = (
        Claim(metric=metric, value=TOP_1[name], source=source),
        *(_MEASURED.get(f"{name}-quickgelu/openai", ())),
    )
    common = partial(Weights, licence="MIT", claims=claims)
    repo, file = OPEN_CLIP[name], "open_clip_model.safetensors"
    yield common(repo=repo, file=file, format="open-clip", names=(repo,))
    if own := TRANSFORMERS.get(name):
        yield common(repo=own, file="pytorch_model.bin", format="transformers", names=(own,))
