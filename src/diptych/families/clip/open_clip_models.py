"""open_clip's further models of CLIP's towers: their configurations, by which weights without one
are known, too.

https://github.com/mlfoundations/open_clip, model_configs

`-worldwide` and CLIPA are families of their own.
"""

from dataclasses import replace

from diptych.config import ClipConfig
from diptych.families.clip.config import ResNetConfig, TextConfig, VitConfig

# fmt: off
BASE     = VitConfig()
LARGE    = VitConfig(patch_size=14, width=1024, layers=24, heads=16, mlp_width=4096)
SMALL    = VitConfig(patch_size=16, width=384,  layers=12, heads=6,  mlp_width=1536)
MEDIUM   = VitConfig(patch_size=16, width=512,  layers=12, heads=8,  mlp_width=2048)
SCALED   = replace(MEDIUM, layer_scale=1e-4)
PLUS     = VitConfig(patch_size=16, width=896,  layers=12, heads=14, mlp_width=3584)
HUGE     = VitConfig(patch_size=14, width=1280, layers=32, heads=16, mlp_width=5120)
GIANT    = VitConfig(patch_size=14, width=1408, layers=40, heads=16, mlp_width=6144)
BIG      = VitConfig(patch_size=14, width=1664, layers=48, heads=16, mlp_width=8192)
ENORMOUS = VitConfig(patch_size=14, width=1792, layers=56, heads=16, mlp_width=15360)
RN50_4   = ResNetConfig(image_size=288, layers=(4, 6, 10, 6),   width=80,  heads=40)
RN50_16  = ResNetConfig(image_size=384, layers=(6, 8, 18, 8),   width=96,  heads=48)
RN50_64  = ResNetConfig(image_size=448, layers=(3, 15, 36, 10), width=128, heads=64)

TEXT       = TextConfig()
LARGE_TEXT = TextConfig(width=768,  layers=12, heads=12, mlp_width=3072)
TEXT_256   = TextConfig(width=256,  layers=10, heads=4,  mlp_width=1024)
TEXT_384   = TextConfig(width=384,  layers=12, heads=6,  mlp_width=1536)
TEXT_640   = TextConfig(width=640,  layers=12, heads=10, mlp_width=2560)
TEXT_1024  = TextConfig(width=1024, layers=12, heads=16, mlp_width=4096)
HUGE_TEXT  = TextConfig(width=1024, layers=24, heads=16, mlp_width=4096)
BIG_TEXT   = TextConfig(width=1280, layers=32, heads=20, mlp_width=5120)
DEEP_TEXT  = TextConfig(width=1280, layers=36, heads=20, mlp_width=5120)


def _at(image: VitConfig, image_size: int, patch_size: int) -> VitConfig:
    return replace(image, image_size=image_size, patch_size=patch_size)


MODELS = {
    "rn50x4":            ClipConfig(image=RN50_4,               text=TEXT_640,   embed_dim=640),
    "rn50x16":           ClipConfig(image=RN50_16,              text=LARGE_TEXT, embed_dim=768),
    "rn50x64":           ClipConfig(image=RN50_64,              text=TEXT_1024,  embed_dim=1024),
    "vit-s-32":          ClipConfig(image=_at(SMALL, 224, 32),  text=TEXT_384,   embed_dim=384),
    "vit-s-32-alt":      ClipConfig(image=_at(SMALL, 224, 32),  text=TEXT_256,   embed_dim=256),
    "vit-s-16":          ClipConfig(image=SMALL,                text=TEXT_384,   embed_dim=384),
    "vit-s-16-alt":      ClipConfig(image=SMALL,                text=TEXT_256,   embed_dim=256),
    "vit-m-32":          ClipConfig(image=_at(MEDIUM, 224, 32), text=TEXT,       embed_dim=512),
    "vit-m-32-alt":      ClipConfig(image=_at(MEDIUM, 224, 32), text=TEXT_384,   embed_dim=384),
    "vit-m-16":          ClipConfig(image=MEDIUM,               text=TEXT,       embed_dim=512),
    "vit-m-16-alt":      ClipConfig(image=SCALED,               text=TEXT_384,   embed_dim=384),
    "vit-b-32-256":      ClipConfig(image=_at(BASE, 256, 32),   text=TEXT,       embed_dim=512),
    "vit-b-32-plus-256": ClipConfig(image=_at(PLUS, 256, 32),   text=TEXT_640,   embed_dim=640),
    "vit-b-16-plus":     ClipConfig(image=PLUS,                 text=TEXT_640,   embed_dim=640),
    "vit-b-16-plus-240": ClipConfig(image=_at(PLUS, 240, 16),   text=TEXT_640,   embed_dim=640),
    "vit-l-16":          ClipConfig(image=_at(LARGE, 224, 16),  text=LARGE_TEXT, embed_dim=768),
    "vit-l-16-320":      ClipConfig(image=_at(LARGE, 320, 16),  text=LARGE_TEXT, embed_dim=768),
    "vit-l-14-280":      ClipConfig(image=_at(LARGE, 280, 14),  text=LARGE_TEXT, embed_dim=768),
    "vit-h-16":          ClipConfig(image=_at(HUGE, 224, 16),   text=HUGE_TEXT,  embed_dim=1024),
    "vit-h-14":          ClipConfig(image=HUGE,                 text=HUGE_TEXT,  embed_dim=1024),
    "vit-h-14-378":      ClipConfig(image=_at(HUGE, 378, 14),   text=HUGE_TEXT,  embed_dim=1024),
    "vit-g-14":          ClipConfig(image=GIANT,                text=HUGE_TEXT,  embed_dim=1024),
    "vit-bigg-14":       ClipConfig(image=BIG,                  text=BIG_TEXT,   embed_dim=1280),
    "vit-e-14":          ClipConfig(image=ENORMOUS,             text=DEEP_TEXT,  embed_dim=1280),
}
QUICK = ("rn50x4", "rn50x16", "rn50x64", "vit-h-14", "vit-h-14-378", "vit-bigg-14")
"""Those that are published with QuickGELU, too, as `-quickgelu`."""
# fmt: on
