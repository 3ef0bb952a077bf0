"""Files as people's trainers leave them: each loads as the original does, or is refused in a
sentence that says what to do; nothing in them is run."""

import argparse
import bz2
import collections
import enum
import functools
import gzip
import pathlib
import random
import sys
import tarfile
import types
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diptych import compat
from diptych.checkpoints import convert, load_model, start_model, start_tower
from diptych.compat.factory import load_state_dict
from diptych.config import ClipConfig
from diptych.errors import CheckpointError
from diptych.families import layouts
from diptych.families.clip.layouts import open_clip
from diptych.families.siglip import SiglipImageConfig, SiglipTextConfig
from diptych.models import build_tower
from diptych.weights.read import read_weights
from tests.families.eva.small import MODELS

OPTIMIZER = {
    "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4)}},
    "param_groups": [{"lr": np.float64(1e-3), "betas": (0.9, 0.98), "params": [0]}],
}


@pytest.fixture
def foreign(vit, random_model):
    """The weights under open_clip's names."""
    return open_clip.export_table(vit).to_foreign(random_model(vit).state_dict())


@pytest.fixture
def their(monkeypatch):
    """Objects of a trainer's own classes, of every way in which Python pickles one."""
    module = types.ModuleType("their_trainer")
    monkeypatch.setitem(sys.modules, "their_trainer", module)

    def own(name, base, **attributes):
        made = type(name, (base,), {"__module__": "their_trainer"})
        setattr(module, name, made)
        thing = made()
        thing.__dict__.update(attributes)
        return thing

    arguments = own("AttributeDict", dict, seen=3)  # as Lightning keeps what a model was made of
    arguments |= {"lr": 1e-3, "config": own("Config", object, layers=2), "to": pathlib.Path("x")}
    callbacks = own("Callbacks", list)
    callbacks += [own("Saver", object), {"best": torch.tensor(0.5)}]
    return {
        "hyper_parameters": arguments,
        "callbacks": callbacks,
        "mode": enum.Enum("Mode", "A B", module="re")(1).name,
        "counts": collections.Counter("aab"),
        "losses": collections.deque([0.5], maxlen=3),
        "by_class": collections.defaultdict(list, a=[1]),
        "rng_states": {"python": random.getstate(), "numpy": np.random.get_state()},
        "seed": np.random.RandomState(0),
        "args": argparse.Namespace(lr=1e-3, names=frozenset("ab"), part=slice(1), z=1j),
    }


def behind(prefix, weights, factor=1):
    return {prefix + name: tensor * factor for name, tensor in weights.items()}


def wrapped(weights, *pairs):
    """With something put into some names."""
    for old, new in pairs:
        weights = {name.replace(old, new): tensor for name, tensor in weights.items()}
    return weights


def views(weights):
    """All of them one storage."""
    flat = torch.cat([tensor.flatten() for tensor in weights.values()])
    parts = flat.split([tensor.numel() for tensor in weights.values()])
    pairs = zip(weights.items(), parts, strict=True)
    return {name: part.view(tensor.shape) for (name, tensor), part in pairs}


