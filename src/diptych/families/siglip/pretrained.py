"""SigLIP's published models (Zhai et al. 2023, arXiv:2303.15343; Tschannen et al. 2025,
arXiv:2502.14786), under open_clip's names, whose repositories hold them in its layout."""

import math
import re
from dataclasses import dataclass, replace
from functools import partial

from diptych.config import Activation, ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.config.model import SIGLIP_BIAS
from diptych.families.entry import Claim, Entry, Training, Weights, figures
from diptych.families.siglip.config import SiglipImageConfig, SiglipTextConfig

# fmt: off
SIZES = {  # timm's name of a size -> width, layers, heads, width of the perceptrons
    "base":     (768,  12, 12, 3072),
    "large":    (1024, 24, 16, 4096),
    "so400m":   (1152, 27, 16, 4304),
    "giantopt": (1536, 40, 16, 6144),
}
# fmt: on
OF_TIMM = re.compile(r"vit_([a-z0-9]+)_patch(\d+)_siglip_(\d+)")
"""timm's names of towers for squares: the size, and pixels of a patch and of a picture."""
_TANH = ("base_patch32", "large_patch16_siglip_512", "so400m_patch16", "giantopt")
"""Architectures with GELU's approximation, with which all were trained; timm gives the others its
exact form."""

