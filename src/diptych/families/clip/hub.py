"""Weights on the hub that open_clip knows by a model's name and a tag, beyond those of
`pretrained`: their folders say themselves how the model is built.

https://github.com/mlfoundations/open_clip, docs/openclip_results.csv. All of these take CLIP's
tokenizer and its 77 tokens; others are their families'.
"""

from dataclasses import replace

from diptych.config import PreprocessConfig
from diptych.families.clip.figures import measured
from diptych.families.clip.pretrained import MODELS
from diptych.families.clip.tags import training_of
from diptych.families.entry import Weights, figures

TAGS = {
    "RN50": {
        "yfcc15m": "timm/resnet50_clip.yfcc15m",
        "cc12m": "timm/resnet50_clip.cc12m",
    },
    "RN101": {
        "yfcc15m": "timm/resnet101_clip.yfcc15m",
    },
    "RN50x4": {
        "openai": "timm/resnet50x4_clip.openai",
    },
    "RN50x16": {
        "openai": "timm/resnet50x16_clip.openai",
    },
    "RN50x64": {
        "openai": "timm/resnet50x64_clip.openai",
    },
    "ViT-B-32": {
        "laion400m_e31": "timm/vit_base_patch32_clip_224.laion400m_e31",
        "laion400m_e32": "timm/vit_base_patch32_clip_224.laion400m_e32",
        "laion2b_e16": "timm/vit_base_patch32_clip_224.laion2b_e16",
        "laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "datacomp_xl_s13b_b90k": "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        "datacomp_m_s128m_b4k": "laion/CLIP-ViT-B-32-DataComp.M-s128M-b4K",
        "commonpool_m_clip_s128m_b4k": "laion/CLIP-ViT-B-32-CommonPool.M.clip-s128M-b4K",
        "commonpool_m_laion_s128m_b4k": "laion/CLIP-ViT-B-32-CommonPool.M.laion-s128M-b4K",
        "commonpool_m_image_s128m_b4k": "laion/CLIP-ViT-B-32-CommonPool.M.image-s128M-b4K",
        "commonpool_m_text_s128m_b4k": "laion/CLIP-ViT-B-32-CommonPool.M.text-s128M-b4K",
        "commonpool_m_basic_s128m_b4k": "laion/CLIP-ViT-B-32-CommonPool.M.basic-s128M-b4K",
        "commonpool_m_s128m_b4k": "laion/CLIP-ViT-B-32-CommonPool.M-s128M-b4K",
        "datacomp_s_s13m_b4k": "laion/CLIP-ViT-B-32-DataComp.S-s13M-b4K",
        "commonpool_s_clip_s13m_b4k": "laion/CLIP-ViT-B-32-CommonPool.S.clip-s13M-b4K",
        "commonpool_s_laion_s13m_b4k": "laion/CLIP-ViT-B-32-CommonPool.S.laion-s13M-b4K",
        "commonpool_s_image_s13m_b4k": "laion/CLIP-ViT-B-32-CommonPool.S.image-s13M-b4K",
        "commonpool_s_text_s13m_b4k": "laion/CLIP-ViT-B-32-CommonPool.S.text-s13M-b4K",
        "commonpool_s_basic_s13m_b4k": "laion/CLIP-ViT-B-32-CommonPool.S.basic-s13M-b4K",
        "commonpool_s_s13m_b4k": "laion/CLIP-ViT-B-32-CommonPool.S-s13M-b4K",
        "metaclip_400m": "timm/vit_base_patch32_clip_224.metaclip_400m",
        "metaclip_fullcc": "timm/vit_base_patch32_clip_224.metaclip_2pt5b",
    },
    "ViT-B-32-256": {
        "datacomp_s34b_b86k": "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
    },
    "ViT-B-16": {
        "laion400m_e31": "timm/vit_base_patch16_clip_224.laion400m_e31",
        "laion400m_e32": "timm/vit_base_patch16_clip_224.laion400m_e32",
        "laion2b_s34b_b88k": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        "datacomp_xl_s13b_b90k": "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
        "datacomp_l_s1b_b8k": "laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K",
        "commonpool_l_clip_s1b_b8k": "laion/CLIP-ViT-B-16-CommonPool.L.clip-s1B-b8K",
        "commonpool_l_laion_s1b_b8k": "laion/CLIP-ViT-B-16-CommonPool.L.laion-s1B-b8K",
        "commonpool_l_image_s1b_b8k": "laion/CLIP-ViT-B-16-CommonPool.L.image-s1B-b8K",
        "commonpool_l_text_s1b_b8k": "laion/CLIP-ViT-B-16-CommonPool.L.text-s1B-b8K",
        "commonpool_l_basic_s1b_b8k": "laion/CLIP-ViT-B-16-CommonPool.L.basic-s1B-b8K",
        "commonpool_l_s1b_b8k": "laion/CLIP-ViT-B-16-CommonPool.L-s1B-b8K",
        "dfn2b": "apple/DFN2B-CLIP-ViT-B-16",
        "metaclip_400m": "timm/vit_base_patch16_clip_224.metaclip_400m",
        "metaclip_fullcc": "timm/vit_base_patch16_clip_224.metaclip_2pt5b",
    },
    "ViT-B-16-plus-240": {
        "laion400m_e31": "timm/vit_base_patch16_plus_clip_240.laion400m_e31",
        "laion400m_e32": "timm/vit_base_patch16_plus_clip_240.laion400m_e31",
    },
    "ViT-L-14": {
        "laion400m_e31": "timm/vit_large_patch14_clip_224.laion400m_e31",
        "laion400m_e32": "timm/vit_large_patch14_clip_224.laion400m_e32",
        "laion2b_s32b_b82k": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "datacomp_xl_s13b_b90k": "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        "commonpool_xl_clip_s13b_b90k": "laion/CLIP-ViT-L-14-CommonPool.XL.clip-s13B-b90K",
        "commonpool_xl_laion_s13b_b90k": "laion/CLIP-ViT-L-14-CommonPool.XL.laion-s13B-b90K",
        "commonpool_xl_s13b_b90k": "laion/CLIP-ViT-L-14-CommonPool.XL-s13B-b90K",
        "metaclip_400m": "timm/vit_large_patch14_clip_224.metaclip_400m",
        "metaclip_fullcc": "timm/vit_large_patch14_clip_224.metaclip_2pt5b",
        "dfn2b": "apple/DFN2B-CLIP-ViT-L-14",
        "dfn2b_s39b": "apple/DFN2B-CLIP-ViT-L-14-39B",
    },
    "ViT-H-14": {
        "laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        "metaclip_fullcc": "timm/vit_huge_patch14_clip_224.metaclip_2pt5b",
        "metaclip_altogether": "timm/vit_huge_patch14_clip_224.metaclip_altogether",
        "dfn5b": "apple/DFN5B-CLIP-ViT-H-14",
    },
    "ViT-H-14-378": {
        "dfn5b": "apple/DFN5B-CLIP-ViT-H-14-378",
    },
    "ViT-g-14": {
        "laion2b_s12b_b42k": "laion/CLIP-ViT-g-14-laion2B-s12B-b42K",
        "laion2b_s34b_b88k": "laion/CLIP-ViT-g-14-laion2B-s34B-b88K",
    },
    "ViT-bigG-14": {
        "laion2b_s39b_b160k": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
        "metaclip_fullcc": "timm/vit_gigantic_patch14_clip_224.metaclip_2pt5b",
    },
    "convnext_base": {
        "laion400m_s13b_b51k": "laion/CLIP-convnext_base-laion400M-s13B-b51K",
    },
    "convnext_base_w": {
        "laion2b_s13b_b82k": "laion/CLIP-convnext_base_w-laion2B-s13B-b82K",
        "laion2b_s13b_b82k_augreg": "laion/CLIP-convnext_base_w-laion2B-s13B-b82K-augreg",
        "laion_aesthetic_s13b_b82k": "laion/CLIP-convnext_base_w-laion_aesthetic-s13B-b82K",
    },
    "convnext_base_w_320": {
        "laion_aesthetic_s13b_b82k": "laion/CLIP-convnext_base_w_320-laion_aesthetic-s13B-b82K",
        "laion_aesthetic_s13b_b82k_augreg": (
            "laion/CLIP-convnext_base_w_320-laion_aesthetic-s13B-b82K-augreg"
        ),
    },
    "convnext_large_d": {
        "laion2b_s26b_b102k_augreg": "laion/CLIP-convnext_large_d.laion2B-s26B-b102K-augreg",
    },
    "convnext_large_d_320": {
        "laion2b_s29b_b131k_ft": "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft",
        "laion2b_s29b_b131k_ft_soup": "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
    },
    "convnext_xxlarge": {
        "laion2b_s34b_b82k_augreg": "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg",
        "laion2b_s34b_b82k_augreg_rewind": (
            "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-rewind"
        ),
        "laion2b_s34b_b82k_augreg_soup": (
            "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-soup"
        ),
    },
}

