"""The EVA-CLIP family (Sun et al. 2023 and 2024, arXiv:2303.15389, arXiv:2402.04252), and the image
towers of masked image modelling from which its training started. docs/models.md tells which name is
which.

A model card is the README of its series in github.com/baaivision/EVA; open_clip measured its own
conversion of the weights (github.com/mlfoundations/open_clip, docs).
"""

import math
from dataclasses import replace
from functools import partial
from pathlib import PurePath

from diptych.config import ClipConfig
from diptych.families.clip import TextConfig
from diptych.families.entry import COCO, IMAGENET, Claim, Entry, Training, Weights
from diptych.families.eva import EvaConfig

EVA01 = EvaConfig()
EVA02 = EvaConfig(mlp="swiglu", attention_norm=True, mlp_norm=True, rotary_grid=16)
EVA8B = EvaConfig(norm="rms", qkv_bias=False, projection_bias=False)
SCALED = replace(EVA01, layer_scale=0.1)
POST_01, POST_8B = replace(EVA01, norm_place="post"), replace(EVA8B, norm_place="post")
AT_100 = partial(ClipConfig, logit_scale=math.log(100))

# fmt: off
B_1   = replace(SCALED,   patch_size=16, width=768,  layers=12, heads=12, mlp_width=3072)
G     = replace(EVA01,    patch_size=14, width=1408, layers=40, heads=16, mlp_width=6144)
B     = replace(EVA02,    patch_size=16, width=768,  layers=12, heads=12, mlp_width=2048)
L     = replace(EVA02,    patch_size=14, width=1024, layers=24, heads=16, mlp_width=2730)
L_336 = replace(L, image_size=336)
E     = replace(POST_01,  patch_size=14, width=1792, layers=64, heads=16, mlp_width=15360)
E_8   = replace(EVA8B,    patch_size=14, width=4096, layers=32, heads=32, mlp_width=20480)
E_448 = replace(E_8, image_size=448)
E_18  = replace(POST_8B,  patch_size=14, width=5120, layers=48, heads=40, mlp_width=25600)

TEXT_B = TextConfig(width=512,  layers=12, heads=8,  mlp_width=2048)
TEXT_L = TextConfig(width=768,  layers=12, heads=12, mlp_width=3072)
TEXT_H = TextConfig(width=1024, layers=24, heads=16, mlp_width=4096)
TEXT_G = TextConfig(width=1280, layers=32, heads=20, mlp_width=5120)

MODELS = {
    "eva01-clip-b-16":      ClipConfig(image=B_1,   text=TEXT_B, embed_dim=512),
    "eva01-clip-g-14":      ClipConfig(image=G,     text=TEXT_L, embed_dim=1024),
    "eva01-clip-g-14-plus": ClipConfig(image=G,     text=TEXT_H, embed_dim=1024),
    "eva02-clip-b-16":      ClipConfig(image=B,     text=TEXT_B, embed_dim=512),
    "eva02-clip-l-14":      ClipConfig(image=L,     text=TEXT_L, embed_dim=768),
    "eva02-clip-l-14-336":  ClipConfig(image=L_336, text=TEXT_L, embed_dim=768),
    "eva02-clip-e-14":      ClipConfig(image=E,     text=TEXT_H, embed_dim=1024),
    "eva02-clip-e-14-plus": ClipConfig(image=E,     text=TEXT_G, embed_dim=1024),
    "eva-clip-8b":          AT_100(image=E_8,       text=TEXT_G, embed_dim=1280),
    "eva-clip-8b-448":      AT_100(image=E_448,     text=TEXT_G, embed_dim=1280),
    "eva-clip-18b":         AT_100(image=E_18,      text=TEXT_G, embed_dim=1536),
}
# Masked image modelling had EVA-02's attention without the norm that contrastive training then put
# into it.
TOWERS = {
    "eva01-g-psz14":     G,
    "eva02-b-psz14to16": replace(B, attention_norm=False),
    "eva02-l-psz14":     replace(L, attention_norm=False),
    "eva02-e-psz14":     E,
    "eva-8b-psz14":      E_8,
    "eva-18b-psz14":     E_18,
}

