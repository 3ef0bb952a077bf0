"""The pictures of the demo, rendered once into shards."""

import json
import os
import shutil
from pathlib import Path

from rich.console import Console
from rich.progress import track

from diptych.bounded import parse_json, read_text
from diptych.data import scenes, write_shards
from diptych.durable import write_file
from diptych.errors import ConfigError

COUNTS = {"train": 12000, "seen": 1000, "unseen": 1000, "pairs": 500}
"""Pictures of each part."""
STAMP = "scenes.json"
"""The file beside the shards that says what they are."""
SHARDS = 12
"""Of the training part."""


def render(folder: Path, seed: int, console: Console) -> None:
    """Write the shards of all parts into `folder`, unless they are there already.

    The training part goes to `folder/train`, the others to `folder/test`; `folder/digits.txt` has
    the names of the classes. Raises ConfigError where something else stands at `folder`.
    """
    stamp = folder / STAMP
    made = {"version": scenes.VERSION, "seed": seed, "counts": COUNTS}
    if is_made(stamp, made):
        console.print("      kept from the last time")
        return
    delete_earlier(folder, stamp)
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


def is_made(stamp: Path, made: object) -> bool:
    """Whether the file says that these pictures are beside it."""
    try:
        return parse_json(read_text(stamp)) == made
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def delete_earlier(folder: Path, stamp: Path) -> None:
    """Delete what an earlier experiment left at `folder`: shards, a run or an index. Raises
    ConfigError if the `stamp` of its pictures isn't there, for then it is somebody else's."""
    if not os.path.lexists(folder):
        return
    if not stamp.is_file():
        raise ConfigError(
            f"{folder} exists and was not written by this command; choose another --out"
        )
    shutil.rmtree(folder)
