"""The folder in which pages run: small pictures of coloured shapes, and what pages call them."""

import csv
from dataclasses import replace
from pathlib import Path

from diptych.checkpoints import convert
from diptych.config import ClipConfig, DataConfig
from diptych.data import open_source, write_shards
from diptych.families.clip import TextConfig, VitConfig
from diptych.families.eva import EvaConfig
from diptych.models import build
from diptych.weights.native import save_model
from tests.documents import Step, execute

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
TRAIN = (
    "train tiny-digits --data.path pairs.csv --steps 40 --batch-size 32 --optim.lr 2e-3 "
    "--optim.warmup 5 --data.workers 0 --out runs/mine"
)
_OPENAI = {"mlp_width": 256, "activation": "quick_gelu"}
_EVA = {"mlp_width": 48, "norm": "rms", "qkv_bias": False, "projection_bias": False}


def prepare(root: Path) -> None:
    """Pairs, photographs, labelled pictures, shards, a trained run, a published checkpoint."""
    source = open_source(DataConfig(path="synthetic:332"))
    samples = [source[place] for place in range(332)]
    write_shards(root / "shards", samples[:64], per_shard=32)
    for name, part in (("pairs", samples[:128]), ("held-out", samples[128:160])):
        _table(root, name, part)
    (root / "photos").mkdir()
    for place, sample in enumerate(samples[160:172]):
        (root / "photos" / f"{place:02}.jpg").write_bytes(sample.image)
    for place, sample in enumerate(samples[172:]):
        colour = next(each for each in COLOURS if each in sample.captions[0])
        part = "train" if place < 128 else "test"
        folder = root / "colours" / part / colour
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{place:03}.jpg").write_bytes(sample.image)
    (root / "names.txt").write_text("".join(f"{colour}\n" for colour in COLOURS))
    (root / "ids.txt").write_text("".join(f"pairs/{place:03}.jpg\n" for place in range(20)))
    _sets(root / "data", samples[:30])
    execute(Step("diptych", TRAIN, []), root)
    _published(root)


def _table(root: Path, name: str, samples: list) -> None:
    (root / name).mkdir()
    with (root / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "caption"))
        for place, sample in enumerate(samples):
            path = f"{name}/{place:03}.jpg"
            (root / path).write_bytes(sample.image)
            writer.writerow((path, sample.captions[0]))


def _sets(root: Path, samples: list) -> None:
    """CIFAR-10 in folders, as small as it can be, and a set of flags."""
    for place, sample in enumerate(samples):
        classified = f"cifar10/test/{CIFAR10[place % 10]}/{place}.jpg"
        for path in (classified, f"flags/test/{place % 3}-{place:03}.png"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(sample.image)


def _published(root: Path) -> None:
    """`ViT-B-32.pt` as OpenAI publishes it, and EVA-CLIP-8B's kind of model, but small."""
    config = ClipConfig(
        image=VitConfig(image_size=32, patch_size=16, width=64, layers=1, heads=1, **_OPENAI),
        text=TextConfig(width=64, layers=1, heads=1, **_OPENAI),
        embed_dim=32,
    )
    save_model(root / "small", build(config))
    convert(root / "small", "openai", root / "ViT-B-32.pt")
    image = EvaConfig(image_size=32, patch_size=8, width=32, layers=1, heads=1, **_EVA)
    save_model(root / "small-eva", build(replace(config, image=image)))
