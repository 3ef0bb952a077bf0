"""A model folder reaches no network, no program and no file out of itself: what Python does while
folders of each kind are loaded and used is recorded by an audit hook, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.checkpoints import convert, load_model
from diptych.config import ClipConfig, TokenizerConfig
from diptych.encoder import load
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip import TextConfig
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.families.timm import TimmConfig
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.weights import save_model
from tests.families.eva.small import MODELS
from tests.small_models import VIT

WATCHER = """
import json, os, sys, sysconfig

import diptych, PIL.Image, torch
import numpy.testing, wandb  # older ones ask lscpu and git when timm and transformers import them

folders, library = sys.argv[1:], [sysconfig.get_path(n) for n in ("stdlib", "purelib", "platlib")]
library += [*filter(None, sys.path), "/proc", "/sys", "/dev", os.environ["HF_HOME"]]
allowed = tuple(os.path.realpath(place) for place in [*library, *folders])
reached = []


def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not path.startswith(allowed):
            reached.append(f"open {path}")
    elif event.startswith(("socket.connect", "socket.get", "subprocess", "os.system", "os.exec",
                           "os.posix_spawn", "webbrowser", "urllib")):
        reached.append(f"{event} {arguments}")


sys.addaudithook(hook)
outcome = {}
for folder in folders:
    start = len(reached)
    try:
        clip = diptych.load(folder, progress=False)
        said = list(clip.embed_texts(["a cat"]).shape)
        clip.embed_images([PIL.Image.new("RGB", (40, 30))])
    except diptych.errors.DiptychError as error:
        said = str(error)
    outcome[os.path.basename(folder)] = [said, reached[start:]]
print(json.dumps(outcome))
"""
BERT = HuggingFaceTextConfig(
    model_type="bert",
    context_length=8,
    options={
        "vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 16,
    },
)  # fmt: skip
TEXT = TextConfig(context_length=12, width=64, layers=1, heads=1, mlp_width=128)
OWN_WORDS = TokenizerConfig(kind="huggingface", name="somebody/words")


def watched(folders: list[Path], home: Path) -> dict[str, tuple]:
    """Of each folder what came of it, and what was reached."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCHER, *map(str, folders)],
        cwd=home,
        env=os.environ | dict.fromkeys(("HOME", "HF_HOME", "TMPDIR"), str(home)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def write_words(folder: Path, **described) -> None:
    """A tokenizer of ten words, beside what a stranger writes into its descriptions."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "and", "s"]
    (folder / "vocab.txt").write_text("\n".join(words))
    content = {"tokenizer_class": "BertTokenizer", **described}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **described}))


def test_no_kind_of_folder_reaches_out(tmp_path, random_model):
    pytest.importorskip("timm")
    pytest.importorskip("transformers")
    pytest.importorskip("wandb")
    secret = tmp_path / "secret.txt"
    secret.write_text("cat")
    ran = "import pathlib; pathlib.Path('RAN').touch()"
    home = tmp_path / "home"
    home.mkdir()

    def saved(name: str, config: ClipConfig) -> Path:
        return save_model(tmp_path / name, random_model(config))

    folders = [saved("vit", ClipConfig(image=VIT, text=TEXT, embed_dim=16))]
    for to in ("open-clip", "transformers"):
        folders.append(convert(folders[0], to, tmp_path / to))
    cnn = UniRepLKNetConfig(
        image_size=32, depths=(1, 1, 1, 1), widths=(8, 16, 32, 64), kernel_sizes=((3,),) * 4
    )
    folders.append(saved("unireplknet", ClipConfig(image=cnn, text=TEXT, embed_dim=16)))
    folders.append(saved("eva", MODELS["eva02-b"]))
    timm = TimmConfig(name="resnet10t", image_size=32)
    folders.append(saved("timm", ClipConfig(image=timm, text=TEXT, embed_dim=16)))
    for name, described in {
        "bert": {},
        "code": {"auto_map": {"AutoTokenizer": ["evil.Words", None], "AutoConfig": "evil.Words"}},
        "file": {"vocab_file": str(secret)},
        "inputs": {"init_inputs": [str(secret)]},
    }.items():
        config = ClipConfig(image=VIT, text=BERT, embed_dim=16, tokenizer=OWN_WORDS)
        folders.append(saved(name, config))
        write_words(folders[-1], **described)
        (folders[-1] / "evil.py").write_text(ran)
    folders.append(
        saved("named", ClipConfig(image=VIT, text=BERT, embed_dim=16, tokenizer=OWN_WORDS))
    )

    outcome = watched(folders, home)
    assert {name: reached for name, (_, reached) in outcome.items() if reached} == {}
    assert not list(tmp_path.rglob("RAN"))
    good = {name for name, (said, _) in outcome.items() if isinstance(said, list)}
    assert good >= {"vit", "open-clip", "transformers", "unireplknet", "timm", "bert"}
    assert "names a file of this machine" in outcome["file"][0]
    assert "names a file of this machine" in outcome["inputs"][0]
    assert "fetch it first: hf download somebody/words" in outcome["named"][0]


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "vocab.txt"])
def test_links_out_of_a_folder_are_not_followed(tmp_path, random_model, vit, name):
    folder = save_model(tmp_path / "in", random_model(vit))
    (folder / "vocab.txt").write_text("")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(CheckpointError, match=f"/in/{name} is a link out of its folder, to "):
        load_model(folder)


def test_links_within_the_hubs_cache_are_followed(tmp_path, random_model, vit):
    snapshot = tmp_path / "models--me--clip" / "snapshots" / "0"
    save_model(snapshot, random_model(vit))
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir()
    for path in list(snapshot.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(f"../../blobs/{path.name}")
    (tmp_path / "photos").symlink_to("/")  # of what isn't read, nothing is asked
    assert load_model(snapshot).config == vit


@pytest.mark.parametrize("place", ["../weights.safetensors", "{}/weights.safetensors"])
def test_an_index_of_shards_names_files_of_its_folder(tmp_path, random_model, vit, place):
    folder = convert(save_model(tmp_path / "in", random_model(vit)), "transformers", tmp_path / "t")
    weights = folder / "model.safetensors"
    names = dict.fromkeys(
        json.loads(
            weights.read_bytes()[8:][: int.from_bytes(weights.read_bytes()[:8], "little")]
        ).keys()
        - {"__metadata__"},
        place.format(tmp_path),
    )
    weights.rename(tmp_path / "weights.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(CheckpointError, match=f"{folder}/weights.safetensors is missing"):
        load_model(folder)


@pytest.mark.parametrize(
    "name", ["../words", "/etc", "words", "hf-hub:a/b", "https://a/b", "a/b/c", ""]
)
def test_a_tokenizer_by_name_is_a_repository(tmp_path, random_model, monkeypatch, name):
    (tmp_path / "words").mkdir()
    monkeypatch.chdir(tmp_path)
    own = TokenizerConfig(kind="huggingface", name=name)
    model = random_model(ClipConfig(image=VIT, text=BERT, embed_dim=16, tokenizer=own))
    with pytest.raises(ConfigError, match="may name nothing but repositories of the hub"):
        load(save_model(tmp_path / "in", model))
