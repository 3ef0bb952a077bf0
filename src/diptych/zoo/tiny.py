"""Small models for demonstrations and tests: minutes on a CPU.

A convolutional stem sees strokes where patches of raw pixels would need far more data. The vocabulary is CLIP's, so
that captions are free; it makes most of the parameters and little of the time.
"""

from diptych.config import ClipConfig, TextConfig, VitConfig
from diptych.zoo.entry import Entry

TINY = ClipConfig(
    image=VitConfig(
        image_size=48,
        patch_size=16,
        width=128,
        layers=2,
        heads=4,
        mlp_width=512,
        stem_widths=(32, 64, 128, 128),
    ),
    text=TextConfig(context_length=32, width=96, layers=2, heads=3, mlp_width=384),
    embed_dim=128,
)


def entries() -> list[Entry]:
    """The tiny family."""
    return [Entry(name="tiny", config=TINY)]
