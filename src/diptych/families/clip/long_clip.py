"""Long-CLIP's published models (Zhang et al. 2024, arXiv:2403.15378): OpenAI's, trained on for
texts of 248 tokens.

https://github.com/beichenzbc/Long-CLIP
"""

from dataclasses import replace

from diptych.config import ClipConfig
from diptych.families.entry import Entry, Training, Weights

CONTEXT = 248
"""Tokens: 20 positions of CLIP's table are kept, and the other 57 stretched to four times as
many."""
_SIZES = {"B": "vit-b-16", "L": "vit-l-14"}


def entries(openai: dict[str, ClipConfig]) -> list[Entry]:
    """Both. `openai`: the models that they were made of, as they were trained, by name."""
    return [_entry(size, name, openai[name]) for size, name in _SIZES.items()]


def _entry(size: str, name: str, config: ClipConfig) -> Entry:
    repo, start = f"BeichenZhang/LongCLIP-{size}", f"{name}-quickgelu"
    weights = Weights(
        repo=repo,
        file=f"longclip-{size}.pt",
        format="open-clip",
        licence="not said",
        names=(repo, f"longclip-{size}.pt"),
    )
    return Entry(
        name=f"longclip-{size.lower()}",
        config=replace(config, text=replace(config.text, context_length=CONTEXT)),
        weights=(weights,),
        aliases=(f"long-clip-{size.lower()}",),
        training=Training(
            data="ShareGPT4V, about 1 M pairs with long captions",
            languages="English",
            image_init=start,
            text_init=start,
            use="retrieval by long texts",
            source="arXiv:2403.15378",
        ),
    )
