"""Several sources of shards in one file for `--train-data`: where they are, how many samples each
has, and how often it comes. As open_clip's main branch reads it.

    {"version": 1, "sources": [
        {"name": "a", "shards": "a/{000..099}.tar", "samples": 900000, "sampling_weight": 1.0},
        {"name": "b", "shards": ["b/0.tar", "b/1.tar"], "samples": 20000, "sampling_weight": 3.0}]}

https://github.com/mlfoundations/open_clip, src/open_clip_train/data_manifest.py
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.bounded import parse_json, read_text
from diptych.data.braces import expand_braces
from diptych.errors import ConfigError, first_line

_ENDINGS = (".json", ".yaml", ".yml")
_MODES = ("raw", "mixture_fraction")
_MOST = 100_000_000
"""Bytes of a manifest: it may list each of a million shards."""
_LARGEST = 10**18
"""Samples of a source, and weights."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A source of a manifest."""

    name: str
    shards: list[str]
    samples: int
    weight: float
    """How often a shard of it comes, beside those of the others."""


def looks_like_manifest(train_data: Any) -> bool:
    """Whether it is the path of a file with `sources`. Raises ConfigError for a file with a
    manifest's ending that can't be read."""
    if not isinstance(train_data, str) or not train_data.lower().endswith(_ENDINGS):
        return False
    if not os.path.isfile(train_data):
        return False
    found = _content(train_data)
    return isinstance(found, dict) and "sources" in found


def load_manifest(path: str | Path) -> dict[str, Any]:
    """A manifest as it stands in a file. Raises ConfigError for one that doesn't fit, and says
    which source."""
    found = _content(str(path))
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is no manifest: it must be an object with version and sources")
    _parts(found, str(path))
    return found


def resolve_manifest(manifest: Mapping[str, Any]) -> tuple[list[str], list[float] | None, int]:
    """(shards, how often each comes, samples) of a manifest; None where all come equally often. The
    most frequent has 1.

    >>> from diptych.compat.open_clip_train.data_manifest import resolve_manifest
    >>> sources = [{"shards": "a/{0..1}.tar", "samples": 9}, {"shards": "b.tar", "samples": 1}]
    >>> resolve_manifest({"version": 1, "sources": sources})
    (['a/0.tar', 'a/1.tar', 'b.tar'], None, 10)
    """
    parts = _parts(manifest, "the manifest")
    shards = [shard for part in parts for shard in part.shards]
    return shards, _weights(manifest, parts), sum(part.samples for part in parts)


def apply_manifest_to_args(args: Any, manifest: Mapping[str, Any]) -> None:
    """Set `train_data`, `train_num_samples` and `train_data_upsampling_factors` of arguments; what
    they have of the last two wins.

    Weights count where `dataset_resampled` is; else shards are read in order. Raises ConfigError
    for `dataset_type` auto, and for factors that are neither one a source nor one a shard.
    """
    if vars(args).get("dataset_type") == "auto":
        raise ConfigError(
            "a manifest as --train-data needs an explicit --dataset-type; say webdataset"
        )
    shards, weights, samples = resolve_manifest(manifest)
    given, resampled = args.train_data_upsampling_factors, bool(args.dataset_resampled)
    if given is not None:
        if not resampled:
            raise ConfigError("--train-data-upsampling-factors needs --dataset-resampled")
        weights = _each_shard(given, _parts(manifest, "the manifest"))
    elif weights is not None and not resampled:
        logging.info("the manifest's weights count with --dataset-resampled alone: all come once")
        weights = None
    args.train_data, args.train_data_upsampling_factors = shards, weights
    args.train_num_samples = args.train_num_samples or samples


def _weights(manifest: Mapping[str, Any], parts: Sequence[_Part]) -> list[float] | None:
    highest = max(part.weight for part in parts) or 1.0
    found = [part.weight / highest for part in parts for _ in part.shards]
    equal = len({round(weight, 12) for weight in found}) == 1
    return None if equal and manifest.get("weight_mode", "raw") == "raw" else found


def _each_shard(given: str, parts: Sequence[_Part]) -> list[float]:
    try:
        factors = [float(each) for each in given.split("::")]
    except ValueError as error:
        raise ConfigError(
            f"--train-data-upsampling-factors {given} must be numbers joined by ::"
        ) from error
    shards = sum(len(part.shards) for part in parts)
    if len(factors) == len(parts):
        pairs = zip(factors, parts, strict=True)
        return [factor for factor, part in pairs for _ in part.shards]
    if len(factors) == shards:
        return factors
    raise ConfigError(
        f"--train-data-upsampling-factors {given} has {len(factors)} numbers; with this manifest "
        f"{len(parts)} (one for each source) or {shards} (one for each shard) are expected"
    )


def _parts(manifest: Mapping[str, Any], where: str) -> list[_Part]:
    if manifest.get("version") != 1:
        raise ConfigError(f"{where}: version must be 1, and is {manifest.get('version')!r}")
    mode, sources = manifest.get("weight_mode", "raw"), manifest.get("sources")
    if mode not in _MODES:
        raise ConfigError(f"{where}: weight_mode {mode!r} must be one of {', '.join(_MODES)}")
    if not isinstance(sources, list) or not sources:
        raise ConfigError(f"{where}: sources must be a non-empty list")
    return [_part(each, mode, f"{where}, sources[{n}]") for n, each in enumerate(sources)]


def _part(source: Any, mode: str, where: str) -> _Part:
    if not isinstance(source, dict):
        raise ConfigError(f"{where} must be an object with shards and samples")
    said: dict[str, Any] = source
    shards, samples = said.get("shards"), said.get("samples")
    patterns: Any = [shards] if isinstance(shards, str) else shards
    if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
        raise ConfigError(f"{where}: shards must be a path, or a non-empty list of paths")
    if not isinstance(samples, int) or isinstance(samples, bool) or not 0 < samples <= _LARGEST:
        raise ConfigError(f"{where}: samples must be the number of its samples, 1 or more")
    names = [name for pattern in patterns for name in expand_braces(pattern)]
    if not names:
        raise ConfigError(f"{where}: shards must be a path, or a non-empty list of paths")
    if mode == "raw":
        weight = _number(said.get("sampling_weight", 1.0), "sampling_weight", where)
    else:
        weight = _number(said.get("mixture_fraction"), "mixture_fraction", where)
        if not weight:
            raise ConfigError(f"{where}: mixture_fraction must be more than 0")
        # A shard comes by its weight and is read whole: a share of samples is weight x samples.
        weight /= samples
    return _Part(name=str(said.get("name", "")), shards=names, samples=samples, weight=weight)


def _number(value: Any, name: str, where: str) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits or not 0 <= value <= _LARGEST:
        raise ConfigError(f"{where}: {name} must be a number, 0 or more, and is {value!r:.40}")
    return float(value)


def _content(path: str) -> Any:
    kind = "JSON" if path.lower().endswith(".json") else "YAML"
    try:
        text = read_text(path, _MOST)
        return parse_json(text) if kind == "JSON" else _yaml(text)
    except (ValueError, OSError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"the manifest {path} is not valid {kind}: {first_line(error)}"
        ) from error


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ConfigError(
            "a manifest in YAML needs pyyaml: `pip install pyyaml`, or write it as JSON"
        ) from error
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(first_line(error)) from error
