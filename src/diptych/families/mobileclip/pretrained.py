"""MobileCLIP's published models (Vasu et al. 2024, arXiv:2311.17049; Faghri et al. 2025,
arXiv:2508.20691), under open_clip's names."""

from dataclasses import dataclass
from functools import partial

from diptych.config import ClipConfig, PreprocessConfig
from diptych.families.clip.open_clip_models import TEXT
from diptych.families.entry import Entry, Training, Weights, figures
from diptych.families.mobileclip.config import MobileTextConfig
from diptych.families.timm import TimmConfig

_FASTVIT = partial(
    TimmConfig, image_size=256, options={"global_pool": "avg"}, projection="classifier"
)
_VIT = partial(TimmConfig, options={"global_pool": "token"}, projection="classifier")
_S0, _S1, _S2, _S3, _S4 = (_FASTVIT(name=f"fastvit_mci{i}") for i in range(5))
_B, _L = _VIT(name="vit_base_mci_224"), _VIT(name="vit_large_patch14_clip_224")

_BASE_TEXT = MobileTextConfig()
_LARGE_TEXT = MobileTextConfig(width=768, layers=12, heads=12, mlp_width=3072)
_MIXED_TEXT = MobileTextConfig(layers=4, mixer_kernel=11)

_PLAIN = PreprocessConfig(interpolation="bilinear", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
_NORMED = PreprocessConfig(interpolation="bilinear")
_BICUBIC = PreprocessConfig()


def _model(image: TimmConfig, text: MobileTextConfig, preprocess: PreprocessConfig) -> ClipConfig:
    return ClipConfig(image=image, text=text, embed_dim=text.width, preprocess=preprocess)


# fmt: off
MODELS = {
    "MobileCLIP-S0":    _model(_S0, _MIXED_TEXT, _PLAIN),
    "MobileCLIP-S1":    _model(_S1, _BASE_TEXT,  _PLAIN),
    "MobileCLIP-S2":    _model(_S2, _BASE_TEXT,  _PLAIN),
    "MobileCLIP-B":     ClipConfig(image=_B, text=TEXT, embed_dim=512, preprocess=_PLAIN),
    "MobileCLIP2-S0":   _model(_S0, _BASE_TEXT,  _PLAIN),
    "MobileCLIP2-S2":   _model(_S2, _BASE_TEXT,  _PLAIN),
    "MobileCLIP2-B":    ClipConfig(image=_B, text=TEXT, embed_dim=512, preprocess=_PLAIN),
    "MobileCLIP2-S3":   _model(_S3, _LARGE_TEXT, _NORMED),
    "MobileCLIP2-L-14": _model(_L,  _LARGE_TEXT, _BICUBIC),
    "MobileCLIP2-S4":   _model(_S4, _LARGE_TEXT, _NORMED),
}
# Of those that Apple's own code builds, the width of the stem and the depth of the third stage.
APPLE = {
    "MobileCLIP-S0": (64, 10),
    "MobileCLIP-S1": (64, 20),
    "MobileCLIP-S2": (80, 24),
}
# fmt: on

_TERMS = "Apple ML Research (apple-amlr)"
_REINFORCED = "DataCompDR-1B: DataComp-1B with captions and vectors of a captioner and two teachers"
_REINFORCED_2 = "DFNDR-2B: DFN-2B with captions and vectors of captioners and two teachers"
_SOURCE = "github.com/apple/ml-mobileclip"


@dataclass(frozen=True, kw_only=True)
class _File:
    """Weights of a model as their publishers name them."""

    tag: str = ""
    repo: str = ""
    """In open_clip's layout; empty: there is none."""
    apple: str
    """The repository of Apple's own file."""
    file: str = ""
    """Its name, where it is known."""
    imagenet: float
    average: float

    def weights(self, apples: str) -> tuple[Weights, ...]:
        """`apples`: the layout of Apple's own file."""
        claims = figures((self.imagenet, self.average), _SOURCE)
        common = partial(Weights, licence=_TERMS, claims=claims)
        own = (self.apple, *filter(None, [self.file]))
        found = [common(repo=self.apple, format=apples, names=own)]
        if self.repo:
            found.insert(
                0,
                common(repo=self.repo, format="open-clip", names=(self.repo,), tags=(self.tag,)),
            )
        return tuple(found)


def _first(name: str, imagenet: float, average: float) -> _File:
    model = f"apple/MobileCLIP-{name}"
    file = f"mobileclip_{name.replace('-', '').lower()}.pt"
    tag = "datacompdr_lt" if name == "B-LT" else "datacompdr"
    repo = "" if name == "S0" else f"{model}-OpenCLIP"
    return _File(tag=tag, repo=repo, apple=model, file=file, imagenet=imagenet, average=average)


def _second(name: str, imagenet: float, average: float) -> _File:
    file = "" if name == "L-14" else f"mobileclip2_{name.lower()}.pt"
    return _File(
        tag="dfndr2b",
        repo=f"timm/MobileCLIP2-{name}-OpenCLIP",
        apple=f"apple/MobileCLIP2-{name}",
        file=file,
        imagenet=imagenet,
        average=average,
    )


# The accuracies are those of Apple's README.
FILES = {
    "MobileCLIP-S0": (_first("S0", 67.8, 58.1),),
    "MobileCLIP-S1": (_first("S1", 72.6, 61.3),),
    "MobileCLIP-S2": (_first("S2", 74.4, 63.7),),
    "MobileCLIP-B": (_first("B", 76.8, 65.2), _first("B-LT", 77.2, 65.8)),
    "MobileCLIP2-S0": (_second("S0", 71.5, 59.7),),
    "MobileCLIP2-S2": (_second("S2", 77.2, 64.1),),
    "MobileCLIP2-B": (_second("B", 79.4, 65.8),),
    "MobileCLIP2-S3": (_second("S3", 80.7, 66.8),),
    "MobileCLIP2-L-14": (_second("L-14", 81.9, 67.8),),
    "MobileCLIP2-S4": (_second("S4", 81.9, 67.5),),
}


def entries() -> list[Entry]:
    """All of them, the smaller first."""
    found: list[Entry] = []
    for name, config in MODELS.items():
        first = name in (*APPLE, "MobileCLIP-B")
        weights: list[Weights] = []
        for file in FILES[name]:
            weights += file.weights("mobileclip" if first else "open-clip")
        training = Training(
            data=_REINFORCED if first else _REINFORCED_2,
            seen="13 B",
            source="arXiv:2311.17049" if first else "arXiv:2508.20691",
        )
        found.append(
            Entry(name=name.lower(), config=config, weights=tuple(weights), training=training)
        )
    return found
