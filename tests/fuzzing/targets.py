"""What Diptych reads from files that strangers may have made: how a good one is made, and read."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from safetensors.torch import save_file

import diptych
import diptych.search
from diptych import models, pretrained
from diptych.app.asked import SearchAsked, parse_as
from diptych.batch import Sample
from diptych.cli import report as report_command
from diptych.config import (
    ClipConfig,
    DataConfig,
    ImageTowerConfig,
    PreprocessConfig,
    Run,
    SaveConfig,
)
from diptych.config.serialize import to_json
from diptych.data import Loader, open_source, read_class_names, write_shards
from diptych.data.indexing import open_index
from diptych.data.tar import index_tar
from diptych.datasets.own_names import read_names
from diptych.datasets.templates import class_prompts, read_prompts, templates
from diptych.encoder.cache import Cache, CacheEntry
from diptych.errors import DataError, DiptychError
from diptych.evaluation import Result
from diptych.evaluation.per_sample import PerSample
from diptych.families.clip import ResNetConfig
from diptych.families.eva import EvaConfig
from diptych.families.timm import TimmConfig
from diptych.inputs import (
    ClipTokenizer,
    HuggingFaceTokenizer,
    Preprocess,
    decode,
    write_transformers_files,
)
from diptych.search import Condition, Where
from diptych.search.export import export
from diptych.search.imported import import_index
from diptych.search.store import Store
from diptych.training import fit, load_run
from diptych.training.callbacks import list_bad_samples
from diptych.weights import exported
from diptych.weights.exported import Exported
from diptych.weights.mapped import read_safetensors
from diptych.weights.native import save_model
from diptych.weights.read import read_weights
from tests import tiny
from tests.fuzzing import id_files, stores
from tests.inputs.pictures import encoded, photo
from tests.training.runs import MODEL, small_run

TOKENIZER = ClipTokenizer(16)
TOWERS: dict[str, ImageTowerConfig] = {
    "timm": TimmConfig(name="test_vit", image_size=32),
    "eva": EvaConfig(image_size=32, patch_size=16, width=32, layers=2, heads=2, mlp_width=64),
    "resnet": ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8, heads=2),
}


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
    query = torch.ones(index.vectors.shape[1])
    index.search(query, top=2)
    index.search(query, top=2, where=Where(conditions=(Condition("width", ">", "1"),)))


def _of_clip_retrieval(folder: Path) -> list[Path]:
    index = folder.parent / "made.index"
    _index(index)
    export(diptych.Index.open(index), folder / "out")
    return sorted(path for path in (folder / "out").rglob("*") if path.is_file())


def _import(folder: Path) -> None:
    made = folder.parent / "imported.index"
    shutil.rmtree(made, ignore_errors=True)
    import_index(made, folder / "out", tiny.encoder())


def _exported_model(folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    (folder / "image.onnx").write_bytes(b"a program")
    about = Exported(
        kind="onnx",
        precision="fp32",
        config=pretrained.get("tiny"),
        scale=2.0,
        bias=None,
        provenance={},
    )
    exported.describe(folder, about)
    return [folder / "export.json", folder / "image.onnx"]


def _update(folder: Path) -> None:
    """Whatever was damaged: afterwards each picture has its own vector, or it was refused."""
    encoder, paths = tiny.encoder(), sorted((folder.parent / "pictures").rglob("*.png"))
    diptych.search.update(folder, folder.parent / "pictures", encoder)
    index = Store(folder)
    assert index.damaged == 0
    rows = {picture.path: row for row, picture in enumerate(index.pictures())}
    found = torch.from_numpy(index.vectors[[rows[str(path)] for path in paths]])
    assert torch.allclose(found, encoder.embed_images(paths), atol=1e-5)


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
    open_index([str(shard) for shard in _shard(folder)], folder)
    return list((folder / "index").glob("*.index"))


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


def _train(*paths: str) -> Callable[[Path], object]:
    """As a run reads: batches of what can be read, the rest counted."""

    def read(folder: Path) -> None:
        config = DataConfig(
            path="::".join(str(folder / path) for path in paths),
            cache=str(folder.parent / "cache"),
            workers=0,
            max_bad_share=1.0,
        )
        loader = Loader(
            open_source(config),
            config,
            preprocess=Preprocess(PreprocessConfig(), 16),
            tokenizer=TOKENIZER,
            batch_size=1,
            steps=4,
        )
        for _ in loader:
            pass
        list_bad_samples(folder.parent / "bad_samples.jsonl", loader.bad)

    return read


def _folder_of(kind: str) -> Callable[[Path], list[Path]]:
    """Pictures with captions beside them, or in one file as COCO and Karpathy have them."""

    def make(folder: Path) -> list[Path]:
        pictures = folder / "train"
        pictures.mkdir()
        for name in ("a", "b"):
            (pictures / f"{name}.png").write_bytes(encoded(photo(20, 16), "PNG"))
        images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
        if kind == "texts":
            (pictures / "a.txt").write_text("a cat\na dog\n")
            (pictures / "b.json").write_text(json.dumps({"caption": "a dog"}))
            return [pictures / "a.txt", pictures / "b.json"]
        if kind == "coco":
            notes = [{"image_id": number, "caption": f"{number} cats"} for number in (1, 2)]
            values = {"images": images, "annotations": notes}
        else:
            texts = [{"raw": "a cat"}, {"raw": "a dog"}]
            values = {"images": [{"filename": f"{name}.png", "sentences": texts} for name in "ab"]}
        path = pictures / ("metadata.json" if kind == "karpathy" else "captions.json")
        path.write_text(json.dumps(values))
        return [path]

    return make


def _per_sample(folder: Path) -> list[Path]:
    results = PerSample(ranks=np.array([0, 1, 2, 0]), clusters=np.arange(4), names_sha256="0" * 64)
    return [results.save(folder / "a.npz")]


def _vectors(folder: Path) -> list[Path]:
    entry = CacheEntry(tensors={"pooled": torch.ones(3, 4)}, about={"rows": [0, 1, 2]})
    Cache(folder).write("image/a", entry)
    return [path for path in folder.rglob("*") if path.is_file()]


def _read_vectors(folder: Path) -> None:
    cache = Cache(folder)
    for place in cache.places("image"):
        cache.read(place)


def _prompts(folder: Path) -> list[Path]:
    (folder / "names.txt").write_text("cat\ndog\n")
    (folder / "names.json").write_text('["cat", "dog"]')
    (folder / "templates.txt").write_text("a photo of a {}.\na {}\n")
    (folder / "templates.json").write_text('{"own": ["a photo of a {}."]}')
    (folder / "prompts.json").write_text('{"cat": ["a cat"], "dog": ["a dog"]}')
    return sorted(folder.iterdir())


def _read_prompts(folder: Path) -> None:
    for path in sorted(folder.glob("names*")):
        _one_sentence(read_names, path)
        _one_sentence(read_class_names, path)
    for path in (*sorted(folder.glob("*.json")), folder / "templates.txt"):
        _one_sentence(templates, str(path))
    _one_sentence(class_prompts, folder / "prompts.json", ("cat", "dog"))
    _one_sentence(read_prompts, folder / "prompts.json")


def _one_sentence(read: Callable[..., object], *arguments: object) -> None:
    with contextlib.suppress(DiptychError):
        read(*arguments)


def _checkpoint(folder: Path) -> list[Path]:
    run = replace(small_run(folder), steps=2, save=SaveConfig(every_steps=1, keep=1))
    fit(run, progress=False)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return [path for path in files if path.suffix in (".json", ".jsonl", ".safetensors")]


def _resume(folder: Path) -> None:
    fit(replace(small_run(folder), steps=3), resume=True, progress=False)


def _tokenizer(folder: Path) -> list[Path]:
    write_transformers_files(folder / "words")
    # Small ones are read in no time.
    words = {"a</w>": 0, "c": 1, "<|startoftext|>": 2, "<|endoftext|>": 3}
    (folder / "words" / "vocab.json").write_text(json.dumps(words))
    (folder / "words" / "merges.txt").write_text("#version: 0.2\n")
    return sorted((folder / "words").glob("*.*"))


def _tokenize(folder: Path) -> None:
    HuggingFaceTokenizer(str(folder / "words"), 16)("a cat")


def _native_of(family: str) -> Callable[[Path], list[Path]]:
    """`model.json` with towers of other families."""

    def make(folder: Path) -> list[Path]:
        shutil.rmtree(folder)
        config = ClipConfig(image=TOWERS[family], text=MODEL.text, embed_dim=16)
        save_model(folder, models.build(config))
        return [folder / "model.json"]

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


def _arrays(folder: Path) -> list[Path]:
    path = folder / "a.npz"
    names = ("params/img/Transformer/encoderblock/LayerNorm_0/scale", "params/t")
    np.savez(path, **{name: np.ones((2, 3), np.float32) for name in names})
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


def _search(folder: Path) -> list[Path]:
    path = folder / "search.json"
    asked = {"text": "2:red - snow", "terms": [{"picture": "1-0123456789abcdef", "weight": -0.5}]}
    path.write_text(json.dumps(asked | {"folders": ["*a*"], "where": ["width>=10"], "limit": 5}))
    return [path]


def _ask(folder: Path) -> None:
    asked = parse_as(SearchAsked, (folder / "search.json").read_bytes())
    assert 1 <= asked.limit <= 500
    assert asked.filter or not (asked.folders or asked.where)
    if asked.text.strip():
        diptych.search.Query.from_text(asked.text)


TARGETS: dict[str, Target] = {
    "run": Target(_run, _report),
    "run.json": Target(_run, load_run),
    "result": Target(_result, _report_result),
    "index": Target(_index, _search),
    "index update": Target(_index, _update),
    "clip-retrieval's": Target(_of_clip_retrieval, _import),
    "exported model": Target(_exported_model, exported.read),
    "shard": Target(_shard, lambda folder: _each_sample(folder / "000000.tar")),
    "tar": Target(_shard, lambda folder: index_tar(folder / "000000.tar")),
    "tar index": Target(_tar_index, lambda folder: _each_sample(folder / "000000.tar")),
    **{
        f"ids in {kind}": Target(id_files.make_ids(kind), id_files.read_kept)
        for kind in ("npy", "txt", "csv", "jsonl", "json", "parquet")
    },
    "kept rows": Target(id_files.make_kept, id_files.read_kept_again),
    "csv": Target(_table("csv"), lambda folder: _each_sample(folder / "pairs.csv")),
    "tsv": Target(_table("tsv"), lambda folder: _each_sample(folder / "pairs.tsv")),
    "jsonl": Target(_table("jsonl"), lambda folder: _each_sample(folder / "pairs.jsonl")),
    "parquet": Target(_table("parquet"), lambda folder: _each_sample(folder / "pairs.parquet")),
    "training shard": Target(_shard, _train("000000.tar")),
    "training csv": Target(_table("csv"), _train("pairs.csv")),
    "training jsonl": Target(_table("jsonl"), _train("pairs.jsonl")),
    "training parquet": Target(_table("parquet"), _train("pairs.parquet")),
    "texts": Target(_folder_of("texts"), _train("train")),
    "coco": Target(_folder_of("coco"), _train("train")),
    "karpathy": Target(_folder_of("karpathy"), _train("train")),
    "per-sample results": Target(_per_sample, lambda folder: PerSample.load(folder / "a.npz")),
    "vectors": Target(_vectors, _read_vectors),
    "teachers' vectors": Target(stores.teachers_store, stores.read_teachers),
    "teachers' vectors again": Target(stores.teachers_store, stores.reinforce_again),
    "remote shard": Target(stores.remote, stores.read_remote),
    "prompts": Target(_prompts, _read_prompts),
    "checkpoint": Target(_checkpoint, _resume),
    "tokenizer": Target(_tokenizer, _tokenize),
    "native": Target(_native, _load),
    **{family: Target(_native_of(family), _load) for family in TOWERS},
    "open-clip": Target(_exported("open-clip"), _load),
    "transformers": Target(_exported("transformers"), _load),
    "safetensors": Target(_safetensors, _read_tensors),
    "pickle": Target(_pickled, lambda folder: dict(read_weights(folder / "a.pt").tensors)),
    "archive": Target(_script, lambda folder: dict(read_weights(folder / "a.pt").tensors)),
    "arrays": Target(_arrays, lambda folder: dict(read_weights(folder / "a.npz").tensors)),
    "search of the app": Target(_search, _ask),
    "jpeg": Target(_picture("JPEG"), _decode),
    "png": Target(_picture("PNG"), _decode),
    "webp": Target(_picture("WEBP"), _decode),
    "tiff": Target(_picture("TIFF"), _decode),
    "gif": Target(_picture("GIF"), _decode),
}
