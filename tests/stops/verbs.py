"""Every verb that writes or takes long, on something small."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from diptych import Index, models
from diptych.config import ClipConfig
from diptych.data import write_shards
from diptych.encoder import Encoder, load
from diptych.evaluation import evaluate
from diptych.families.clip import TextConfig, VitConfig
from diptych.search.export import export
from diptych.weights import save_model
from tests import tiny
from tests.cli.test_caption import COCA
from tests.encoder.test_reinforce import samples

_SIZES = {"width": 64, "layers": 2, "heads": 1, "mlp_width": 256, "activation": "quick_gelu"}
_VIT = ClipConfig(
    image=VitConfig(image_size=32, patch_size=16, **_SIZES),
    text=TextConfig(**_SIZES),
    embed_dim=16,
)
_OBJECTIVES = "benchmark objectives --objectives clip siglip --seeds 1 --steps 20 --points 1"
_OWN = "--data WORLD/many --test WORLD/photos --class-names WORLD/names.txt"


@dataclass(frozen=True)
class Verb:
    """A command in an empty folder. WORLD is where `make_world` has made things."""

    command: str
    out: str = ""
    """What it writes there."""
    before: Callable[[Path, Path], object] | None = None
    """Makes what stands at `out` before, in (world, out)."""
    exact: bool = True
    """Whether it writes the same bytes each time, wherever it lies."""
    goes_on: bool = False
    """Whether what it has done stays, for the same command to go on from."""
    dear: bool = False
    """Whether it takes many seconds."""


def make_world(folder: Path) -> Path:
    """Models, pictures, an index and results."""
    for seed, (name, config) in enumerate({"model": _VIT, "other": _VIT, "coca": COCA}.items()):
        torch.manual_seed(seed)
        save_model(folder / name, models.build(config))
    tiny.write_pictures(folder / "photos", each=12)
    tiny.write_pictures(folder / "many", each=40)
    write_shards(folder / "shards", samples(40), per_shard=10)
    encoder = load(folder / "model", "cpu")
    index = _index(folder / "x.index", folder / "photos", encoder)
    export(index, folder / "npy", "npy")
    evaluate(encoder, "zero-shot", folder / "photos").save(folder / "r.json")
    (folder / "names.txt").write_text("navy blue\nlight green\nred\nyellow\n")
    (folder / "queries.txt").write_text("a red thing\na blue thing\n" * 20)
    rows = [json.dumps({"caption": f"number {number}"}) for number in range(600)]
    (folder / "texts.jsonl").write_text("\n".join(rows))
    return folder


def _index(place: Path, photos: Path, encoder: Encoder) -> Index:
    return Index.build(place, photos, encoder)


def _old_file(_: Path, out: Path) -> None:
    out.write_text("what was there before")


def _old_index(world: Path, out: Path) -> None:
    _index(out, world / "photos" / "red", load(world / "model", "cpu"))


def _convert(to: str, out: str = "out", flags: str = "", exact: bool = True, dear: bool = False):
    return Verb(f"convert WORLD/model --to {to} --out {out} {flags}", out, exact=exact, dear=dear)


_EMBED = "embed WORLD/model WORLD/photos --device cpu --out out"
VERBS = {
    "train": Verb(
        "train tests.training.runs:small --save.every-steps 2 --out out",
        "out",
        exact=False,
        goes_on=True,
    ),
    "plan": Verb("plan tiny-digits --mode all"),
    "evaluate": Verb(
        "evaluate WORLD/model --data WORLD/photos --device cpu --cache cache --out out.json "
        "--predictions out.csv",
        "out.json",
        _old_file,
        exact=False,
    ),
    "evaluate-many": Verb(
        "evaluate WORLD/model WORLD/other --tasks WORLD/photos --device cpu --cache cache "
        "--out out",
        "out",
        exact=False,
        goes_on=True,
    ),
    "classify": Verb(
        "classify WORLD/model WORLD/photos --names red blue --device cpu --out out.csv",
        "out.csv",
        _old_file,
    ),
    "caption": Verb(
        "caption WORLD/coca WORLD/photos --most 12 --device cpu --out out.csv",
        "out.csv",
        _old_file,
    ),
    "explain": Verb(
        "explain WORLD/model WORLD/photos red blue --device cpu --out out.npz", "out.npz", _old_file
    ),
    "explain-figure": Verb(
        "explain WORLD/model WORLD/photos/red red --device cpu --out out.png", "out.png", _old_file
    ),
    "embed": Verb(_EMBED, "out", exact=False, goes_on=True),
    "embed-more": Verb(_EMBED, "out", _old_index, exact=False, goes_on=True),
    "embed-texts": Verb(
        "embed WORLD/model WORLD/texts.jsonl --texts --device cpu --out out",
        "out",
        exact=False,
        goes_on=True,
    ),
    "search": Verb(
        "search WORLD/x.index red --device cpu --html out.html",
        "out.html",
        _old_file,
        exact=False,
    ),
    "search-many": Verb("search WORLD/x.index --queries WORLD/queries.txt --json --device cpu"),
    "duplicates": Verb(
        "duplicates WORLD/x.index --threshold 0.9 --html out.html",
        "out.html",
        _old_file,
        exact=False,
    ),
    "index-npy": Verb("index export WORLD/x.index --to npy --out out", "out"),
    "index-faiss": Verb("index export WORLD/x.index --to faiss --out out", "out"),
    "index-usearch": Verb("index export WORLD/x.index --to usearch --out out", "out", exact=False),
    "index-import": Verb(
        "index import WORLD/model WORLD/npy --device cpu --out out", "out", exact=False
    ),
    "doctor": Verb("doctor WORLD/model WORLD/other"),
    "models": Verb("models vit*"),
    "reinforce": Verb(
        "reinforce WORLD/shards --teacher WORLD/model --crops 2 --device cpu --out out",
        "out",
        goes_on=True,
        exact=False,
    ),
    "report": Verb("report WORLD/r.json --out out.html", "out.html", _old_file, exact=False),
    "convert-native": _convert("native"),
    "convert-open-clip": _convert("open-clip"),
    "convert-openai": _convert("openai", "out.pt", exact=False),
    "convert-transformers": _convert("transformers"),
    "convert-onnx": _convert("onnx", dear=True, exact=False),
    "convert-onnx-int8": _convert("onnx", flags="--int8", dear=True, exact=False),
    "convert-openvino": _convert("openvino", dear=True, exact=False),
    "convert-torch-export": _convert("torch-export", dear=True, exact=False),
    "convert-immich": _convert("immich", dear=True, exact=False),
    "benchmark": Verb(
        f"{_OBJECTIVES} {_OWN} --out out", "out", exact=False, goes_on=True, dear=True
    ),
    "demo": Verb("demo --steps 4 --out out", "out", exact=False, goes_on=True, dear=True),
}