BLOCK = "visual.transformer.resblocks.0."
DRESSED = {
    "Lightning": lambda w, o: (
        o | {"state_dict": behind("model.", w), "optimizer_states": [OPTIMIZER]}
    ),
    "Lightning's metrics": lambda w, o: (
        o | {"state_dict": behind("clip.", w) | {"accuracy.total": torch.tensor(3)}}
    ),
    "open_clip": lambda w, o: {
        "epoch": 3,
        "name": "2026-lr_0.001",
        "optimizer": OPTIMIZER,
        "scaler": {"scale": 65536.0},
        "state_dict": behind("module.", w),
    },
    "timm": lambda w, o: o | {"arch": "vit", "state_dict": w, "metric": np.float32(77)},
    "DeepSpeed": lambda w, o: o | {"module": behind("module.", w), "ds_config": {}, "mp": set()},
    "swa beside": lambda w, o: (
        {
            "state_dict": w,
            "epoch": 3,
            "swa_model": behind("module.", w, 2) | {"n_averaged": torch.tensor(5)},
        }
    ),
    "shadows beside": lambda w, o: {"model": w, "ema": {"shadow_params": list(w.values())}},
    "compiled in parallel": lambda w, o: behind("module._orig_mod.module.", w),
    "one tower in parallel": lambda w, o: wrapped(w, ("visual.", "visual.module.")),
    "behind, one tower in parallel": lambda w, o: (
        {"state_dict": behind("net.", wrapped(w, ("visual.", "visual.module.")))}
    ),
    "a block compiled": lambda w, o: wrapped(w, (BLOCK, f"{BLOCK}_orig_mod.")),
    "adapters taken out": lambda w, o: wrapped(w, ("c_fc.", "c_fc.base_layer.")),
    "a classifier beside": lambda w, o: w | {"classifier.weight": torch.ones(3, 48)},
    "a prompt beside": lambda w, o: (
        behind("model.", w | {"prompt_learner.ctx": torch.ones(3)}) | {"head.bias": torch.ones(3)}
    ),
    "numbers between": lambda w, o: w | {"epoch": 3, "name": "x", "text_bias": None},
    "one storage": lambda w, o: views(w),
    "parameters": lambda w, o: {name: torch.nn.Parameter(t) for name, t in w.items()},
    "double": lambda w, o: {name: tensor.double() for name, tensor in w.items()},
    "OpenAI's numbers": lambda w, o: w | {"input_resolution": torch.tensor(32)},
}


@pytest.mark.parametrize("mapped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("make", DRESSED)
def test_it_loads_as_the_original(
    tmp_path, foreign, their, vit, random_model, make, mapped, recwarn
):
    path = tmp_path / "w.ckpt"
    torch.save(DRESSED[make](foreign, their), path, _use_new_zipfile_serialization=mapped)
    state, own = load_model(path, config=vit).model.state_dict(), random_model(vit).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in own.items())
    told = [str(warning.message) for warning in recwarn if "several versions" in str(warning)]
    assert bool(told) == (make == "swa beside")


def test_safetensors_carry_the_same_names(tmp_path, foreign, vit, random_model):
    names = wrapped(foreign, (BLOCK, f"{BLOCK}_checkpoint_wrapped_module."))
    save_file(behind("module._orig_mod.", names), tmp_path / "w.pt", metadata={"step": "3"})
    state = load_model(tmp_path / "w.pt", config=vit).model.state_dict()
    own = random_model(vit).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in own.items())


SMALL = {"width": 16, "layers": 1, "heads": 2, "mlp_width": 32}
SIGLIP = ClipConfig(
    image=SiglipImageConfig(image_size=32, patch_size=16, **SMALL),
    text=SiglipTextConfig(context_length=8, vocab_size=50, **SMALL),
    embed_dim=16,
    logit_bias=-10.0,
)


@pytest.mark.parametrize(
    ("layout", "to", "of"),
    [
        ("open-clip", "open-clip", lambda vit: vit),
        ("transformers", "transformers", lambda vit: vit),
        ("siglip-transformers", "transformers", lambda vit: SIGLIP),
        ("eva", "eva", lambda vit: MODELS["eva02-b"]),
        ("eva-transformers", "transformers", lambda vit: MODELS["eva02-b"]),
    ],
    ids=["open_clip", "transformers", "siglip", "eva", "eva-transformers"],
)
def test_of_every_family(tmp_path, random_model, their, vit, layout, to, of):
    config = of(vit)
    model = random_model(config)
    (known,) = (each for each in layouts() if each.name == layout)
    export = next(each for each in known.exports if each.name == to and each.part == "model")
    export.write(tmp_path / "out", config, model.state_dict())
    file = tmp_path / "out" if export.place == "file" else next((tmp_path / "out").glob("*.safe*"))
    weights = dict(read_weights(file).tensors)
    torch.save(their | {"state_dict": behind("student.", weights)}, tmp_path / "last.ckpt")
    state = load_model(tmp_path / "last.ckpt", config=config).model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_wherever_weights_are_named(tmp_path, foreign, their, vit, random_model):
    file = tmp_path / "last.ckpt"
    torch.save(their | {"state_dict": behind("model.", foreign)}, file)
    own = random_model(vit).state_dict()
    converted = load_model(convert(file, "native", tmp_path / "native", config=vit))
    tower = build_tower(vit.text, vit.embed_dim)
    start_tower(tower, "text", file)
    face = compat.create_model(convert(tmp_path / "native", "open-clip", tmp_path / "out"))
    found = [
        converted.model.state_dict(),
        start_model(file, vit).model.state_dict(),
        behind("text.", tower.state_dict()),
        face.clip.state_dict(),
    ]
    assert face.load_state_dict(load_state_dict(file)).missing_keys == []
    for state in found:
        assert all(torch.equal(tensor, own[name]) for name, tensor in state.items())