# The configuration's names before 30 March 2023 (with `-X`, which chose kernels, and without where
# that was free), then open_clip's, other spellings of today's, timm's image tower and its weights.
ALIASES = {
    "eva01-clip-b-16": (
        "EVA-ViT-B-16",
    ),
    "eva01-clip-g-14": (
        "EVA-ViT-g-14-X", "EVA-ViT-g-14", "EVA01-g-14", "EVA_CLIP_g_14", "EVA_CLIP_g_14_X",
        "eva_giant_patch14_clip_224", "eva_giant_patch14_clip_224.laion400m",
    ),
    "eva01-clip-g-14-plus": (
        "EVA-ViT-g-14-text-H-X", "EVA-ViT-g-14-text-H", "EVA01-g-14-plus",
        "eva_giant_patch14_plus_clip_224", "eva_giant_patch14_clip_224.merged2b",
    ),
    "eva02-clip-b-16": (
        "EVA-ViT-B-16-X", "EVA02-B-16", "eva02_base_patch16_clip_224",
        "eva02_base_patch16_clip_224.merged2b",
    ),
    "eva02-clip-l-14": (
        "EVA-ViT-L-14-X", "EVA-ViT-L-14", "EVA02-L-14", "eva02_large_patch14_clip_224",
        "eva02_large_patch14_clip_224.merged2b",
    ),
    "eva02-clip-l-14-336": (
        "EVA-ViT-L-14-X-336", "EVA-ViT-L-14-336", "EVA02-L-14-336",
        "eva02_large_patch14_clip_336", "eva02_large_patch14_clip_336.merged2b",
    ),
    "eva02-clip-e-14": (
        "EVA-ViT-4b-14-text-H-X", "EVA-ViT-4b-14-text-H", "EVA02-E-14", "EVA02-CLIP-bigE-14",
        "EVA02-bigE-14", "eva02_enormous_patch14_clip_224",
        "eva02_enormous_patch14_clip_224.laion2b",
    ),
    "eva02-clip-e-14-plus": (
        "EVA-ViT-4b-14-text-bigG-X", "EVA-ViT-4b-14-text-bigG", "EVA02-E-14-plus",
        "EVA02-CLIP-bigE-14-plus", "EVA02-bigE-14-plus", "eva02_enormous_patch14_plus_clip_224",
        "eva02_enormous_patch14_clip_224.laion2b_plus",
    ),
    "eva-clip-8b-448": (
        "EVA-CLIP-8B-plus",
    ),
}
# fmt: on

_FIXED = (
    "The logit scale was fixed at 100 in training (baaivision/EVA#140): no other multiplier is "
    "right."
)
_NO_NORM = (
    "Has no norm inside attention; the tower of the CLIP model that starts from it has, and begins "
    "there with gain 1."
)
NOTES = {
    "eva01-clip-b-16": "Configured by its authors, never released.",
    "eva01-clip-g-14": (
        "The trained logit scale is 57.0 (baaivision/EVA#140); its authors' examples multiply by "
        "100."
    ),
    **dict.fromkeys(("eva-clip-8b", "eva-clip-8b-448", "eva-clip-18b"), _FIXED),
    **dict.fromkeys(("eva02-b-psz14to16", "eva02-l-psz14"), _NO_NORM),
}


_QUAN = "QuanSun/EVA-CLIP"
_MIT = "MIT"
_BAAI = "MIT / Apache-2.0"
"""The project's licence, and that of BAAI's cards on the hub."""
_8B, _18B = "BAAI/EVA-CLIP-8B", "BAAI/EVA-CLIP-18B"


def _file(repo: str, file: str, dtype: str, size: str, licence: str = _MIT) -> Weights:
    """A file of the authors."""
    stem = PurePath(file).stem
    names = tuple(dict.fromkeys((file, stem, stem.removesuffix(".fp16"), f"{repo}/{file}")))
    return Weights(
        repo=repo, file=file, format="eva", licence=licence, dtype=dtype, size=size, names=names
    )


def _authors(file: str, dtype: str, size: str, tag: str, imagenet: float, coco: float) -> Weights:
    """A model of the first two series, and what its card says."""
    claims = _zero_shot(imagenet, coco, "EVA-CLIP's model card")
    return replace(_file(_QUAN, file, dtype, size), tags=("eva_clip", tag), claims=claims)


def _converted(repo: str, imagenet: float, coco: float) -> Weights:
    """open_clip's conversion, in a repository that ends in its tag, and what open_clip measured."""
    return Weights(
        repo=repo,
        file="open_clip_model.safetensors",
        format="open-clip",
        licence=_MIT,
        names=(repo, PurePath(repo).name),
        tags=(repo.rpartition(".")[2],),
        claims=_zero_shot(imagenet, coco, "open_clip's docs"),
    )


def _big(repo: str, file: str, dtype: str, size: str, *means: float) -> tuple[Weights, Weights]:
    """A model of the third series, as the authors' file and in transformers' layout, and what its
    card says."""
    metrics = ("27 image sets zero-shot top-1", "4 video sets zero-shot", "retrieval mean recall")
    source = "EVA-CLIP-18B's model card"
    claims = tuple(
        Claim(metric=metric, value=mean, source=source) for metric, mean in zip(metrics, means)
    )
    return (
        replace(_file(repo, file, dtype, size, _BAAI), tags=("eva_clip",), claims=claims),
        Weights(
            repo=repo,
            file="",
            format="transformers",
            licence=_BAAI,
            names=(repo,),
            note=(
                "Holds no logit scale; it is 100. The card's numbers were measured with the other "
                "file."
            ),
        ),
    )


