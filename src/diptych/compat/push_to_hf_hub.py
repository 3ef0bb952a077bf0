"""Models onto the Hugging Face hub in open_clip's layout.

https://github.com/mlfoundations/open_clip, src/open_clip/push_to_hf_hub.py
"""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from diptych.compat.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from diptych.compat.factory import create_model_from_pretrained, get_model_config
from diptych.compat.readme import generate_readme
from diptych.compat.tokenizer import (
    HFTokenizer,
    SigLipTokenizer,
    TikTokenTokenizer,
    get_tokenizer,
)
from diptych.errors import CheckpointError, ConfigError, first_line
from diptych.families.clip.layouts.open_clip_config import to_json
from diptych.weights.writing import save_tensors, writable

__all__ = [
    "HFTokenizer",
    "SigLipTokenizer",
    "generate_readme",
    "get_model_config",
    "push_pretrained_to_hf_hub",
    "push_to_hf_hub",
    "save_config_for_hf",
    "save_for_hf",
]

_OF_OTHER_TOKENIZERS = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "*.model"),
)
"""What transformers' tokenizers leave in a repository."""


def save_config_for_hf(
    model: Any, config_path: str | Path, model_config: Mapping[str, Any] | None
) -> None:
    """Write `open_clip_config.json`: `model_config`, and the preprocessing of `model.visual`, where
    the model has one."""
    content: dict[str, Any] = {"model_cfg": model_config}
    if (visual := getattr(model, "visual", None)) is not None:
        content["preprocess_cfg"] = {"mean": visual.image_mean, "std": visual.image_std}
        for name in ("interpolation", "resize_mode"):
            if name in visual.preprocess_cfg:
                content["preprocess_cfg"][name] = visual.preprocess_cfg[name]
    Path(config_path).write_text(json.dumps(content, indent=2))


def save_for_hf(
    model: Any,
    tokenizer: Any,
    model_config: Mapping[str, Any] | None,
    save_directory: str | Path,
    safe_serialization: bool | str = "both",
    skip_weights: bool = False,
) -> None:
    """Write weights, tokenizer and configuration into a folder that `local-dir:` loads.

    `safe_serialization`: True safetensors, False `torch.save`'s, `both`. What has two names (a
    `lm_head` that is the words' table) is written under both. Raises ConfigError for another one,
    and CheckpointError for tensors that can't be written (`weights.writing.writable`).

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diptych import compat
    >>> from diptych.compat.push_to_hf_hub import save_for_hf
    >>> name, tokenizer = "ViT-S-32-alt", compat.get_tokenizer("ViT-S-32-alt")
    >>> model = compat.create_model(name, load_weights=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_for_hf(model, tokenizer, compat.get_model_config(name), folder, True)
    ...     sorted(path.name for path in Path(folder).glob("open_clip*"))
    ['open_clip_config.json', 'open_clip_model.safetensors']
    """
    if safe_serialization not in (True, False, "both"):
        raise ConfigError(
            f"safe_serialization={safe_serialization!r} is unknown; say True, False or 'both'"
        )
    folder = Path(save_directory)
    folder.mkdir(parents=True, exist_ok=True)
    if not skip_weights:
        tensors = model.state_dict()
        tensors = {name: writable(name, tensor).contiguous() for name, tensor in tensors.items()}
        if safe_serialization:
            save_tensors(folder / HF_SAFE_WEIGHTS_NAME, tensors)
        if safe_serialization is not True:
            torch.save(tensors, folder / HF_WEIGHTS_NAME)
    files = tokenizer.save_pretrained(folder)
    if isinstance(files, dict) and model_config is not None:
        # Where a `TikTokenTokenizer` lies in the folder.
        text = {**model_config.get("text_cfg", {}), **files}
        model_config = {**model_config, "text_cfg": text}
    save_config_for_hf(model, folder / HF_CONFIG_NAME, model_config)


def push_to_hf_hub(
    model: Any,
    tokenizer: Any,
    model_config: Mapping[str, Any] | None,
    repo_id: str,
    commit_message: str = "Add model",
    token: str | None = None,
    revision: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    model_card: Mapping[str, Any] | None = None,
    safe_serialization: bool | str = "both",
) -> Any:
    """Upload a model in open_clip's layout into `org/name`, which is made where it isn't there,
    with a README of `model_card` (see `generate_readme`) where it has none. Beside a
    `TikTokenTokenizer`, files of transformers' tokenizers are deleted there: they would be another
    model's. Returns what huggingface_hub's `upload_folder` returns.

    Raises CheckpointError, in one sentence, where the hub can't be reached or refuses it: without
    `token` and `hf auth login`, without a right to write there.
    """
    from huggingface_hub import HfApi, errors

    api = HfApi(token=token)
    stale = [*_OF_OTHER_TOKENIZERS] if isinstance(tokenizer, TikTokenTokenizer) else None
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            save_for_hf(model, tokenizer, model_config, folder, safe_serialization)
            if not api.file_exists(repo_id, "README.md", revision=revision):
                text = generate_readme(model_card or {}, repo_id.rpartition("/")[2])
                Path(folder, "README.md").write_text(text)
            return api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                revision=revision,
                create_pr=create_pr,
                commit_message=commit_message,
                delete_patterns=stale,
            )
    except errors.HFValidationError as error:
        raise ConfigError(f"{repo_id!r} can't be the name of a model: {error}") from error
    except (errors.LocalTokenNotFoundError, errors.HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"the model could not be pushed to {repo_id} ({first_line(error)}); give token= of an "
            "account that may write there, or `hf auth login`, and check the network"
        ) from error


def push_pretrained_to_hf_hub(
    model_name: str,
    pretrained: str,
    repo_id: str,
    precision: str = "fp32",
    image_mean: tuple[float, ...] | None = None,
    image_std: tuple[float, ...] | None = None,
    image_interpolation: str | None = None,
    image_resize_mode: str | None = None,
    commit_message: str = "Add model",
    token: str | None = None,
    revision: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    model_card: Mapping[str, Any] | None = None,
    hf_tokenizer_self: bool = False,
    **options: Any,
) -> Any:
    """`push_to_hf_hub` of a model's name and weights, as `create_model_from_pretrained` takes them.
    `hf_tokenizer_self`: the configuration names the repository itself as its tokenizer's place.

    Raises as both do.
    """
    model, _ = create_model_from_pretrained(
        model_name,
        pretrained,
        precision,
        image_mean=image_mean,
        image_std=image_std,
        image_interpolation=image_interpolation,
        image_resize_mode=image_resize_mode,
        **options,
    )
    # The weights' own configuration, which may differ from the one that the name means.
    config = to_json(model.config)["model_cfg"]
    if hf_tokenizer_self:
        config["text_cfg"]["hf_tokenizer_name"] = repo_id
    return push_to_hf_hub(
        model,
        get_tokenizer(model_name),
        config,
        repo_id,
        commit_message,
        token,
        revision,
        private,
        create_pr,
        model_card,
    )
