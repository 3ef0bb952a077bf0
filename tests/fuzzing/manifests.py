"""Manifests of several sources of shards, as open_clip_train's `--train-data` takes them."""

import json
from pathlib import Path

from diptych.compat.open_clip_train.data_manifest import load_manifest, resolve_manifest

CONTENT = {
    "version": 1,
    "weight_mode": "mixture_fraction",
    "sources": [
        {"name": "a", "shards": "a/{000..009}.tar", "samples": 90000, "mixture_fraction": 0.5},
        {"name": "b", "shards": ["b/0.tar", "b/1.tar"], "samples": 200, "mixture_fraction": 0.5},
    ],
}


def in_json(folder: Path) -> list[Path]:
    return [_written(folder / "mix.json")]


def in_yaml(folder: Path) -> list[Path]:
    """JSON is YAML."""
    return [_written(folder / "mix.yaml")]


def read(folder: Path) -> None:
    [path] = folder.glob("mix.*")
    resolve_manifest(load_manifest(path))


def _written(path: Path) -> Path:
    path.write_text(json.dumps(CONTENT, indent=1))
    return path