def _tower(repo: str, file: str, dtype: str, size: str, licence: str = _MIT) -> tuple[Weights]:
    """An image tower alone."""
    return (replace(_file(repo, file, dtype, size, licence), format="eva-image"),)


def _zero_shot(imagenet: float, coco: float, source: str) -> tuple[Claim, Claim]:
    return (
        Claim(metric=IMAGENET, value=imagenet, source=source),
        Claim(metric=COCO, value=coco, source=source),
    )


# The authors' file, first: its numbers, size, and the card's ImageNet and COCO, or means.
# fmt: off
WEIGHTS = {
    "eva01-clip-g-14": (
        _authors("EVA01_CLIP_g_14_psz14_s11B.pt", "fp16", "2.2 GB", "eva01_clip", 78.5, 68.5),
        _converted("timm/eva_giant_patch14_clip_224.laion400m_s11b_b41k", 78.52, 68.5),
        replace(
            _file("BAAI/EVA", "eva_clip_psz14.pt", "fp16", "2 GB"),
            note="The same weights, as first released.",
        ),
    ),
    "eva01-clip-g-14-plus": (
        _authors("EVA01_CLIP_g_14_plus_psz14_s11B.pt", "fp16", "2.7 GB", "eva01_clip", 79.3, 74.0),
        _converted("timm/eva_giant_patch14_plus_clip_224.merged2b_s11b_b114k", 79.33, 74.0),
    ),
    "eva02-clip-b-16": (
        _authors("EVA02_CLIP_B_psz16_s8B.pt", "fp16", "300 MB", "eva02_clip", 74.7, 66.9),
        _converted("timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k", 74.72, 66.9),
    ),
    "eva02-clip-l-14": (
        _authors("EVA02_CLIP_L_psz14_s4B.pt", "fp16", "856 MB", "eva02_clip", 79.8, 71.2),
        _converted("timm/eva02_large_patch14_clip_224.merged2b_s4b_b131k", 79.77, 71.2),
    ),
    "eva02-clip-l-14-336": (
        _authors("EVA02_CLIP_L_336_psz14_s6B.pt", "fp16", "856 MB", "eva02_clip", 80.4, 71.7),
        _converted("timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k", 80.39, 71.7),
        replace(
            _file(_QUAN, "EVA02_CLIP_L_psz14_224to336.pt", "fp16", "857 MB"),
            tags=("eva_clip_224to336", "eva02_clip_224to336"),
            note=(
                "EVA02-CLIP-L-14 with its positions resized: where training at 336 pixels started."
            ),
        ),
    ),
    "eva02-clip-e-14": (
        _authors("EVA02_CLIP_E_psz14_s4B.pt", "fp16", "9.4 GB", "eva02_clip", 81.9, 74.7),
        _converted("timm/eva02_enormous_patch14_clip_224.laion2b_s4b_b115k", 81.96, 74.3),
    ),
    "eva02-clip-e-14-plus": (
        _authors("EVA02_CLIP_E_psz14_plus_s9B.pt", "bf16", "10.1 GB", "eva02_clip", 82.0, 75.0),
        _converted("timm/eva02_enormous_patch14_plus_clip_224.laion2b_s9b_b144k", 82.01, 74.9),
    ),
    "eva-clip-8b": _big(
        "BAAI/EVA-CLIP-8B", "EVA_CLIP_8B_psz14_s9B.pt", "fp32", "32.9 GB", 79.4, 73.6, 86.2
    ),
    "eva-clip-8b-448": _big(
        "BAAI/EVA-CLIP-8B-448", "EVA_CLIP_8B_psz14_plus_s0.6B.pt", "fp32", "32.9 GB",
        80.0, 73.7, 86.4,
    ),
    "eva-clip-18b": _big(
        "BAAI/EVA-CLIP-18B", "EVA_CLIP_18B_psz14_s6B.fp16.pt", "fp16", "36.7 GB", 80.7, 75.0, 87.8
    ),
    "eva01-g-psz14":     _tower(_QUAN, "EVA01_g_psz14.pt", "fp16", "2.0 GB"),
    "eva02-b-psz14to16": _tower(_QUAN, "EVA02_B_psz14to16.pt", "fp16", "176 MB"),
    "eva02-l-psz14":     _tower(_QUAN, "EVA02_L_psz14.pt", "fp16", "609 MB"),
    "eva02-e-psz14":     _tower(_QUAN, "EVA02_E_psz14.pt", "fp16", "8.7 GB"),
    "eva-8b-psz14":      _tower(_8B, "EVA_8B_psz14.bin", "fp32", "30.1 GB", _BAAI),
    "eva-18b-psz14":     _tower(_18B, "EVA_18B_psz14.fp16.bin", "fp16", "35.3 GB", _BAAI),
}
# fmt: on


