"""The layouts of transformers' folders of whole models whose texts a model of the hub reads."""

from diptych.families.huggingface.altclip import ALTCLIP
from diptych.families.huggingface.chinese_clip import CHINESE_CLIP
from diptych.weights.layout import Layout


def layouts() -> tuple[Layout, ...]:
    """All of them. open_clip's is shared (see `layouts`)."""
    return CHINESE_CLIP, ALTCLIP
