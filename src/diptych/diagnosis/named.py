"""From what a user writes to a load."""

from pathlib import Path

from diptych.diagnosis.load import Load
from diptych.diagnosis.peers import open_clip_named, transformers_named
from diptych.diagnosis.side import name_of
from diptych.encoder import load
from diptych.encoder.load import device_of, dtype_of
from diptych.errors import ConfigError

_PLACES = ("hf-hub:", "local-dir:")
_LIBRARIES = ("open_clip", "transformers")


def is_of_another_library(name: str) -> bool:
    """Whether open_clip or transformers is to load it.

    >>> from diptych.diagnosis.named import is_of_another_library
    >>> is_of_another_library("open_clip:ViT-B-32:openai"), is_of_another_library("ViT-B-32.pt")
    (True, False)
    """
    library, colon, _ = name.partition(":")
    return bool(colon) and _plain(library) in _LIBRARIES


def _plain(library: str) -> str:
    return library.lower().replace("-", "_")


def load_named(
    name: str, dtype: str = "", device: str | None = None, config: str | None = None
) -> Load:
    """`open_clip:MODEL:TAG` (or a file in the tag's place, or `open_clip:hf-hub:org/name`,
    `open_clip:FOLDER`), `transformers:FOLDER` (or `org/name`), or what `diptych.load`
    takes, with that `config`. `dtype`: fp32, bf16, fp16; empty: the library's default.

    Raises ConfigError for what the library refuses, or where it isn't installed.
    """
    place = str(device_of(device))
    library, _, rest = name.partition(":")
    known = _plain(library)
    if not is_of_another_library(name):
        return Load.of(load(name, device, dtype or "fp32", config=config, deploy=False))
    if config:
        raise ConfigError(f"--config is for models that Diptych loads, and not for {name}")
    if not rest:
        raise ConfigError(f"{name} names no model; write {known}:NAME")
    if known == "transformers":
        return transformers_named(rest, dtype and name_of(dtype_of(dtype)), place)
    if Path(rest).is_dir():
        rest = f"local-dir:{rest}"
    if rest.startswith(_PLACES):
        return open_clip_named(rest, None, dtype or "fp32", place)
    model, colon, tag = rest.partition(":")
    if not colon:
        model, _, tag = rest.rpartition("/")
    if not model or not tag:
        raise ConfigError(
            f"{name} says no weights, and open_clip would make random ones: write "
            f"open_clip:{rest}:TAG, or a file's path in place of TAG"
        )
    return open_clip_named(model, tag, dtype or "fp32", place)
