"""TorchScript archives as OpenAI published CLIP: the state dict inside, exactly, without loading
the program."""

import zipfile

import pytest
import torch

from diptych.checkpoints import convert, detect, load_model
from diptych.errors import CheckpointError
from diptych.weights.archive import read_archive
from diptych.weights.read import read_weights

open_clip = pytest.importorskip("open_clip")

VIT = {"image_size": 32, "patch_size": 8, "width": 128, "layers": 2, "mlp_ratio": 4.0}
RESNET = {
    "image_size": 64,
    "layers": [1, 2, 1, 1],
    "width": 8,
    "head_width": 64,
    "patch_size": None,
}
TEXT = {
    "context_length": 12,
    "vocab_size": 49408,
    "width": 64,
    "heads": 1,
    "layers": 2,
    "mlp_ratio": 4.0,
}


@pytest.fixture(params=[VIT, RESNET], ids=["vit", "resnet"])
def published(request, randomise, tmp_path, quiet):
    """A model as OpenAI published it: half precision, three numbers as buffers, saved by
    torch.jit."""
    model = randomise(open_clip.CLIP(48, request.param, TEXT, quick_gelu=True))
    open_clip.model.convert_weights_to_lp(model, torch.float16)
    for name, value in (("input_resolution", 32), ("context_length", 12), ("vocab_size", 49408)):
        if name in model.__dict__:
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    torch.jit.script(model).save(tmp_path / "ViT-X.pt")
    return model, tmp_path / "ViT-X.pt"


def test_every_tensor_is_read_bit_for_bit(published):
    model, path = published
    tensors = read_archive(path)
    state = model.state_dict()
    assert set(state) <= set(tensors)
    assert all(name.endswith("attn_mask") for name in set(tensors) - set(state))
    for name, tensor in state.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_features_and_conversion(published, tmp_path, example):
    model, path = published
    assert detect(path) == "openai"
    ours, meta = load_model(path)
    assert meta.config.text.activation == "quick_gelu"
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    pixels, ids = example(meta.config)
    with torch.inference_mode():
        model.float()
        torch.testing.assert_close(
            ours.encode_image(pixels), model.encode_image(pixels), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(
            ours.encode_text(ids), model.encode_text(ids), atol=1e-5, rtol=1e-5
        )
    convert(path, "openai", tmp_path / "weights.pt")
    weights, kind, *_ = read_weights(tmp_path / "weights.pt")
    assert kind == "torch"
    assert torch.float16 in {tensor.dtype for tensor in weights.values()}  # as published
    convert(path, "native", tmp_path / "native")
    again, told = load_model(tmp_path / "native")
    assert told.provenance["source"] == "ViT-X.pt"
    assert len(told.provenance["sha256"]) == 64
    with torch.inference_mode():
        assert torch.equal(again.encode_image(pixels), ours.encode_image(pixels))


def test_a_damaged_archive_is_named(published, tmp_path):
    _, path = published
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        largest = max(file.infolist(), key=lambda entry: entry.file_size)
    middle = largest.header_offset + largest.file_size // 2
    (tmp_path / "flipped.pt").write_bytes(
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    )
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    for name in ("flipped.pt", "cut.pt"):
        with pytest.raises(CheckpointError, match="is damaged"):
            load_model(tmp_path / name)