_A100, _A100_80 = "A100 of 40 GB", "A100 of 80 GB"
_CARD = "EVA-CLIP's model card and commands"


def _clip(
    data: str, seen: str, batch: str, image: str, text: str, hardware: str, precision: str = "fp16"
) -> Training:
    return Training(
        data=data,
        seen=seen,
        batch=batch,
        precision=precision,
        hardware=hardware,
        image_init=image,
        text_init=text,
        source=_CARD,
    )


def _mim(teacher: str, seen: str = "", **more: str) -> Training:
    return Training(teacher=teacher, seen=seen, source="EVA's READMEs and commands", **more)


_400M, _2B, _MERGED = "LAION-400M", "LAION-2B", "Merged-2B (1.6 B of LAION-2B, 0.4 B of COYO-700M)"
_30M = "30 M pictures of ImageNet-21K, CC12M, CC3M, COCO, ADE20K and Objects365"
_OPENAI, _LAION = "OpenAI's CLIP ", "OpenCLIP's "
# By the model cards and, for the initial weights, the authors' commands.
# fmt: off
TRAINING = {
    "eva01-clip-g-14":      _clip(_400M, "11 B", "41K", "eva01-g-psz14", f"{_OPENAI}L/14",
                                  f"256 {_A100}"),
    "eva01-clip-g-14-plus": _clip(_MERGED, "11 B", "114K", "eva01-g-psz14", f"{_LAION}H/14",
                                  f"112 {_A100}"),
    "eva02-clip-b-16":      _clip(_MERGED, "8 B", "131K", "eva02-b-psz14to16", f"{_OPENAI}B/16",
                                  f"64 {_A100}"),
    "eva02-clip-l-14":      _clip(_MERGED, "4 B", "131K", "eva02-l-psz14", f"{_OPENAI}L/14",
                                  f"128 {_A100}"),
    "eva02-clip-l-14-336":  _clip(_MERGED, "2 B after 4 B", "61K", "eva02-clip-l-14",
                                  "eva02-clip-l-14", f"128 {_A100}"),
    "eva02-clip-e-14":      _clip(_2B, "4 B", "115K", "eva02-e-psz14", f"{_LAION}H/14",
                                  f"144 {_A100_80}"),
    "eva02-clip-e-14-plus": _clip(_2B, "9 B", "144K", "eva02-e-psz14", f"{_LAION}bigG/14",
                                  f"144 {_A100_80}", "bf16"),
    "eva-clip-8b":          _clip(_MERGED, "9 B", "178K", "eva-8b-psz14", "eva02-clip-e-14-plus",
                                  f"384 {_A100}", "bf16"),
    "eva-clip-8b-448":      _clip(_MERGED, "0.6 B", "24K", "eva-clip-8b", "eva-clip-8b",
                                  f"384 {_A100}", "bf16"),
    "eva-clip-18b":         _clip(f"{_MERGED}, 20 M of LAION-COCO, 23 M videos", "6 B", "108K",
                                  "eva-18b-psz14", "eva02-clip-e-14-plus",
                                  f"360 {_A100}", "bf16"),
    "eva01-g-psz14":     _mim(f"{_OPENAI}L/14", data=_30M, epochs="150", batch="4096",
                              hardware="128 GPUs"),
    "eva02-b-psz14to16": _mim("eva01-clip-g-14", data="ImageNet-21K", epochs="150", batch="2048",
                              hardware="32 GPUs"),
    "eva02-l-psz14":     _mim("eva01-clip-g-14"),
    "eva02-e-psz14":     _mim("eva01-clip-g-14"),
    "eva-8b-psz14":      _mim("eva02-clip-e-14-plus", "6 B"),
    "eva-18b-psz14":     _mim("eva02-clip-e-14-plus", "6 B"),
}
# fmt: on


def entries() -> list[Entry]:
    """The models, by size and age, then the image towers alone."""
    return [
        Entry(
            name=name,
            config=config,
            weights=WEIGHTS.get(name, ()),
            aliases=ALIASES.get(name, ()),
            note=NOTES.get(name, ""),
            training=TRAINING.get(name, Training()),
        )
        for name, config in (MODELS | TOWERS).items()
    ]
