"""Small models for demonstrations and tests: minutes on a CPU.

A convolutional stem sees strokes where patches of raw pixels would need far more data. The
vocabulary is CLIP's, so that captions are free; it makes most of the parameters and little of the
time.
"""

from dataclasses import replace

from diptych.config import ClipConfig
from diptych.families.clip import TextConfig, VitConfig
from diptych.families.entry import Entry

# 48-pixel pictures: nine tokens. Tuned on the digits of `diptych demo`.
TINY = ClipConfig(
    image=VitConfig(
        image_size=48,
        patch_size=16,
        width=192,
        layers=1,
        heads=4,
        mlp_width=384,
        pool="mean",
        stem_widths=(32, 64, 128, 192),
    ),
    text=TextConfig(context_length=32, width=64, layers=1, heads=2, mlp_width=128),
    embed_dim=128,
)
# 32-pixel pictures: sixteen tokens. Tuned on CIFAR-10.
TINY_32 = replace(
    TINY,
    image=VitConfig(
        image_size=32,
        patch_size=8,
        width=192,
        layers=2,
        heads=4,
        mlp_width=384,
        pool="mean",
        stem_widths=(64, 128, 256),
    ),
)
# 32-pixel pictures in sixteen tokens again, so small that seventy runs on captioned scenes take an
# hour.
TINY_SCENES = replace(
    TINY,
    image=replace(TINY_32.image, width=128, mlp_width=256, stem_widths=(24, 48, 96)),
)
# Patches without a stem, 64 of them: leaving some out saves what it promises (FLIP).
TINY_PATCHES = replace(
    TINY,
    image=VitConfig(
        image_size=32,
        patch_size=4,
        width=128,
        layers=4,
        heads=4,
        mlp_width=384,
        pool="mean",
    ),
)


def entries() -> list[Entry]:
    """The tiny family."""
    return [
        Entry(name="tiny", config=TINY),
        Entry(name="tiny-32", config=TINY_32),
        Entry(name="tiny-scenes", config=TINY_SCENES),
        Entry(name="tiny-patches-32", config=TINY_PATCHES),
    ]