def written(save):
    """A file of what `save` makes of the bytes of a torch file."""

    def write(path, weights):
        torch.save(weights, path)
        save(path, path.read_bytes())

    return write


def in_zip(path, content):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model.pt", content)


def in_tar(path, content):
    (path.parent / "inner").write_bytes(content)
    with tarfile.open(path, "w") as file:
        file.add(path.parent / "inner", "model.pt")


def changed(change):
    """A file of what `change` makes of the weights."""
    return lambda path, weights: torch.save(change(weights), path)


def each(change):
    return changed(lambda weights: {name: change(tensor) for name, tensor in weights.items()})


def quantised(tensor):
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8) if tensor.ndim == 2 else tensor


LORA = "visual.transformer.resblocks.0.attn.q_proj.w_lora_A"
REFUSED = {
    "gzip": (written(lambda path, b: path.write_bytes(gzip.compress(b))), "packed by gzip; unpack"),
    "bzip2": (
        written(lambda path, b: path.write_bytes(bz2.compress(b))),
        "packed by bzip2; unpack",
    ),
    "zip": (written(in_zip), "a zip of files; unpack it"),
    "tar": (written(in_tar), "a tar of files; unpack it"),
    "page": (
        written(lambda path, b: path.write_text("<!DOCTYPE html>")),
        "download it with a brow",
    ),
    "JSON": (written(lambda path, b: path.write_text("{}")), "give the weights beside it"),
    "nothing": (written(lambda path, b: path.write_bytes(b"")), "it is empty"),
    "meta": (each(lambda tensor: tensor.to("meta")), "saved from the meta device"),
    "quantised": (each(quantised), "save the model from before it was quantised"),
    "sparse": (each(lambda tensor: tensor.to_sparse()), "is not a dense tensor"),
    "LoRA": (changed(lambda w: w | {LORA: torch.ones(3)}), "merge it"),
    "IA3": (changed(lambda w: w | {"base_model.model.x.k_proj.ia3_l": torch.ones(3)}), "merge it"),
    "PEFT": (changed(lambda w: wrapped(w, ("logit", "modules_to_save.logit"))), "merge it"),
    "FSDP": (
        changed(lambda w: {"_fsdp_wrapped_module._flat_param": w["logit_scale"]}),
        "FULL_STATE",
    ),
    "towers apart": (
        changed(lambda w: wrapped(behind("text.m.", w), ("text.m.visual.", "image.m.visual."))),
        "apart .*start a model's towers",
    ),
    "numbers of 8 bits": (
        each(lambda tensor: tensor.to(torch.int8) if tensor.ndim == 2 else tensor),
        "weight in torch.int8: it was quantised; save the model from before",
    ),
    "an optimizer": (changed(lambda w: OPTIMIZER), "but an optimizer's state; the weights lie"),
    "shadows": (
        changed(lambda w: {"decay": 0.9, "shadow_params": list(w.values())}),
        "a moving average without the names of its parameters",
    ),
    "objects": (changed(lambda w: {"w": w, "f": functools.partial(int, 3)}), "could execute code"),
    "an optimizer's object": (
        changed(lambda w: {"w": w, "o": torch.optim.AdamW([torch.ones(1)])}),
        r"tensors \(torch\.optim\.adamw\.AdamW\), so",
    ),
    "arguments": (changed(lambda w: argparse.Namespace(lr=1)), "no state dict but an object"),
    "a criterion": (changed(lambda w: {"w": w, "f": torch.nn.ReLU()}), "save its state dict alone"),
}