QUICK_GELU = ("openai", "yfcc15m", "cc12m", "metaclip_400m", "metaclip_fullcc", "dfn2b", "dfn5b")
"""Tags of weights with QuickGELU, which open_clip also has under `MODEL-quickgelu`."""
_FURTHER = ("ViT-B-32/laion400m_e31", "ViT-B-32/laion400m_e32")
"""Weights with QuickGELU whose tag has GELU elsewhere."""


_LICENCES = {"laion": "MIT", "apple": "Apple's own"}
"""By the repository's owner."""
_HALF = PreprocessConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_CONFIGS = {"ViT-L-14/laion2b_s32b_b82k": replace(MODELS["vit-l-14"], preprocess=_HALF)}
_OF_CARDS = {"ViT-L-14/dfn2b_s39b": figures((82.19, 68.04), "Apple's card")}
# fmt: off
_TRANSFORMERS = {
    "ViT-B-32-quickgelu/metaclip_400m":   "facebook/metaclip-b32-400m",
    "ViT-B-32-quickgelu/metaclip_fullcc": "facebook/metaclip-b32-fullcc2.5b",
    "ViT-B-16-quickgelu/metaclip_400m":   "facebook/metaclip-b16-400m",
    "ViT-B-16-quickgelu/metaclip_fullcc": "facebook/metaclip-b16-fullcc2.5b",
    "ViT-L-14-quickgelu/metaclip_400m":   "facebook/metaclip-l14-400m",
    "ViT-L-14-quickgelu/metaclip_fullcc": "facebook/metaclip-l14-fullcc2.5b",
    "ViT-H-14-quickgelu/metaclip_fullcc": "facebook/metaclip-h14-fullcc2.5b",
}
# fmt: on
"""The publishers' own repositories, in transformers' layout."""
_METACLIP = ("metaclip_400m", "metaclip_fullcc", "metaclip_altogether")


