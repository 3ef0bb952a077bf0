"""open_clip's published models whose texts a model of the hub reads: RoBERTa, XLM-RoBERTa, NLLB
(Visheratin 2023, arXiv:2309.01859), mT5; and one of ModernBERT, for training.

https://github.com/mlfoundations/open_clip, model_configs and docs
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from diptych.config import ClipConfig, ImageTowerConfig, PreprocessConfig, TokenizerConfig
from diptych.config.model import SIGLIP_BIAS
from diptych.families.clip.open_clip_models import BASE, HUGE
from diptych.families.coca import CocaDecoderConfig
from diptych.families.entry import Claim, Entry, Training, Weights, figures
from diptych.families.huggingface.known import KNOWN
from diptych.families.huggingface.pretrained_altclip import entries as altclip
from diptych.families.huggingface.pretrained_chinese import entries as chinese
from diptych.families.siglip import SiglipImageConfig

_QUICK = replace(BASE, activation="quick_gelu")
_SIGLIP_BASE = SiglipImageConfig(image_size=384, activation="gelu")
_SIGLIP_LARGE = SiglipImageConfig(
    image_size=384,
    patch_size=14,
    width=1152,
    layers=27,
    heads=16,
    mlp_width=4304,
    activation="gelu",
)
_GREY = (0.5, 0.5, 0.5)
_NLLB_BASE, _NLLB_LARGE = "facebook/nllb-200-distilled-600M", "facebook/nllb-200-distilled-1.3B"
_LIT = "OpenCLIP's ViT-H-14/laion2b_s32b_b79k, frozen"


_SOURCE = "open_clip, docs/openclip_results.csv"
"""Its figures are of English texts."""


@dataclass(frozen=True, kw_only=True)
class _Published:
    """A model, and the weights that open_clip knows of it."""

    name: str
    """open_clip's."""
    image: ImageTowerConfig
    text: str
    """Of the hub."""
    embed_dim: int
    pool: Literal["mean", "cls"] = "mean"
    projection: Literal["linear", "mlp"] = "mlp"
    repositories: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By tag."""
    claims: tuple[Claim, ...] = ()
    licence: str = "MIT"
    training: Training = Training()

    def config(self) -> ClipConfig:
        text = replace(KNOWN[self.text], pool=self.pool, projection=self.projection)
        tokenizer = TokenizerConfig(kind="huggingface", name=self.text)
        config = ClipConfig(
            image=self.image, text=text, embed_dim=self.embed_dim, tokenizer=tokenizer
        )
        if not isinstance(self.image, SiglipImageConfig):
            return config
        # They were trained with SigLIP's loss, on its pixels.
        squash = PreprocessConfig(resize="squash", mean=_GREY, std=_GREY)
        return replace(config, logit_bias=SIGLIP_BIAS, preprocess=squash)

    def entry(self) -> Entry:
        weights = tuple(
            Weights(
                repo=repo,
                format="open-clip",
                licence=self.licence,
                names=(repo,),
                tags=(tag,),
                claims=self.claims,
            )
            for tag, repo in self.repositories.items()
        )
        return Entry(
            name=self.name.lower(), config=self.config(), weights=weights, training=self.training
        )


def _nllb(
    name: str, image: ImageTowerConfig, text: str, embed_dim: int, **repositories: str
) -> _Published:
    return _Published(
        name=name,
        image=image,
        text=text,
        embed_dim=embed_dim,
        pool="cls",
        projection="linear",
        repositories={tag: f"visheratin/{repo}" for tag, repo in repositories.items()},
        licence="CC-BY-NC-4.0",
        training=Training(data="LAION-COCO-NLLB: 106,246 pictures, captions in 201 languages"),
    )


MODELS = (
    _Published(
        name="roberta-ViT-B-32",
        image=_QUICK,
        text="roberta-base",
        embed_dim=512,
        repositories={
            "laion2b_s12b_b32k": "laion/CLIP-ViT-B-32-roberta-base-laion2B-s12B-b32k",
        },
        claims=figures((61.71, 54.11), _SOURCE),
        training=Training(
            data="LAION-2B", seen="12 B", batch="32K", text_init="Hugging Face's roberta-base"
        ),
    ),
    _Published(
        name="xlm-roberta-base-ViT-B-32",
        image=BASE,
        text="xlm-roberta-base",
        embed_dim=512,
        repositories={
            "laion5b_s13b_b90k": "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        },
        claims=figures((62.36, 56.43), _SOURCE),
        training=Training(
            data="LAION-5B", seen="13 B", batch="90K", text_init="Hugging Face's xlm-roberta-base"
        ),
    ),
    _Published(
        name="xlm-roberta-large-ViT-H-14",
        image=HUGE,
        text="xlm-roberta-large",
        embed_dim=1024,
        repositories={
            "frozen_laion5b_s13b_b90k": (
                "laion/CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k"
            ),
        },
        claims=figures((76.95, 65.15), _SOURCE),
        training=Training(
            data="LAION-5B",
            seen="13 B",
            batch="90K",
            image_init=_LIT,
            text_init="Hugging Face's xlm-roberta-large",
        ),
    ),
    _nllb("nllb-clip-base", BASE, _NLLB_BASE, 512, v1="nllb-clip-base-oc"),
    _nllb("nllb-clip-large", HUGE, _NLLB_LARGE, 1024, v1="nllb-clip-large-oc"),
    _nllb(
        "nllb-clip-base-siglip",
        _SIGLIP_BASE,
        _NLLB_BASE,
        768,
        v1="nllb-clip-base-siglip",
        mrl="nllb-siglip-mrl-base",
    ),
    _nllb(
        "nllb-clip-large-siglip",
        _SIGLIP_LARGE,
        _NLLB_LARGE,
        1152,
        v1="nllb-clip-large-siglip",
        mrl="nllb-siglip-mrl-large",
    ),
    _Published(name="mt5-base-ViT-B-32", image=BASE, text="google/mt5-base", embed_dim=512),
    _Published(name="mt5-xl-ViT-H-14", image=HUGE, text="google/mt5-xl", embed_dim=1024),
)


_ROBERTA = "roberta-base"
COCA = ClipConfig(
    image=BASE,
    text=replace(KNOWN[_ROBERTA], projection="linear"),
    decoder=CocaDecoderConfig(width=768, mlp_width=3072),
    embed_dim=512,
    tokenizer=TokenizerConfig(kind="huggingface", name=_ROBERTA),
)
"""`coca_roberta-ViT-B-32`, of which nobody published weights. The tokens that its decoder reads see
those behind them, and RoBERTa's vocabulary is larger than the decoder's: so open_clip has it."""

_GTE = "Alibaba-NLP/gte-modernbert-base"
MODERNBERT = ClipConfig(
    image=replace(BASE, image_size=256),
    text=replace(
        KNOWN[_GTE],
        options=KNOWN[_GTE].options | {"max_position_embeddings": 256},
        context_length=256,
        pool="cls",
        variable_text=True,
    ),
    embed_dim=512,
    tokenizer=TokenizerConfig(kind="huggingface", name=_GTE),
)
"""`gte-modernbert-base-ViT-B-32-256` of open_clip's main branch."""
_TO_TRAIN = "no weights are published: for training"


def entries() -> list[Entry]:
    """All of them, Chinese-CLIP's and AltCLIP's."""
    coca = Entry(name="coca-roberta-vit-b-32", config=COCA)
    modernbert = Entry(name="gte-modernbert-base-vit-b-32-256", config=MODERNBERT, note=_TO_TRAIN)
    return [*(model.entry() for model in MODELS), coca, modernbert, *chinese(), *altclip()]
