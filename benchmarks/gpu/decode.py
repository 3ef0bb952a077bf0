"""From shards to the device: the loader with several numbers of workers, and a whole run. Does the
device wait for data?"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.setting import Row, Setting
from benchmarks.inputs import pictures
from benchmarks.towers import captions
from diptych import pretrained
from diptych.batch import Sample
from diptych.config import DataConfig
from diptych.data import Loader, open_source, write_shards
from diptych.distributed import Peers
from diptych.inputs import Preprocess, build_tokenizer

PER_SHARD = 1000


def shards(setting: Setting) -> Iterator[Row]:
    """JPEGs of 640 x 480 with captions, read by the loader and by `diptych train`."""
    count = setting.pick(64, 12000)
    with tempfile.TemporaryDirectory() as folder:
        jpegs, texts = pictures(setting.pick(4, 64)), captions(256)
        samples = (
            Sample(key="", image=jpegs[i % len(jpegs)], captions=(texts[i % 256],))
            for i in range(count)
        )
        last = len(write_shards(folder, samples, per_shard=PER_SHARD)) - 1
        path = f"{folder}/{{000000..{last:06d}}}.tar"
        for workers in sorted({1, *setting.pick((), (8, _cores() - 2, _cores()))} - {0}):
            rate = _rate(path, workers, setting)
            yield {"name": f"loader, {workers} workers", "pairs_per_s": rate, "cores": _cores()}
        yield _run(path, Path(folder) / "run", setting)


def _rate(path: str, workers: int, setting: Setting) -> float:
    config = pretrained.get(setting.pick("tiny", "vit-b-32"))
    data = DataConfig(path=path, workers=workers, cache=str(Path(path).parent / "cache"))
    loader = Loader(
        open_source(data),
        data,
        preprocess=Preprocess(config.preprocess, config.image.image_size),
        tokenizer=build_tokenizer(config.tokenizer, config.text.context_length),
        batch_size=setting.pick(8, 256),
        steps=setting.pick(6, 40),
        peers=Peers(device=setting.device),
    )
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    pairs = sum(map(len, batches))
    setting.wait()
    return pairs / (time.perf_counter() - start)


def _run(path: str, out: Path, setting: Setting) -> Row:
    recipe = setting.pick("tiny-digits", "clip-vit-b-32")
    flags = {
        "data.path": path,
        "data.cache": str(out.parent / "cache"),
        "data.workers": setting.pick(1, max(1, _cores() - 1)),
        "batch-size": setting.pick(8, 512),
        "steps": setting.pick(4, 40),
        "evaluation.path": "",
        "track.every-steps": setting.pick(2, 10),
        "save.every-steps": 0,
        "out": str(out),
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "diptych", "train", recipe, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"name": "diptych train", "failed": done.stderr[-300:]}
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    row = {"name": f"diptych train {recipe}", "pairs_per_s": last["samples_per_second"]}
    return row | {"data_wait": last["data_wait"]}


def _cores() -> int:
    return len(os.sched_getaffinity(0))


CHECKS = (shards,)