def repositories() -> tuple[tuple[str, Weights], ...]:
    """(`model/tag`, weights) of each.

    >>> from diptych.families.clip.hub import repositories
    >>> dict(repositories())["ViT-B-32/laion2b_s34b_b79k"].repo
    'laion/CLIP-ViT-B-32-laion2B-s34B-b79K'
    """
    return tuple((label, _weights(label, repository)) for label, repository in _labelled())


def _weights(label: str, repository: str) -> Weights:
    tag, owner = label.partition("/")[2], repository.partition("/")[0]
    licence = _LICENCES.get(owner, "MIT" if tag == "openai" else "not said")
    licence = "CC-BY-NC-4.0" if tag in _METACLIP else licence
    own = _TRANSFORMERS.get(label)
    return Weights(
        repo=repository,
        format="open-clip",
        licence=licence,
        claims=measured(label) or measured(_twin(label)) or _OF_CARDS.get(label, ()),
        training=training_of(label, owner),
        config=_CONFIGS.get(label),
        copies=(Weights(repo=own, format="transformers", licence=licence),) if own else (),
    )


def _twin(label: str) -> str:
    """The other name of the same weights."""
    model, _, tag = label.partition("/")
    plain = model.removesuffix("-quickgelu")
    return f"{plain}-quickgelu/{tag}" if plain == model else f"{plain}/{tag}"


def _labelled() -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for model, tags in TAGS.items():
        for tag, repository in tags.items():
            # As they were trained first: the name of the repository means that.
            if tag in QUICK_GELU or f"{model}/{tag}" in _FURTHER:
                found.append((f"{model}-quickgelu/{tag}", repository))
            found.append((f"{model}/{tag}", repository))
    return tuple(found)
