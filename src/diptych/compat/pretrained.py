"""Files of weights, fetched as open_clip's module of this name fetches them, which gives the lists,
too: `listing`'s."""

import http.client
import shutil
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from diptych.checkpoints.detect import open_foreign
from diptych.checkpoints.locate import fetch
from diptych.compat.constants import (
    HF_SAFE_WEIGHTS_NAME,
    HF_WEIGHTS_NAME,
    IMAGENET_MEAN,
    IMAGENET_STD,
    INCEPTION_MEAN,
    INCEPTION_STD,
    OPENAI_DATASET_MEAN,
    OPENAI_DATASET_STD,
)
from diptych.compat.listing import (
    add_model_config,
    get_model_config,
    get_pretrained_cfg,
    get_pretrained_url,
    is_pretrained_cfg,
    list_models,
    list_openai_models,
    list_pretrained,
    list_pretrained_models_by_tag,
    list_pretrained_tags_by_model,
)
from diptych.compat.registry import pretrained_by_model
from diptych.durable import write_file
from diptych.errors import ConfigError, DownloadError, first_line
from diptych.weights import native
from diptych.weights.hub import HUB

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "INCEPTION_MEAN",
    "INCEPTION_STD",
    "OPENAI_DATASET_MEAN",
    "OPENAI_DATASET_STD",
    "DownloadError",
    "add_model_config",
    "download_pretrained",
    "download_pretrained_from_hf",
    "download_pretrained_from_url",
    "get_model_config",
    "get_pretrained_cfg",
    "get_pretrained_url",
    "has_hf_hub",
    "is_pretrained_cfg",
    "list_models",
    "list_openai_models",
    "list_pretrained",
    "list_pretrained_models_by_tag",
    "list_pretrained_tags_by_model",
]
_PATIENCE = 60.0
"""Seconds in which a server gives nothing."""


def download_pretrained(
    cfg: Mapping[str, Any], prefer_hf_hub: bool = True, cache_dir: str | Path | None = None
) -> str:
    """The path of the weights of a `get_pretrained_cfg`, fetched from the hub, or with
    `prefer_hf_hub=False` and where they aren't there, from their address; empty for an empty one.

    Raises DownloadError as `diptych.load` and `download_pretrained_from_url`.
    """
    if not cfg:
        return ""
    if "file" in cfg:
        return str(cfg["file"])
    name, url = str(cfg.get("hf_hub") or "").rstrip("/"), str(cfg.get("url") or "")
    if url and not (name and prefer_hf_hub):
        return download_pretrained_from_url(url, cache_dir)
    if not name:
        raise ConfigError(f"{dict(cfg)} says no place of weights: it has neither hf_hub nor url")
    found = fetch(f"{HUB}{name}", cache_dir=cache_dir)
    return str(open_foreign(found).file)


def download_pretrained_from_url(url: str, cache_dir: str | Path | None = None) -> str:
    """The path of a file in `cache_dir` (None: ~/.cache/clip), fetched from `url` where it isn't
    there, whole or not at all. Where the address tells the sha256, as OpenAI's and open_clip's do,
    a file of another one is fetched again.

    Raises DownloadError, a RuntimeError, for an address that isn't of the web, can't be reached, or
    gives another file.
    """
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url!r} is no address of the web: it must begin with https://")
    name = urlsplit(url).path.rpartition("/")[2]
    if not name:
        raise DownloadError(f"{url!r} names no file")
    file, expected = Path(cache_dir or "~/.cache/clip").expanduser() / name, _sha256_in(url)
    if file.is_file() and native.sha256(file).startswith(expected):
        return str(file)
    if file.exists() and not file.is_file():
        raise DownloadError(f"{file} exists and is not a regular file; choose another cache_dir")

    def write(path: Path) -> None:
        with urllib.request.urlopen(url, timeout=_PATIENCE) as source, path.open("wb") as output:
            shutil.copyfileobj(source, output)
            size = source.headers.get("Content-Length")
        if size and path.stat().st_size != int(size):
            raise DownloadError(
                f"{url} broke off after {path.stat().st_size} of {size} bytes; try again"
            )
        if not native.sha256(path).startswith(expected):
            # open_clip's words, which callers look for.
            raise DownloadError(f"{url}: the SHA256 checksum does not not match; try again")

    try:
        write_file(file, write)
    except DownloadError:  # an OSError, too
        raise
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(
            f"{url} could not be fetched into {file.parent} ({first_line(error)}); download it "
            f"yourself to {file}"
        ) from error
    return str(file)


def has_hf_hub(necessary: bool = False) -> bool:
    """Whether huggingface_hub is installed: always."""
    return True


def download_pretrained_from_hf(
    model_id: str,
    filename: str | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
) -> str:
    """The path of one file of a hub's repository, fetched where the cache hasn't it: `filename`, or
    the weights. Of pickled weights the safe copy is taken if there is one.

    Raises DownloadError, a FileNotFoundError, where there is none such.
    """
    name = filename or HF_WEIGHTS_NAME
    stem, dot, ending = name.rpartition(".")
    safe = [f"{stem}.safetensors"] if dot and ending in ("bin", "pth") else []
    safe = [HF_SAFE_WEIGHTS_NAME] if name == HF_WEIGHTS_NAME else safe
    place = f"{HUB}{model_id}" + (f"@{revision}" if revision else "")
    failed: DownloadError | None = None
    for wanted in (*safe, name):
        try:
            return str(fetch(place, file=wanted, cache_dir=cache_dir))
        except DownloadError as error:
            failed = error
    raise DownloadError(str(failed)) from failed


def _sha256_in(url: str) -> str:
    """The beginning of the sha256 that an address tells; empty: it tells none."""
    folder, name = url.split("/")[-2:]
    if "openaipublic" in url:
        return folder
    return Path(name).stem.rpartition("-")[2] if "mlfoundations" in url else ""


def __getattr__(name: str) -> Any:
    """`_PRETRAINED`, which scripts read; it is made when it is asked for."""
    if name == "_PRETRAINED":
        return pretrained_by_model()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