PREPROCESS = PreprocessConfig(resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_USE = "zero-shot classification, retrieval; SigLIP 2: also the image tower of larger models"
_TRAINING = {
    "SigLIP": Training(data="WebLI", languages="English", batch="32,768"),
    "SigLIP-i18n": Training(data="WebLI", languages="many", batch="32,768"),
    "SigLIP2": Training(
        data="WebLI", languages="109", batch="32,768", hardware="up to 2,048 TPU v5e"
    ),
}
_SOURCES = {"SigLIP2": "arXiv:2502.14786, the model cards"}


def activation_of(architecture: str) -> Activation:
    """What timm gives the tower of this name.

    >>> from diptych.families.siglip.pretrained import activation_of
    >>> activation_of("vit_giantopt_patch16_siglip_256")
    'gelu_tanh'
    """
    return "gelu_tanh" if architecture.removeprefix("vit_").startswith(_TANH) else "gelu"


@dataclass(frozen=True, kw_only=True)
class _Published:
    """A model as its name says it."""

    name: str
    """open_clip's."""
    size: str
    patch_size: int
    image_size: int
    line: str = "SigLIP"
    context: int = 64
    repo: str = ""
    """Where it isn't `timm/NAME`."""

    def config(self) -> ClipConfig:
        width, layers, heads, mlp_width = SIZES[self.size]
        architecture = f"vit_{self.size}_patch{self.patch_size}_siglip_{self.image_size}"
        image = partial(SiglipImageConfig, image_size=self.image_size, patch_size=self.patch_size)
        # The largest image tower has the text tower of the second largest.
        sizes = SIZES["so400m" if self.size == "giantopt" else self.size]
        text_width, text_layers, text_heads, text_mlp_width = sizes
        return ClipConfig(
            image=image(
                width=width,
                layers=layers,
                heads=heads,
                mlp_width=mlp_width,
                activation=activation_of(architecture),
            ),
            text=SiglipTextConfig(
                context_length=self.context,
                vocab_size=_VOCABULARIES[self.line],
                width=text_width,
                layers=text_layers,
                heads=text_heads,
                mlp_width=text_mlp_width,
                activation="gelu_tanh" if self.line == "SigLIP2" else "gelu",
                projection=(self.size, self.line) != ("so400m", "SigLIP-i18n"),
            ),
            embed_dim=width,
            logit_scale=math.log(10),
            logit_bias=SIGLIP_BIAS,
            preprocess=PREPROCESS,
            tokenizer=TokenizerConfig(
                kind="huggingface", name=self._tokenizer(), clean="canonical"
            ),
        )

    def _tokenizer(self) -> str:
        shared = {"SigLIP": "timm/ViT-B-16-SigLIP", "SigLIP-i18n": "timm/ViT-B-16-SigLIP-i18n-256"}
        return shared.get(self.line, f"timm/{self.name}")

    def _training(self) -> Training:
        found, first = _TRAINING[self.line], self.line != "SigLIP2"
        shape = "16 TPU v4, 3 days" if first and self.size.startswith("so400m") else found.hardware
        source = "arXiv:2303.15343, the model cards"
        return replace(found, hardware=shape, use=_USE, source=_SOURCES.get(self.line, source))

    def _googles(self) -> tuple[Weights, ...]:
        """The authors' repository in transformers' layout, which has GELU's approximation in all
        towers, and of SigLIP 2 other pictures and words."""
        if self.name not in _GOOGLES:
            return ()
        repo, ours = f"google/{_GOOGLES[self.name]}", self.config()
        second = self.line == "SigLIP2"
        config = replace(
            ours,
            image=replace(ours.image, activation="gelu_tanh"),
            text=replace(ours.text, activation="gelu_tanh"),
            preprocess=replace(PREPROCESS, interpolation="bilinear" if second else "bicubic"),
            tokenizer=TokenizerConfig(
                kind="huggingface", name=repo, clean="lower" if second else "canonical"
            ),
        )
        layout, licence = "siglip-transformers", "Apache-2.0"
        return (Weights(repo=repo, format=layout, licence=licence, config=config),)

    def entry(self) -> Entry:
        repo = self.repo or f"timm/{self.name}"
        weights = Weights(
            repo=repo,
            file="open_clip_model.safetensors",
            format="open-clip",
            licence="Apache-2.0",
            names=() if self.repo else (repo,),
            tags=("webli",),
            claims=_claims(self.name),
            copies=self._googles(),
        )
        return Entry(
            name=self.name.lower(),
            config=self.config(),
            weights=(weights,),
            training=self._training(),
        )


# Zero-shot top-1 on ImageNet, the mean of DataComp's 38 sets, recall@5 of COCO's pictures by texts:
# open_clip's docs.
# fmt: off
_FIGURES = {
    "ViT-B-16-SigLIP":          (76.04, 62.32, 72.44),
    "ViT-B-16-SigLIP-256":      (76.53, 62.26, 72.54),
    "ViT-B-16-SigLIP-384":      (78.49, 63.79, 73.66),
    "ViT-B-16-SigLIP-512":      (79.14, 64.59, 74.21),
    "ViT-L-16-SigLIP-256":      (80.45, 65.57, 75.80),
    "ViT-L-16-SigLIP-384":      (82.07, 66.83, 76.57),
    "ViT-SO400M-14-SigLIP":     (82.03, 68.08, 75.27),
    "ViT-SO400M-14-SigLIP-384": (83.08, 69.21, 76.78),
    "ViT-B-16-SigLIP-i18n-256": (75.13, 60.68, 69.48),
}
# Zero-shot top-1 on ImageNet, recall@1 of COCO's pictures by texts: big_vision's README_siglip2.md.
_FIGURES_2 = {
    "ViT-B-32-SigLIP2-256":      (74.0, 47.2),
    "ViT-B-16-SigLIP2":          (78.2, 52.1),
    "ViT-B-16-SigLIP2-256":      (79.1, 53.2),
    "ViT-B-16-SigLIP2-384":      (80.6, 54.6),
    "ViT-B-16-SigLIP2-512":      (81.2, 55.2),
    "ViT-L-16-SigLIP2-256":      (82.5, 54.7),
    "ViT-L-16-SigLIP2-384":      (83.1, 55.3),
    "ViT-L-16-SigLIP2-512":      (83.5, 55.2),
    "ViT-SO400M-14-SigLIP2":     (83.2, 55.1),
    "ViT-SO400M-14-SigLIP2-378": (84.1, 55.8),
    "ViT-SO400M-16-SigLIP2-256": (83.4, 55.4),
    "ViT-SO400M-16-SigLIP2-384": (84.1, 56.0),
    "ViT-SO400M-16-SigLIP2-512": (84.3, 56.0),
    "ViT-gopt-16-SigLIP2-256":   (84.5, 55.7),
    "ViT-gopt-16-SigLIP2-384":   (85.0, 56.1),
}
# fmt: on


def _claims(name: str) -> tuple[Claim, ...]:
    first = figures(_FIGURES.get(name, ()), "open_clip's docs")
    return (*first, *authors_claims(*_FIGURES_2[name])) if name in _FIGURES_2 else first


def authors_claims(imagenet: float, coco: float) -> tuple[Claim, ...]:
    """Of SigLIP 2: zero-shot top-1 on ImageNet, and recall@1 of COCO's pictures by texts."""
    source = "big_vision's README_siglip2.md"
    recall = Claim(metric="coco text-to-image R@1", value=coco, source=source)
    return (*figures((imagenet,), source), recall)


# fmt: off
_GOOGLES = {
    "ViT-B-16-SigLIP":           "siglip-base-patch16-224",
    "ViT-B-16-SigLIP-256":       "siglip-base-patch16-256",
    "ViT-B-16-SigLIP-384":       "siglip-base-patch16-384",
    "ViT-B-16-SigLIP-512":       "siglip-base-patch16-512",
    "ViT-L-16-SigLIP-256":       "siglip-large-patch16-256",
    "ViT-L-16-SigLIP-384":       "siglip-large-patch16-384",
    "ViT-SO400M-14-SigLIP":      "siglip-so400m-patch14-224",
    "ViT-SO400M-14-SigLIP-384":  "siglip-so400m-patch14-384",
    "ViT-B-16-SigLIP-i18n-256":  "siglip-base-patch16-256-multilingual",
    "ViT-B-32-SigLIP2-256":      "siglip2-base-patch32-256",
    "ViT-B-16-SigLIP2":          "siglip2-base-patch16-224",
    "ViT-B-16-SigLIP2-256":      "siglip2-base-patch16-256",
    "ViT-B-16-SigLIP2-384":      "siglip2-base-patch16-384",
    "ViT-B-16-SigLIP2-512":      "siglip2-base-patch16-512",
    "ViT-L-16-SigLIP2-256":      "siglip2-large-patch16-256",
    "ViT-L-16-SigLIP2-384":      "siglip2-large-patch16-384",
    "ViT-L-16-SigLIP2-512":      "siglip2-large-patch16-512",
    "ViT-SO400M-14-SigLIP2":     "siglip2-so400m-patch14-224",
    "ViT-SO400M-14-SigLIP2-378": "siglip2-so400m-patch14-384",
    "ViT-SO400M-16-SigLIP2-256": "siglip2-so400m-patch16-256",
    "ViT-SO400M-16-SigLIP2-384": "siglip2-so400m-patch16-384",
    "ViT-SO400M-16-SigLIP2-512": "siglip2-so400m-patch16-512",
    "ViT-gopt-16-SigLIP2-256":   "siglip2-giant-opt-patch16-256",
    "ViT-gopt-16-SigLIP2-384":   "siglip2-giant-opt-patch16-384",
}
# fmt: on
_VOCABULARIES = {"SigLIP": 32000, "SigLIP-i18n": 250000, "SigLIP2": 256000}
_I18N, _TWO = partial(_Published, line="SigLIP-i18n"), partial(_Published, line="SigLIP2")


# fmt: off
MODELS = (
    _Published(name="ViT-B-16-SigLIP",             size="base",   patch_size=16, image_size=224),
    _Published(name="ViT-B-16-SigLIP-256",         size="base",   patch_size=16, image_size=256),
    _Published(name="ViT-B-16-SigLIP-384",         size="base",   patch_size=16, image_size=384),
    _Published(name="ViT-B-16-SigLIP-512",         size="base",   patch_size=16, image_size=512),
    _Published(name="ViT-L-16-SigLIP-256",         size="large",  patch_size=16, image_size=256),
    _Published(name="ViT-L-16-SigLIP-384",         size="large",  patch_size=16, image_size=384),
    _Published(name="ViT-SO400M-14-SigLIP",        size="so400m", patch_size=14, image_size=224,
               context=16),
    _Published(name="ViT-SO400M-14-SigLIP-378",    size="so400m", patch_size=14, image_size=378,
               repo="timm/ViT-SO400M-14-SigLIP-384"),
    _Published(name="ViT-SO400M-14-SigLIP-384",    size="so400m", patch_size=14, image_size=384),
    _I18N(name="ViT-B-16-SigLIP-i18n-256",         size="base",   patch_size=16, image_size=256),
    _I18N(name="ViT-SO400M-16-SigLIP-i18n-256",    size="so400m", patch_size=16, image_size=256),
    _TWO(name="ViT-B-32-SigLIP2-256",              size="base",   patch_size=32, image_size=256),
    _TWO(name="ViT-B-16-SigLIP2",                  size="base",   patch_size=16, image_size=224),
    _TWO(name="ViT-B-16-SigLIP2-256",              size="base",   patch_size=16, image_size=256),
    _TWO(name="ViT-B-16-SigLIP2-384",              size="base",   patch_size=16, image_size=384),
    _TWO(name="ViT-B-16-SigLIP2-512",              size="base",   patch_size=16, image_size=512),
    _TWO(name="ViT-L-16-SigLIP2-256",              size="large",  patch_size=16, image_size=256),
    _TWO(name="ViT-L-16-SigLIP2-384",              size="large",  patch_size=16, image_size=384),
    _TWO(name="ViT-L-16-SigLIP2-512",              size="large",  patch_size=16, image_size=512),
    _TWO(name="ViT-SO400M-14-SigLIP2",             size="so400m", patch_size=14, image_size=224),
    _TWO(name="ViT-SO400M-14-SigLIP2-378",         size="so400m", patch_size=14, image_size=378),
    _TWO(name="ViT-SO400M-16-SigLIP2-256",         size="so400m", patch_size=16, image_size=256),
    _TWO(name="ViT-SO400M-16-SigLIP2-384",         size="so400m", patch_size=16, image_size=384),
    _TWO(name="ViT-SO400M-16-SigLIP2-512",         size="so400m", patch_size=16, image_size=512),
    _TWO(name="ViT-gopt-16-SigLIP2-256",           size="giantopt", patch_size=16, image_size=256),
    _TWO(name="ViT-gopt-16-SigLIP2-384",           size="giantopt", patch_size=16, image_size=384),
)
# fmt: on


def entries() -> list[Entry]:
    """All of them."""
    return [model.entry() for model in MODELS]
