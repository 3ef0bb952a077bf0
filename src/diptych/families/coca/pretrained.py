"""open_clip's CoCa models: https://github.com/mlfoundations/open_clip, model_configs and docs."""

from diptych.config import ClipConfig, PreprocessConfig
from diptych.families.clip.config import VitConfig
from diptych.families.coca.config import (
    Coca2ImageConfig,
    CocaDecoderConfig,
    CocaImageConfig,
    CocaNaflexConfig,
    CocaTextConfig,
)
from diptych.families.entry import Entry, Training, Weights, figures
from diptych.families.timm import NaflexVitConfig

# fmt: off
MODELS = {
    "coca_ViT-B-32": ClipConfig(
        image=CocaImageConfig(),
        text=CocaTextConfig(),
        decoder=CocaDecoderConfig(),
        embed_dim=512,
    ),
    "coca_ViT-L-14": ClipConfig(
        image=CocaImageConfig(patch_size=14, width=1024, layers=24, heads=16, mlp_width=4096),
        text=CocaTextConfig(width=768, heads=12, mlp_width=3072),
        decoder=CocaDecoderConfig(width=768, heads=12, mlp_width=3072),
        embed_dim=768,
    ),
}
"""By open_clip's names."""
WITHOUT_WEIGHTS = {
    "coca_base": ClipConfig(
        image=VitConfig(image_size=288, patch_size=18),
        text=CocaTextConfig(vocab_size=64000, width=768, heads=12, mlp_width=3072),
        decoder=CocaDecoderConfig(vocab_size=64000, width=768, heads=12, mlp_width=3072),
        embed_dim=512,
    ),
    "coca2_ViT-B-32": ClipConfig(
        image=Coca2ImageConfig(),
        text=CocaTextConfig(exact_padding=True),
        decoder=CocaDecoderConfig(),
        embed_dim=512,
    ),
    "coca2-naflex_ViT-B-32": ClipConfig(
        image=CocaNaflexConfig(
            trunk=NaflexVitConfig(
                name="naflexvit_base_patch16_gap",
                patch_size=32,
                options={"global_pool": "avg", "pre_norm": True, "pos_embed_grid_size": [8, 8]},
                reads_out=False,
            )
        ),
        text=CocaTextConfig(exact_padding=True),
        decoder=CocaDecoderConfig(),
        embed_dim=512,
        preprocess=PreprocessConfig(resize="native", patches=64, patch_size=32),
    ),
}
"""Those of which nobody published weights; `coca2` is of open_clip's main branch. What isn't known
of `coca2-naflex` is as in its other models of such towers (`mammut2-naflex`)."""
TINY = ClipConfig(
    image=CocaImageConfig(
        image_size=48,
        patch_size=8,
        width=128,
        layers=2,
        heads=4,
        mlp_width=256,
        queries=17,
        pool_heads=4,
    ),
    text=CocaTextConfig(context_length=31, width=64, layers=1, heads=2, mlp_width=128),
    decoder=CocaDecoderConfig(context_length=31, width=64, layers=2, heads=2, mlp_width=256),
    embed_dim=64,
)
"""For demonstrations and tests: minutes on a CPU. The vocabulary is CLIP's, which makes most of the
parameters."""
TAGS = {
    "laion2b_s13b_b90k":                  "laion/{}-laion2B-s13B-b90k",
    "mscoco_finetuned_laion2b_s13b_b90k": "laion/mscoco_finetuned_{}-laion2B-s13B-b90k",
}
TOP_1 = {
    ("coca_ViT-B-32", "laion2b_s13b_b90k"):                  63.59,
    ("coca_ViT-B-32", "mscoco_finetuned_laion2b_s13b_b90k"): 0.91,
    ("coca_ViT-L-14", "laion2b_s13b_b90k"):                  75.64,
    ("coca_ViT-L-14", "mscoco_finetuned_laion2b_s13b_b90k"): 72.10,
}
"""On ImageNet."""
# fmt: on
_NOTE = "writes captions, too (diptych caption)"
_FINETUNED = "fine-tuned on COCO, whose kind of sentences it writes"
_SOURCE = "open_clip, docs/openclip_results.csv"


def entries() -> list[Entry]:
    """Two with two files of weights each, those without weights, and the tiny one."""
    published = [
        Entry(
            name=_named(name),
            config=config,
            weights=tuple(_weights(name, tag) for tag in TAGS),
            note=_NOTE,
            training=Training(
                data="LAION-2B",
                seen="13 B",
                batch="90K",
                source="the tag, as its publishers name it",
            ),
        )
        for name, config in MODELS.items()
    ]
    others = {"tiny-coca": TINY} | WITHOUT_WEIGHTS
    return [*published, *(Entry(name=_named(name), config=others[name]) for name in others)]


def _named(name: str) -> str:
    return name.lower().replace("_", "-")


def _weights(name: str, tag: str) -> Weights:
    repo = TAGS[tag].format(name.replace("coca_", "CoCa-"))
    return Weights(
        repo=repo,
        format="open-clip",
        licence="MIT",
        names=(repo,),
        tags=(tag,),
        note=_FINETUNED if tag.startswith("mscoco") else "",
        claims=figures((TOP_1[name, tag],), _SOURCE),
    )
