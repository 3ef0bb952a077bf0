"""What transformers' configurations call the sizes of a text model, in open_clip's table, for
programs that read it: Diptych's own towers ask transformers."""

_SIZES = {
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
}
_PARTS = {"layer_attr": "layer", "token_embeddings_attr": "embeddings"}
_T5S = {
    "context_length": "",  # its positions are relative
    "width": "d_model",
    "heads": "num_heads",
    "layers": "num_layers",
    "layer_attr": "block",
    "token_embeddings_attr": "embed_tokens",
}
_M2MS = {"width": "d_model", "heads": "encoder_attention_heads", "layers": "encoder_layers"}

arch_dict = {
    "roberta": {"config_names": _SIZES | _PARTS, "pooler": "mean_pooler"},
    "xlm-roberta": {"config_names": _SIZES | _PARTS, "pooler": "mean_pooler"},
    "mt5": {"config_names": _SIZES | _T5S, "pooler": "mean_pooler"},
    "bert": {"config_names": dict(_SIZES), "pooler": "cls_pooler"},
    "m2m_100": {"config_names": _SIZES | _M2MS, "pooler": "cls_pooler"},
}
"""By `model_type`: the fields' names, and the pooling of open_clip's models."""
