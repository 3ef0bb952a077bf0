"""Folders of a text model that a program's own configuration names."""

from collections.abc import Mapping
from typing import Any

from diptych.inputs.strangers import name_folders


def name_text_folders(model_cfg: Mapping[str, Any]) -> None:
    """Where a `model_cfg` that the program itself makes says folders of this machine in place of
    names on the hub, the text model's configuration and tokenizer are read from them."""
    text = model_cfg.get("text_cfg") or {}
    name_folders(text.get("hf_model_name"), text.get("hf_tokenizer_name"))
