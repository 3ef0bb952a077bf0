"""What Diptych reads from files that strangers may have made: how a good one is made, and read."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from PIL import Image
from PIL.ExifTags import IFD, Base
from safetensors.torch import save_file

import diptych
from diptych import models, pretrained
from diptych.batch import Sample
from diptych.checkpoints import load_model
from diptych.cli import report as report_command
from diptych.config import (
    ClipConfig,
    DataConfig,
    ImageTowerConfig,
    PreprocessConfig,
    Run,
    SaveConfig,
)
from diptych.config.alone import alone
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
from diptych.families.clip import ResNetConfig, VitConfig
from diptych.families.eva import EvaConfig
from diptych.families.huggingface import HuggingFaceTextConfig, altclip, chinese_clip
from diptych.families.huggingface.altclip import RobertaSizes
from diptych.families.huggingface.sections import BertSizes
from diptych.families.siglip.config import NaflexImageConfig
from diptych.families.timm import TimmConfig
from diptych.families.timm import alone as timm_alone
from diptych.families.tips import TipsImageConfig, TipsTextConfig
from diptych.families.tips.layouts import transformers as tips_folder
from diptych.inputs import (
    ClipTokenizer,
    HuggingFaceTokenizer,
    Preprocess,
    decode,
    write_transformers_files,
)
from diptych.inputs.header import read_header
from diptych.training import fit, load_run
from diptych.training.callbacks import list_bad_samples
from diptych.weights import exported
from diptych.weights.exported import Exported
from diptych.weights.mapped import read_safetensors
from diptych.weights.native import save_model
from diptych.weights.read import read_weights
from tests import tiny
from tests.fuzzing import id_files, indexes, manifests, stores
from tests.inputs.pictures import encoded, photo
from tests.training.runs import MODEL, small_run

TOKENIZER = ClipTokenizer(16)
TOWERS: dict[str, ImageTowerConfig] = {
    "timm": TimmConfig(name="test_vit", image_size=32),
    "eva": EvaConfig(image_size=32, patch_size=16, width=32, layers=2, heads=2, mlp_width=64),
    "resnet": ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8, heads=2),
    "naflex": NaflexImageConfig(
        image_size=32, patch_size=16, width=16, layers=1, heads=2, mlp_width=32
    ),
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
        mistakes=(
            {"true": "a", "taken_for": "b", "confidence": 0.9, "jpeg": ""}
            | {"square": "", "maps": [[[0, 255]], [[3, 4]]]},
        ),
    )
    return [result.save(folder / "result.json")]


def _report_result(folder: Path) -> None:
    table = folder.parent / "table.md"
    page = folder.parent / "page.html"
    report_command.run([str(folder / "result.json"), "--out", str(page), "--table", str(table)])


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


def _figures(folder: Path) -> list[Path]:
    """What others wrote of models: mteb, CLIP_benchmark, and a table of published figures."""
    rows = [{"hf_subset": "default", "languages": ["eng"], "main_score": 0.5, "accuracy": 0.5}]
    known = {"task_name": "CIFAR10ZeroShot", "mteb_version": "2.1", "scores": {"test": rows}}
    (folder / "mteb.json").write_text(json.dumps(known))
    metrics = {"acc1": 0.5, "acc5": 0.9, "mean_per_class_recall": 0.5}
    about = {"dataset": "cifar10", "model": "ViT-B-32", "pretrained": "openai", "language": "en"}
    found = about | {"task": "zeroshot_classification", "metrics": metrics}
    (folder / "clip_benchmark.json").write_text(json.dumps(found))
    figure = "m,zero-shot/cifar10,top1,91.3,arXiv:2103.00020"
    (folder / "published.csv").write_text(f"model,task,metric,value,source\n{figure}\n")
    return sorted(folder.iterdir())


def _report_figures(folder: Path) -> None:
    page, tables = folder.parent / "page.html", [folder.parent / f"t.{e}" for e in ("csv", "tex")]
    results = [str(folder / "mteb.json"), str(folder / "clip_benchmark.json")]
    written = ["--out", str(page), "--table", *map(str, tables)]
    report_command.run([*results, "--published", str(folder / "published.csv"), *written])


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
        tower = TOWERS[family]
        preprocess = PreprocessConfig(resize="native" if tower.native else "shortest")
        config = ClipConfig(image=tower, text=MODEL.text, embed_dim=16, preprocess=preprocess)
        save_model(folder, models.build(config))
        return [folder / "model.json"]

    return make


def _native(folder: Path) -> list[Path]:
    shutil.rmtree(folder)
    tiny.save(folder)
    return [folder / "model.json", folder / "model.safetensors"]


def _of_timm(folder: Path) -> list[Path]:
    shutil.rmtree(folder)
    tower = replace(TOWERS["timm"], projection="classifier")
    model = models.build(alone(tower, 16))
    timm_alone.export(folder, model.config, model.state_dict())
    return [folder / "config.json"]


def _of_tips(folder: Path) -> list[Path]:
    shutil.rmtree(folder)
    sizes = {"width": 16, "layers": 1, "heads": 2, "mlp_width": 32}
    image = TipsImageConfig(image_size=28, **sizes)
    text = TipsTextConfig(context_length=4, vocab_size=9, **sizes)
    model = models.build(ClipConfig(image=image, text=text, embed_dim=16))
    tips_folder.export(folder, model.config, model.state_dict())
    return sorted(folder.glob("*.json"))


def _of_chinese_clip(folder: Path) -> list[Path]:
    shutil.rmtree(folder)
    image = VitConfig(image_size=32, patch_size=16, width=16, layers=1, heads=2, mlp_width=32)
    sizes = BertSizes(vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    text = HuggingFaceTextConfig(model_type="bert", options=asdict(sizes), pool="cls")
    model = models.build(ClipConfig(image=image, text=text, embed_dim=16))
    chinese_clip.FOLDER.export(folder, model.config, model.state_dict())
    return sorted(folder.glob("*.json"))


def _of_altclip(folder: Path) -> list[Path]:
    shutil.rmtree(folder)
    image = VitConfig(image_size=32, patch_size=16, width=16, layers=1, heads=2, mlp_width=32)
    sizes = RobertaSizes(vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    text = HuggingFaceTextConfig(
        model_type="xlm-roberta", options=asdict(sizes), pool="cls", pad_id=1, token_width=16
    )
    model = models.build(ClipConfig(image=image, text=text, embed_dim=16))
    altclip.FOLDER.export(folder, model.config, model.state_dict())
    return sorted(folder.glob("*.json"))


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


def _photo(folder: Path) -> list[Path]:
    """A JPEG that says when it was taken, with which camera, and how it lies."""
    exif, path = Image.Exif(), folder / "a.jpg"
    exif[Base.Orientation], exif[Base.Make], exif[Base.Model] = 6, "Canon", "EOS 5D"
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = "2020:05:31 12:00:00"
    photo(40, 30).save(path, exif=exif)
    assert read_header(path.read_bytes()).taken is not None
    return [path]


def _decode(folder: Path) -> None:
    [path] = folder.iterdir()
    Preprocess(PreprocessConfig(), 32).pixels(path)


TARGETS: dict[str, Target] = {
    "run": Target(_run, _report),
    "run.json": Target(_run, load_run),
    "result": Target(_result, _report_result),
    "index": Target(indexes.index, indexes.search),
    "index update": Target(indexes.index, indexes.update),
    "clip-retrieval's": Target(indexes.of_clip_retrieval, indexes.imported),
    "asked of the app": Target(indexes.asked, indexes.ask),
    **{
        f"joined {kind}": Target(indexes.table(kind), indexes.join_table)
        for kind in ("csv", "jsonl", "parquet")
    },
    **{
        f"texts of {kind}": Target(indexes.table(kind), indexes.texts_of_table)
        for kind in ("tsv", "jsonl", "parquet")
    },
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
    "others' results": Target(_figures, _report_figures),
    "per-sample results": Target(_per_sample, lambda folder: PerSample.load(folder / "a.npz")),
    "vectors": Target(_vectors, _read_vectors),
    "teachers' vectors": Target(stores.teachers_store, stores.read_teachers),
    "teachers' vectors again": Target(stores.teachers_store, stores.reinforce_again),
    "remote shard": Target(stores.remote, stores.read_remote),
    "manifest": Target(manifests.in_json, manifests.read),
    "manifest in YAML": Target(manifests.in_yaml, manifests.read),
    "prompts": Target(_prompts, _read_prompts),
    "checkpoint": Target(_checkpoint, _resume),
    "tokenizer": Target(_tokenizer, _tokenize),
    "native": Target(_native, _load),
    **{family: Target(_native_of(family), _load) for family in TOWERS},
    "timm alone": Target(_of_timm, _load),
    "chinese-clip": Target(_of_chinese_clip, load_model),
    "altclip": Target(_of_altclip, load_model),
    "tips": Target(_of_tips, load_model),
    "open-clip": Target(_exported("open-clip"), _load),
    "transformers": Target(_exported("transformers"), _load),
    "safetensors": Target(_safetensors, _read_tensors),
    "pickle": Target(_pickled, lambda folder: dict(read_weights(folder / "a.pt").tensors)),
    "archive": Target(_script, lambda folder: dict(read_weights(folder / "a.pt").tensors)),
    "arrays": Target(_arrays, lambda folder: dict(read_weights(folder / "a.npz").tensors)),
    "exif": Target(_photo, lambda folder: read_header(folder / "a.jpg")),
    "jpeg": Target(_picture("JPEG"), _decode),
    "png": Target(_picture("PNG"), _decode),
    "webp": Target(_picture("WEBP"), _decode),
    "tiff": Target(_picture("TIFF"), _decode),
    "gif": Target(_picture("GIF"), _decode),
}
