"""AltCLIP's published models (Chen et al. 2022, arXiv:2211.06679).

https://github.com/FlagAI-Open/FlagAI, examples/AltCLIP, and https://huggingface.co/BAAI
"""

from dataclasses import replace

from diptych.config import ClipConfig, TokenizerConfig
from diptych.families.clip.open_clip_models import LARGE
from diptych.families.entry import Claim, Entry, Training, Weights
from diptych.families.huggingface.known import KNOWN

CONTEXT = 77
"""Tokens of a text in training, of the 512 that XLM-RoBERTa has places for."""
_TEXT = "xlm-roberta-large"
_SOURCE = "FlagAI-Open/FlagAI, examples/AltCLIP/README.md"
_FIGURES = {
    "Flickr30K text-to-image R@1": 72.5,
    "Flickr30K image-to-text R@1": 86.0,
    "Flickr30K-CN text-to-image R@1": 69.8,
    "Flickr30K-CN image-to-text R@1": 84.8,
}
"""Zero-shot."""


def entries() -> list[Entry]:
    """Those whose sizes are known. What AltCLIP-m18's image tower is, nobody says but its folder,
    which is read as any other."""
    claims = [Claim(metric=each, value=value, source=_SOURCE) for each, value in _FIGURES.items()]
    two = _entry(
        "AltCLIP",
        Training(
            data="parallel texts; 2 M pairs of WuDao and LAION",
            languages="English, Chinese",
        ),
    )
    nine = _entry(
        "AltCLIP-m9",
        Training(
            data="parallel texts; 6 M pairs of each language, of WuDao and LAION",
            languages="9: English, Chinese, Spanish, French, Russian, Japanese, Korean, Arabic, "
            "Italian",
        ),
    )
    note = "the hub's card has two rows of figures; these are those of AltCLIP*"
    return [replace(two, claims=tuple(claims), note=note), nine]


def _entry(name: str, training: Training) -> Entry:
    repo = f"BAAI/{name}"
    config = ClipConfig(
        image=replace(LARGE, activation="quick_gelu"),
        text=replace(KNOWN[_TEXT], context_length=CONTEXT, pool="cls", token_width=768),
        embed_dim=768,
        tokenizer=TokenizerConfig(kind="huggingface", name=repo),
    )
    weights = Weights(repo=repo, format="altclip", licence="CreativeML OpenRAIL-M", names=(repo,))
    return Entry(
        name=name.lower(),
        config=config,
        weights=(weights,),
        aliases=(name.lower().replace("altclip", "alt-clip"),),
        training=replace(
            training,
            image_init="OpenAI's CLIP",
            text_init=f"Hugging Face's {_TEXT}",
            teacher="OpenAI's CLIP, its text tower",
            source=_SOURCE,
        ),
    )
