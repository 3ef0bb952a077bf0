"""open_clip's configurations of "modern" texts, of which no weights are published:
https://github.com/mlfoundations/open_clip, model_configs of its main branch."""

from diptych.config import ClipConfig, TokenizerConfig
from diptych.families.clip.config import VitConfig
from diptych.families.entry import Entry
from diptych.families.modern.config import ModernTextConfig

TIKTOKEN = TokenizerConfig(kind="tiktoken", name="r50k_base")
MODELS = {
    "moderntext-ViT-B-32-256": ClipConfig(
        image=VitConfig(image_size=256),
        text=ModernTextConfig(variable_text=True),
        embed_dim=512,
        tokenizer=TIKTOKEN,
    ),
}
"""By open_clip's names."""
TINY = ClipConfig(
    image=VitConfig(image_size=48, patch_size=8, width=128, layers=2, heads=4, mlp_width=256),
    text=ModernTextConfig(
        context_length=32,
        vocab_size=49408,
        width=64,
        layers=2,
        heads=2,
        mlp_width=128,
        start_id=49406,
        end_id=49407,
        pad_id=0,
        still_padding=False,
    ),
    embed_dim=64,
)
"""For demonstrations and tests: minutes on a CPU. The vocabulary is CLIP's, which makes most of the
parameters."""
_NOTE = "no weights are published: for training"


def entries() -> list[Entry]:
    """Those of open_clip's towers, and a tiny one."""
    named = [
        Entry(name=name.lower().replace("_", "-"), config=config, note=_NOTE)
        for name, config in MODELS.items()
    ]
    return [*named, Entry(name="tiny-moderntext", config=TINY)]
