"""The pictures of the demo, rendered once into shards."""

import json
import shutil
from pathlib import Path

from rich.console import Console
from rich.progress import track

from diptych.data import scenes, write_shards
from diptych.durable import write_file
from diptych.errors import ConfigError

COUNTS = {"train": 12000, "seen": 1000, "unseen": 1000, "pairs": 500}
"""Pictures of each part."""
SHARDS = 12
"""Of the training part."""


def render(folder: Path, seed: int, console: Console) -> None:
    """Write the shards of all parts into `folder`, unless they are there already.

    The training part goes to `folder/train`, the others to `folder/test`; `folder/digits.txt` has
    the names of the classes. Raises ConfigError where something else stands at `folder`.
    """
    stamp = folder / "scenes.json"
    made = {"version": scenes.VERSION, "seed": seed, "counts": COUNTS}
    if stamp.exists() and json.loads(stamp.read_text()) == made:
        console.print("      kept from the last time")
        return
    delete_earlier(folder)
    folder.mkdir(parents=True)
    stamp.write_text("{}")  # says whose folder it is, should the rest be interrupted
    for part in scenes.PARTS:
        count = COUNTS[part]
        samples = track(
            scenes.samples(part, count, seed=seed), f"{part:8}", total=count, console=console
        )
        if part == "train":
            write_shards(folder / "train", samples, per_shard=count // SHARDS)
        else:
            write_shards(folder / "test", samples, prefix=f"{part}-")
    (folder / "digits.txt").write_text("\n".join(scenes.DIGITS) + "\n")
    write_file(stamp, lambda part: part.write_text(json.dumps(made)))


def delete_earlier(folder: Path) -> None:
    """Delete what an earlier experiment left at `folder`: shards, a run or an index. Raises
    ConfigError if it is something else."""
    marks = ("scenes.json", "run.json", "meta.json")
    if not folder.exists():
        return
    if not any((folder / mark).exists() for mark in marks):
        raise ConfigError(
            f"{folder} exists and was not written by this command; choose another --out"
        )
    shutil.rmtree(folder)
