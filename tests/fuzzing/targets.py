"""What Diptych reads from files that strangers may have made: how a good one is made, and read."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import torch
from safetensors.torch import save_file

import diptych
from diptych.batch import Sample
from diptych.cli import report as report_command
from diptych.config import DataConfig, PreprocessConfig, Run
from diptych.config.serialize import to_json
from diptych.data import open_source, write_shards
from diptych.data.tar import cached_index, index_tar
from diptych.errors import DataError
from diptych.evaluation import Result
from diptych.inputs import Preprocess, decode
from diptych.training import load_run
from diptych.weights.mapped import read_safetensors
from tests import tiny
from tests.inputs.pictures import encoded, photo


@dataclass(frozen=True)
class Target:
    """One kind of file."""

    make: Callable[[Path], list[Path]]
    """Writes a good example into a folder; returns the files that are damaged, one at a time."""
    read: Callable[[Path], object]
    """Reads what lies in the folder, as a user would have it read. May raise DiptychError."""


def _run(folder: Path) -> list[Path]:
    (folder / "run.json").write_text(to_json(Run(steps=20, recipe="x")))
    rows = [
        {"step": step, "loss": 2.5, "samples_per_second": 80.0, "evaluation": {"top1": 0.5}}
        for step in (10, 20)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [folder / "run.json", folder / "metrics.jsonl"]


def _report(folder: Path) -> None:
    report_command.run([str(folder), "--out", str(folder.parent / "page.html")])


def _result(folder: Path) -> list[Path]:
    result = Result(
        task="zero-shot",
        metrics={"top1": 0.5, "mean_per_class": 0.5},
        intervals={"top1": [0.4, 0.6]},
        protocol={"metric": "top1", "resize": "crop"},
        data={"name": "x", "used": 4},
        model={"name": "m"},
        class_names=("a", "b"),
        per_class=(1.0, 0.0),
        confusion=((2, 0), (2, 0)),
        mistakes=({"true": "a", "taken_for": "b", "confidence": 0.9, "jpeg": ""},),
    )
    return [result.save(folder / "result.json")]


def _report_result(folder: Path) -> None:
    table = folder.parent / "table.md"
    page = folder.parent / "page.html"
    report_command.run([str(folder / "result.json"), "--out", str(page), "--table", str(table)])


def _index(folder: Path) -> list[Path]:
    tiny.write_pictures(folder.parent / "pictures", each=1)
    diptych.Index.build(folder, folder.parent / "pictures", tiny.encoder())
    return [path for path in folder.iterdir() if path.name != "lock"]


def _search(folder: Path) -> None:
    index = diptych.Index.open(folder, tiny.encoder())
    index.search(torch.ones(index.vectors.shape[1]), top=2)


def _each_sample(path: Path, **options: object) -> None:
    """As the loader reads: what is wrong with one sample is a DataError of that sample."""
    source = open_source(DataConfig(path=str(path), cache=str(path.parent), **options))
    for number in range(min(len(source), 8)):
        try:
            sample = source[number]
            if isinstance(sample.image, bytes):
                decode(sample.image)
        except DataError:
            continue


def _shard(folder: Path) -> list[Path]:
    samples = [
        Sample(key="", image=encoded(photo(20, 16), "JPEG"), captions=("a cat",), label=1),
        Sample(key="", image=encoded(photo(20, 16), "PNG"), captions=("a", "b"), meta={"x": 1}),
        Sample(key="", image=encoded(photo(20, 16), "PNG"), captions=("a",), labels=(0, 2)),
    ]
    return write_shards(folder, samples)


def _tar_index(folder: Path) -> list[Path]:
    [shard] = _shard(folder)
    cached_index(shard, folder)
    return list((folder / "index").glob("*.npz"))


def _table(kind: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        picture = folder / "a.png"
        picture.write_bytes(encoded(photo(20, 16), "PNG"))
        captions = ["a cat", 'a "dog"', "a, b"]
        path = folder / f"pairs.{kind}"
        if kind == "parquet":
            table = pa.table({"filepath": ["a.png"] * 3, "caption": captions})
            pyarrow.parquet.write_table(table, path)
        elif kind == "jsonl":
            lines = [json.dumps({"filepath": "a.png", "caption": each}) for each in captions]
            path.write_text("\n".join(lines) + "\n")
        else:
            comma = "," if kind == "csv" else "\t"
            rows = ["filepath" + comma + "caption"]
            rows += [f'a.png{comma}"{each.replace(chr(34), chr(34) * 2)}"' for each in captions]
            path.write_text("\n".join(rows) + "\n")
        return [path]

    return make


def _native(folder: Path) -> list[Path]:
    shutil.rmtree(folder)
    tiny.save(folder)
    return [folder / "model.json", folder / "model.safetensors"]


def _exported(to: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        shutil.rmtree(folder)
        small = tiny.small_vit(folder.parent / "native")
        diptych.convert(small, to, folder)
        return sorted(folder.glob("*.json"))

    return make


def _load(folder: Path) -> None:
    diptych.load(folder, device="cpu")


def _safetensors(folder: Path) -> list[Path]:
    path = folder / "a.safetensors"
    save_file({"a": torch.ones(3), "b": torch.ones(2, 2)}, path)
    return [path]


def _read_tensors(folder: Path) -> None:
    dict(read_safetensors(folder / "a.safetensors"))


def _pickled(folder: Path) -> list[Path]:
    path = folder / "a.pt"
    torch.save({"visual.proj": torch.ones(3, 2), "logit_scale": torch.tensor(1.0)}, path)
    return [path]


def _script(folder: Path) -> list[Path]:
    path = folder / "a.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 3), torch.ones(1, 2)), path)
    return [path]


def _picture(kind: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        path = folder / f"a.{kind.lower()}"
        path.write_bytes(encoded(photo(40, 30), kind))
        return [path]

    return make


def _decode(folder: Path) -> None:
    [path] = folder.iterdir()
    Preprocess(PreprocessConfig(), 32).pixels(path)


TARGETS: dict[str, Target] = {
    "run": Target(_run, _report),
    "run.json": Target(_run, load_run),
    "result": Target(_result, _report_result),
    "index": Target(_index, _search),
    "shard": Target(_shard, lambda folder: _each_sample(folder / "000000.tar")),
    "tar": Target(_shard, lambda folder: index_tar(folder / "000000.tar")),
    "tar index": Target(_tar_index, lambda folder: _each_sample(folder / "000000.tar")),
    "csv": Target(_table("csv"), lambda folder: _each_sample(folder / "pairs.csv")),
    "tsv": Target(_table("tsv"), lambda folder: _each_sample(folder / "pairs.tsv")),
    "jsonl": Target(_table("jsonl"), lambda folder: _each_sample(folder / "pairs.jsonl")),
    "parquet": Target(_table("parquet"), lambda folder: _each_sample(folder / "pairs.parquet")),
    "native": Target(_native, _load),
    "open-clip": Target(_exported("open-clip"), _load),
    "transformers": Target(_exported("transformers"), _load),
    "safetensors": Target(_safetensors, _read_tensors),
    "pickle": Target(_pickled, lambda folder: _load(folder / "a.pt")),
    "archive": Target(_script, lambda folder: _load(folder / "a.pt")),
    "jpeg": Target(_picture("JPEG"), _decode),
    "png": Target(_picture("PNG"), _decode),
    "webp": Target(_picture("WEBP"), _decode),
    "tiff": Target(_picture("TIFF"), _decode),
    "gif": Target(_picture("GIF"), _decode),
}
