"""Hostile and broken files: one clear sentence each, and nothing in them runs."""

import pickle
import random
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from diptych.checkpoints import convert, detect, load_model
from diptych.errors import CheckpointError, UnknownNameError
from diptych.families.clip.layouts import openai
from diptych.families.clip.layouts.open_clip import export_table
from diptych.weights.read import read_weights
from tests.families.eva.small import MODELS


class Evil:
    """Unpickling this would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def sentence(path, config=None):
    with pytest.raises(CheckpointError) as caught:
        load_model(path, config=config)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_code_is_refused_and_never_run(tmp_path):
    trap = tmp_path / "trap"
    torch.save({"state_dict": {"a": torch.zeros(2)}, "args": Evil(trap)}, tmp_path / "zip.pt")
    torch.save(Evil(trap), tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(trap)))
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    for name in ("zip.pt", "legacy.pt", "plain.pt", "module.pt"):
        assert "could execute code: refused" in sentence(tmp_path / name)
        with pytest.raises(CheckpointError):
            convert(tmp_path / name, "native", tmp_path / "out")
    assert not trap.exists()


def test_an_archive_with_code_is_refused_and_never_run(tmp_path):
    trap = tmp_path / "trap"
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as file:
        file.writestr("evil/data.pkl", pickle.dumps(Evil(trap), protocol=2))
        file.writestr("evil/code/__torch__.py", "")
    assert "refused: it asks for" in sentence(tmp_path / "evil.pt")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no weight file"),
        (b"<html>404</html>", "no weight file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"\x10\0\0\0\0\0\0\0{broken", "damaged"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{", "damaged"),
        (b"PK\x03\x04 and no more", "damaged"),
        (b"\x80\x02", "damaged"),
    ],
)
def test_not_weights(tmp_path, content, says):
    (tmp_path / "weights.pt").write_bytes(content)
    assert says in sentence(tmp_path / "weights.pt")


def test_truncated_anywhere(tmp_path):
    tensors = {f"layer.{i}": torch.randn(30, 30) for i in range(4)}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "b.pt")
    torch.save(tensors, tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    places = random.Random(0)
    for name in ("a.safetensors", "b.pt", "c.pt"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(8):
            (tmp_path / "cut").write_bytes(whole[: places.randrange(1, len(whole))])
            with pytest.raises(CheckpointError):
                read_weights(tmp_path / "cut")


def test_what_is_no_state_dict(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    torch.save({"state_dict": {"a": 3}}, tmp_path / "numbers.pt")
    torch.save({}, tmp_path / "empty.pt")
    for name in ("list.pt", "numbers.pt", "empty.pt"):
        assert "holds no state dict" in sentence(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["backbone.conv.weight"], "begin with backbone.conv.weight, epoch; docs/formats.md has"),
        (["visual.conv1.weight"], "need token_embedding.weight to be in the closest, open-clip"),
    ],
)
def test_an_unknown_layout_says_what_there_is_and_what_the_closest_would_have(
    tmp_path, names, said
):
    save_file(
        {name: torch.zeros(2) for name in ["epoch", *names]},
        tmp_path / "other.safetensors",
    )
    message = sentence(tmp_path / "other.safetensors")
    assert said in message
    assert len(message) < 300


def test_surplus_and_missing_names_are_named(tmp_path, random_model, vit):
    state = export_table(vit).to_foreign(random_model(vit).state_dict())
    save_file(state | {"visual.adapter.weight": torch.zeros(2)}, tmp_path / "surplus.safetensors")
    assert "visual.adapter.weight have no place" in sentence(tmp_path / "surplus.safetensors")
    save_file(
        {name: t for name, t in state.items() if "resblocks.1.ln_1" not in name},
        tmp_path / "less.safetensors",
    )
    assert "norm_1" in sentence(tmp_path / "less.safetensors", vit)
    assert openai.IGNORED[0] == "input_resolution"
    save_file(state | {"input_resolution": torch.tensor(32)}, tmp_path / "allowed.safetensors")
    load_model(tmp_path / "allowed.safetensors", config=vit)


def test_a_checkpoint_of_another_model(tmp_path, random_model, vit):
    torch.save(export_table(vit).to_foreign(random_model(vit).state_dict()), tmp_path / "w.pt")
    others = {
        "blocks.2": replace(vit, image=replace(vit.image, layers=3)),
        "where the model has": replace(vit, embed_dim=40),
        "logit_bias": replace(vit, logit_bias=-10.0),
        "are not in the model": replace(vit, text=replace(vit.text, layers=1)),
        "are missing": MODELS["eva02-b"],
    }
    for says, config in others.items():
        with pytest.raises(
            CheckpointError, match=f"w.pt: .*{says}.*; is it a checkpoint of another model\\?$"
        ):
            load_model(tmp_path / "w.pt", config=config)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_are_named(tmp_path, random_model, vit, value):
    state = {name: tensor.half() for name, tensor in random_model(vit).state_dict().items()}
    state["text.blocks.1.mlp.up.weight"][3, 5] = value
    torch.save(export_table(vit).to_foreign(state), tmp_path / "w.pt")
    for dtype in (torch.float16, torch.float32):
        with pytest.raises(
            CheckpointError,
            match=r"w.pt: text.blocks.1.mlp.up.weight holds values that aren't finite",
        ):
            load_model(tmp_path / "w.pt", config=vit, dtype=dtype)


def test_folders(tmp_path, random_model, vit):
    assert "holds no weights" in sentence(tmp_path)
    state = export_table(vit).to_foreign(random_model(vit).state_dict())
    torch.save(state, tmp_path / "one.pt")
    assert detect(tmp_path) == "open-clip"  # by its names: the file's own name says nothing
    torch.save(state, tmp_path / "two.pt")
    assert "holds 2 weight files" in sentence(tmp_path)


def test_names_that_lead_nowhere(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'vit-b-32'"):
        load_model("vit-b-23")
    assert "there is no file or folder" in sentence(tmp_path / "absent")
    assert "there is no file or folder" in sentence("weights.safetensors")
    assert "did you mean 'eva02-clip-l-14-336'" in sentence("EVA02_CLIP_L_336_psz14_s9B.pt")
    with pytest.raises(
        UnknownNameError, match="is an address; .* other files are downloaded first"
    ):
        load_model("https://example.com/ViT-B-32.pt")
    with pytest.raises(CheckpointError, match="no published weights"):
        load_model("tiny")


@pytest.mark.parametrize("length", [0x80, 0x280])
def test_a_header_whose_length_begins_like_a_pickle_is_safetensors(tmp_path, length):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    found = read_weights(path)
    assert found.kind == "safetensors"
    assert found.tensors["a"].tolist() == [0.0]
