"""How the text models are built from which published CLIP models started: what the `config.json` of
each says on the hub, so that none has to be asked for."""

from dataclasses import replace

from diptych.families.huggingface.config import HuggingFaceTextConfig


def _roberta(
    model_type: str, vocab_size: int, width: int, layers: int, heads: int
) -> HuggingFaceTextConfig:
    """RoBERTa (Liu et al. 2019, arXiv:1907.11692), XLM-RoBERTa (Conneau et al. 2019,
    arXiv:1911.02116)."""
    options = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    }
    return HuggingFaceTextConfig(model_type=model_type, options=options, pad_id=1)


def bert(
    vocab_size: int = 30522, width: int = 768, layers: int = 12, heads: int = 12
) -> HuggingFaceTextConfig:
    """BERT (Devlin et al. 2018, arXiv:1810.04805), by default the base model's sizes.

    >>> from diptych.families.huggingface.known import bert
    >>> bert().options["hidden_size"]
    768
    """
    options = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
    }
    return HuggingFaceTextConfig(model_type="bert", options=options, pad_id=0)


def _nllb(layers: int, mlp_width: int) -> HuggingFaceTextConfig:
    """The encoder of No Language Left Behind (2022, arXiv:2207.04672)."""
    options = {
        "vocab_size": 256206,
        "d_model": 1024,
        "encoder_layers": layers,
        "encoder_attention_heads": 16,
        "encoder_ffn_dim": mlp_width,
        "encoder_layerdrop": 0.0,
        "max_position_embeddings": 1024,
        "scale_embedding": True,
    }
    return HuggingFaceTextConfig(model_type="m2m_100", options=options, pad_id=1)


def _mt5(width: int, layers: int, heads: int, mlp_width: int) -> HuggingFaceTextConfig:
    """The encoder of mT5 (Xue et al. 2020, arXiv:2010.11934)."""
    options = {
        "vocab_size": 250112,
        "d_model": width,
        "d_kv": 64,
        "d_ff": mlp_width,
        "num_layers": layers,
        "num_heads": heads,
        "relative_attention_num_buckets": 32,
        "feed_forward_proj": "gated-gelu",
    }
    return HuggingFaceTextConfig(model_type="mt5", options=options, pad_id=0)


def _modernbert() -> HuggingFaceTextConfig:
    """ModernBERT's base model (Warner et al. 2024, arXiv:2412.13663, appendix A)."""
    options = {
        "vocab_size": 50368,
        "hidden_size": 768,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "intermediate_size": 1152,
        "max_position_embeddings": 8192,
        "norm_eps": 1e-5,
    }
    return HuggingFaceTextConfig(model_type="modernbert", options=options, pad_id=50283)


KNOWN = {
    "roberta-base": _roberta("roberta", 50265, width=768, layers=12, heads=12),
    "xlm-roberta-base": _roberta("xlm-roberta", 250002, width=768, layers=12, heads=12),
    "xlm-roberta-large": _roberta("xlm-roberta", 250002, width=1024, layers=24, heads=16),
    "facebook/nllb-200-distilled-600M": _nllb(layers=12, mlp_width=4096),
    "facebook/nllb-200-distilled-1.3B": _nllb(layers=24, mlp_width=8192),
    "google/mt5-base": _mt5(width=768, layers=12, heads=12, mlp_width=2048),
    "google/mt5-xl": _mt5(width=2048, layers=24, heads=32, mlp_width=5120),
    "Alibaba-NLP/gte-modernbert-base": _modernbert(),
    "hfl/chinese-roberta-wwm-ext": bert(21128),
    "hfl/chinese-roberta-wwm-ext-large": bert(21128, width=1024, layers=24, heads=16),
}
"""By open_clip's names, and the hub's. Context, pool and projection are the CLIP model's."""
_FREE = "max_position_embeddings"
"""What a CLIP model may say otherwise than the model that its texts started from."""
_MOVED = "FacebookAI/"
"""Where the hub keeps the models that had no owner."""


def known(name: str) -> HuggingFaceTextConfig | None:
    """The trunk of this name on the hub; None: it isn't known here.

    >>> from diptych.families.huggingface.known import known
    >>> known("FacebookAI/xlm-roberta-base").options["vocab_size"]
    250002
    """
    return KNOWN.get(name.removeprefix(_MOVED))


def name_of(text: HuggingFaceTextConfig) -> str:
    """The hub's name of a tower's trunk, however many places it has (see `changes`); empty: it
    isn't known here.

    >>> from diptych.families.huggingface.known import KNOWN, name_of
    >>> name_of(KNOWN["google/mt5-xl"])
    'google/mt5-xl'
    """
    for name, trunk in KNOWN.items():
        changed = {key: trunk.options.get(key) for key in changes(text, trunk)}
        options = text.options | changed
        same = {"model_type": text.model_type, "options": options, "pad_id": text.pad_id}
        if replace(trunk, **same) == trunk:
            return name
    return ""


def changes(text: HuggingFaceTextConfig, trunk: HuggingFaceTextConfig) -> dict[str, int]:
    """The places of a tower, as transformers' option, where the trunk that it started from has
    another number of them.

    >>> from diptych.families.huggingface.known import bert, changes
    >>> changes(bert(), bert(vocab_size=60))
    {}
    """
    said = text.options.get(_FREE)
    return {} if said in (None, trunk.options.get(_FREE)) else {_FREE: said}