@pytest.mark.parametrize("make", REFUSED)
def test_it_is_refused_with_what_to_do(tmp_path, foreign, vit, make):
    write, says = REFUSED[make]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's newer versions: quantised tensors will go
        write(tmp_path / "w.pt", foreign)
    with pytest.raises(CheckpointError, match=says) as refused:
        load_model(tmp_path / "w.pt", config=vit)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("w.onnx", "an ONNX program"),
        ("w.pt2", "a program of torch.export's"),
        ("flax_model.msgpack", "a msgpack of Flax's"),
    ],
)
def test_programs_and_other_libraries_files_are_told_by_their_names(tmp_path, name, what):
    content = b"\x08\x07\x12\x07pytorch"
    if name.endswith("pt2"):
        in_zip(tmp_path / name, content)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{what}; give the weights that it was made of"):
        load_model(tmp_path / name)


def test_a_shard_alone_is_told_to_be_one(tmp_path, foreign, vit):
    for name in ("model-00001-of-00002.safetensors", "model-00001-of-00001.safetensors"):
        save_file(foreign, tmp_path / name)
    with pytest.raises(CheckpointError, match="one of 2 shards of a model; name its folder"):
        load_model(tmp_path / "model-00001-of-00002.safetensors", config=vit)
    load_model(tmp_path / "model-00001-of-00001.safetensors", config=vit)
    torch.save(foreign, tmp_path / "__0_0.distcp")
    with pytest.raises(
        CheckpointError, match="one part of a distributed checkpoint of torch's; name"
    ):
        load_model(tmp_path / "__0_0.distcp", config=vit)


def test_towers_apart_start_a_models_towers(tmp_path, foreign, vit, random_model):
    apart = wrapped(behind("words.", foreign), ("words.visual.", "pictures.visual."))
    torch.save(apart, tmp_path / "w.pt")
    own = random_model(vit)
    for side, theirs in (("image", own.image), ("text", own.text)):
        tower = build_tower(theirs.config, vit.embed_dim)
        start_tower(tower, side, tmp_path / "w.pt")
        known = theirs.state_dict()
        assert all(torch.equal(known[name], t) for name, t in tower.state_dict().items())


def test_folders(tmp_path, foreign, vit):
    trained = tmp_path / "trained" / "checkpoint-500"
    trained.mkdir(parents=True)
    save_file(foreign, trained / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth"):
        torch.save(OPTIMIZER, trained / name)
    load_model(trained, config=vit)
    (trained / "model.safetensors").rename(trained / "weights.safetensors")
    load_model(trained, config=vit)  # what lies beside isn't taken for weights
    run = tmp_path / "run" / "checkpoints"
    run.mkdir(parents=True)
    torch.save(foreign, run / "epoch=3.ckpt")
    load_model(run, config=vit)
    shared, shards, empty = tmp_path / "shared", tmp_path / "shards", tmp_path / "empty"
    cache = tmp_path / "models--me--clip"
    project = tmp_path / "project" / "checkpoints" / "checkpoint_0"
    project.mkdir(parents=True)
    save_file(foreign, project / "model.safetensors")
    for folder in (shared, shards, empty, cache / "snapshots" / "0a1b"):
        folder.mkdir(parents=True)
    save_file(foreign, cache / "snapshots" / "0a1b" / "model.safetensors")
    (shared / ".metadata").write_bytes(b"a pickle")
    for number in (1, 2):
        save_file(foreign, shards / f"model-0000{number}-of-00002.safetensors")
    for folder, says in (
        (
            trained.parent,
            r"folders with some \(checkpoint-500\); name one of them: .*/checkpoint-500$",
        ),
        (run.parent, r"name one, such as .*epoch=3.ckpt$"),
        (project.parents[1], r"name one, such as .*/checkpoints/checkpoint_0$"),
        (shared, "format_utils dcp_to_torch .*/shared weights.pt`$"),
        (shards, "holds shards and not their index"),
        (cache, r"folders with some \(snapshots/0a1b\); name one of them: .*/snapshots/0a1b$"),
        (empty, "holds no weights"),
    ):
        with pytest.raises(CheckpointError, match=says):
            load_model(folder, config=vit)


def test_what_a_stand_in_is_filled_with_is_never_run(tmp_path, foreign):
    """A class of the standard library that runs what it is given, among the trainer's own."""
    content = {"model": foreign, "call": functools.partial(print, "run"), "n": np.float64(3)}
    for mapped in (True, False):
        torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=mapped)
        with pytest.raises(CheckpointError, match="functools.partial.*could execute code"):
            load_model(tmp_path / "w.pt")
