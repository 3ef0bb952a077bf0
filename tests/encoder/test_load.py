"""From a checkpoint to an Encoder."""

import json
from dataclasses import replace

import pytest
import torch

import diptych
from diptych.encoder.load import device_of
from diptych.errors import CheckpointError, ConfigError, UnknownNameError
from diptych.models import build
from diptych.weights.native import save_model
from tests import tiny


def test_a_checkpoint_gives_the_vectors_of_its_model(tmp_path):
    encoder = diptych.load(tiny.save(tmp_path / "model"), device="cpu")
    torch.testing.assert_close(encoder.embed_texts("a cat"), tiny.encoder().embed_texts("a cat"))
    torch.testing.assert_close(
        encoder.embed_images(tiny.picture("red")), tiny.encoder().embed_images(tiny.picture("red"))
    )
    assert encoder.name == str(tmp_path / "model")
    assert encoder.provenance["diptych"] == diptych.__version__
    assert encoder.identity.fingerprint == tiny.encoder().identity.fingerprint


def test_lower_precision_keeps_the_temperature(tmp_path):
    encoder = diptych.load(tiny.save(tmp_path / "model"), device="cpu", dtype="bf16")
    assert encoder.dtype == "bf16"
    assert encoder.model.logit_scale.dtype == torch.float32
    vectors = encoder.embed_images(tiny.picture("red"))
    assert vectors.dtype == torch.float32
    cosine = vectors @ tiny.encoder().embed_images(tiny.picture("red")).T
    assert cosine.item() > 0.999
    assert (encoder.embed_texts("a cat") @ tiny.encoder().embed_texts("a cat").T).item() > 0.999


def test_what_cannot_be_loaded_is_an_error(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'vit-b-32'"):
        diptych.load("vit-b-23")
    with pytest.raises(
        CheckpointError, match="known for vit-l-14, but for vit-l-14-quickgelu and .*; name some"
    ):
        diptych.load("ViT-L-14")
    with pytest.raises(CheckpointError, match="no published weights are known for tiny;"):
        diptych.load("tiny")
    with pytest.raises(UnknownNameError, match="did you mean 'bf16'"):
        diptych.load(tiny.save(tmp_path / "model"), dtype="bf1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no GPU"):
        diptych.load(tiny.save(tmp_path / "model"), device="cuda")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps", "meta", torch.device("meta")])
def test_a_device_that_is_not_there_is_one_sentence(device):
    with pytest.raises(ConfigError, match="is no device; write 'cpu'|torch sees no GPU"):
        device_of(device)


def test_devices_and_precisions_as_torch_has_them(tmp_path):
    path = tiny.save(tmp_path / "model")
    encoder = diptych.load(path, device=torch.device("cpu"), dtype=torch.bfloat16)
    assert (encoder.device.type, encoder.dtype) == ("cpu", "bf16")
    assert diptych.load(path, device="cpu", dtype="float16").dtype == "fp16"
    assert diptych.load(path, device="auto").device.type in ("cpu", "cuda")
    with pytest.raises(UnknownNameError, match="no dtype is called 'int8'"):
        diptych.load(path, device="cpu", dtype=torch.int8)


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny.save(tmp_path / "model")
    assert diptych.load("~/model", device="cpu").width


def test_a_published_configuration_may_stand_beside_weights(tmp_path):
    """A state dict alone doesn't say its activation; a JSON file or a name does."""
    folder = diptych.convert(tiny_vit(tmp_path / "model"), "open-clip", tmp_path / "model-2")
    path = (folder / "open_clip_model.safetensors").rename(tmp_path / "weights.safetensors")
    cfg = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": WORDS}
    (tmp_path / "cfg.json").write_text(json.dumps(cfg))
    encoder = diptych.load(path, device="cpu", config=tmp_path / "cfg.json")
    assert encoder.config.text.activation == "quick_gelu"
    with pytest.raises(CheckpointError, match="no published model .*; give config= .*--config"):
        diptych.load(path, device="cpu")


def test_another_picture_size(tmp_path):
    path = tiny_vit(tmp_path / "model")
    encoder = diptych.load(path, device="cpu", image_size=48)
    assert encoder.config.image.image_size == encoder.preprocess.size == 48
    assert encoder.embed_images(tiny.picture("red")).shape == (1, 32)


VISION = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 3}
WORDS = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}


def tiny_vit(folder):
    from diptych.families.clip.layouts.open_clip_config import from_json

    torch.manual_seed(0)
    return save_model(
        folder,
        build(from_json({"model_cfg": {"embed_dim": 32, "vision_cfg": VISION, "text_cfg": WORDS}})),
    )


def test_blocks_come_when_they_are_needed(tmp_path):
    """With room for what isn't a block and for two blocks: the same vectors, and the other blocks
    hold no numbers."""
    pytest.importorskip("accelerate")
    path = tiny_vit(tmp_path / "model")
    whole = diptych.load(path, device="cpu")
    block = sum(p.nbytes for p in whole.model.image.blocks[0].parameters())
    rest = sum(p.nbytes for p in whole.model.parameters()) - 5 * block
    part = diptych.load(path, device="cpu", memory=f"{(rest + 2 * block) / 1000 + 1}KB")
    pictures, texts = [tiny.picture("red"), tiny.picture("blue")], ["a cat", "a red dog"]
    for _ in range(2):
        assert torch.equal(part.embed_images(pictures), whole.embed_images(pictures))
        assert torch.equal(part.embed_texts(texts), whole.embed_texts(texts))
        blocks = [*part.model.image.blocks, *part.model.text.blocks]
        assert [all(p.is_meta for p in b.parameters()) for b in blocks] == [
            False,
            False,
            True,
            True,
            True,
        ]
    assert part.identity == whole.identity
    with pytest.raises(ConfigError, match="GB more"):
        diptych.load(path, device="cpu", memory="1KB")
    with pytest.raises(ConfigError, match="20GB"):
        diptych.load(path, device="cpu", memory="much")


def test_a_folder_of_another_case_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    with pytest.raises(CheckpointError, match="no file or folder Run, .*; did you mean run?"):
        diptych.load("Run")


def test_an_import_path_has_no_weights_and_nothing_is_imported_for_it(tmp_path):
    """What an index says of its model is given to `load`, and the index may be anybody's."""
    code = tmp_path / "payload.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(CheckpointError, match="there is no file or folder"):
        diptych.load(f"{code}:X")
    assert not (tmp_path / "ran").exists()


def test_a_vocabulary_that_is_not_the_tokenizers_is_refused(tmp_path):
    """As a `CLIPModel` folder of another language without its tokenizer's files."""
    known = tiny.model().config
    for words in (1000, 60000):
        config = replace(known, text=replace(known.text, vocab_size=words))
        path = save_model(tmp_path / str(words), build(config))
        with pytest.raises(
            CheckpointError, match=f"knows {words} tokens and the tokenizer \\(clip\\) 49408.*files"
        ):
            diptych.load(path, device="cpu")
