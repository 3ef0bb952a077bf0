"""CIFAR-10 through CLIP_benchmark 1.6.2 and through Diptych: the same model, shards, names and
prompts.

    DIPTYCH_CIFAR10=FOLDER python -m benchmarks evaluation

FOLDER holds train-*.tar, test-*.tar and classnames.txt. A small model is trained first, so that
classes lie apart as they do in practice. Needs `pip install --no-deps clip-benchmark==1.6.2`,
open_clip and webdataset 0.2.86."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

import diptych
from benchmarks.compare import Row
from diptych import models
from diptych.config import ClipConfig, DataConfig
from diptych.data import open_source, read_class_names
from diptych.encoder import Cache, Encoder
from diptych.evaluation import evaluate, to_clip_benchmark
from diptych.families.clip import TextConfig, VitConfig
from diptych.weights.native import save_model

_STEPS, _VOCABULARY = 400, 10**6
TEMPLATES = (
    "a photo of a {c}.",
    "a blurry photo of a {c}.",
    "a low contrast photo of the {c}.",
    "itap of a {c}.",
)
# Captioning alone needs pycocoevalcap, which needs Java; everything imports it.
PEER = """
import sys
from unittest.mock import MagicMock
for name in (
    "tokenizer.ptbtokenizer", "bleu.bleu", "meteor.meteor", "rouge.rouge", "cider.cider",
    "spice.spice",
):
    for depth in range(len(name.split(".")) + 1):
        sys.modules[".".join(["pycocoevalcap", *name.split(".")[:depth]])] = MagicMock()
from clip_benchmark.cli import main
from clip_benchmark.metrics import zeroshot_classification
# Its accuracy calls float() on an array of one number, which numpy 2.4 refuses.
zeroshot_classification.float = lambda array: array.item()
sys.exit(main())
"""


def rows() -> Iterator[Row]:
    if "DIPTYCH_CIFAR10" not in os.environ:
        print("evaluation: left out; say where CIFAR-10 lies with DIPTYCH_CIFAR10=FOLDER")
        return
    if find_spec("clip_benchmark") is None:
        print("evaluation: left out; its peer isn't installed: pip install clip-benchmark")
        return
    with tempfile.TemporaryDirectory() as folder:
        yield from _compare(Path(os.environ["DIPTYCH_CIFAR10"]), Path(folder))


def _compare(cifar: Path, room: Path) -> Iterator[Row]:
    root = _mirror_layout(cifar, room / "cifar10")
    diptych.convert(_train(cifar, room / "model"), "open-clip", room / "open_clip")
    start = time.perf_counter()
    theirs = _clip_benchmark(root, room)
    their_time = time.perf_counter() - start
    config = DataConfig(path=f"{root}/test/{{0..{_shards(root) - 1}}}.tar")
    templates = [template.replace("{c}", "{}") for template in TEMPLATES]
    for what in ("first time", "again, from the cache"):
        start = time.perf_counter()
        encoder: Encoder = diptych.load(room / "open_clip", device="cpu")
        cache = Cache(room / "vectors")
        names = root / "classnames.txt"
        result = evaluate(
            encoder, "zero-shot", config, class_names=names, templates=templates, cache=cache
        )
        mine = json.loads(to_clip_benchmark(result))["metrics"]
        taken = time.perf_counter() - start
        check = ", ".join(f"{name} {value} = {theirs[name]}" for name, value in mine.items())
        assert mine == theirs, check
        yield Row(
            name=f"CIFAR-10, {what} (CLIP_benchmark)",
            unit="s",
            ours=taken,
            theirs=their_time,
            check=check,
        )


def _mirror_layout(cifar: Path, root: Path) -> Path:
    """The layout of the Hugging Face mirrors."""
    (root / "test").mkdir(parents=True)
    shards = sorted(cifar.glob("test-*.tar"))
    for number, shard in enumerate(shards):
        (root / "test" / f"{number}.tar").symlink_to(shard.resolve())
    (root / "test" / "nshards.txt").write_text(str(len(shards)))
    (root / "classnames.txt").write_text((cifar / "classnames.txt").read_text())
    (root / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES))
    return root


def _shards(root: Path) -> int:
    return int((root / "test" / "nshards.txt").read_text())


def _train(cifar: Path, out: Path) -> Path:
    """A small CLIP that open_clip can hold, after half a minute of learning which of the ten names
    fits."""
    config = ClipConfig(
        image=VitConfig(image_size=64, patch_size=16, width=128, layers=3, heads=4, mlp_width=512),
        text=TextConfig(width=128, layers=2, heads=4, mlp_width=512),
        embed_dim=64,
    )
    torch.manual_seed(0)
    model = models.build(config)
    encoder, names = Encoder(model), read_class_names(cifar / "classnames.txt")
    source = open_source(DataConfig(path=str(cifar / "train-0000.tar")), captions=False)
    samples = [source[number] for number in range(len(source))]
    pixels = torch.stack([encoder.preprocess.pixels(sample.image) for sample in samples])
    labels = torch.tensor([sample.label for sample in samples])
    ids = encoder.tokenizer([f"a photo of a {name}." for name in names])
    for parameter in model.parameters():
        parameter.requires_grad_(
            parameter.numel() < _VOCABULARY
        )  # a word needs no training to be a word
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(_STEPS):
        batch = torch.randint(len(samples), (64,))
        images, texts = model(encoder.preprocess.normalise(pixels[batch]), ids)
        loss = torch.nn.functional.cross_entropy(model.logits(images, texts), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return save_model(out, model.eval())


def _clip_benchmark(root: Path, room: Path) -> dict[str, float]:
    out = room / "theirs.json"
    words = [
        "eval",
        "--dataset",
        "wds/cifar10",
        "--dataset_root",
        root,
        "--task",
        "zeroshot_classification",
    ]
    words += [
        "--model",
        f"local-dir:{room / 'open_clip'}",
        "--pretrained",
        "",
        "--no_amp",
        "--num_workers",
        "0",
    ]
    command = [sys.executable, "-c", PEER, *map(str, words), "--output", str(out)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())["metrics"]
