"""From a checkpoint to an Encoder."""

import pytest
import torch

import diptych
from diptych.errors import CheckpointError, ConfigError, UnknownNameError
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


def test_what_cannot_be_loaded_is_told(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'vit-b-32'"):
        diptych.load("vit-b-23")
    with pytest.raises(CheckpointError, match="no published weights"):
        diptych.load("tiny")
    with pytest.raises(UnknownNameError, match="did you mean 'bf16'"):
        diptych.load(tiny.save(tmp_path / "model"), dtype="bf1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no GPU"):
        diptych.load(tiny.save(tmp_path / "model"), device="cuda")
