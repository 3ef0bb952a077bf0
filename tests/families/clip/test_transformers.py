"""transformers' CLIPModel computes what we compute, with its weights in our towers and ours in
its."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diptych import inputs, models, pretrained
from diptych.checkpoints import convert, detect, load_model
from diptych.config import PreprocessConfig
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import transformers as layout
from diptych.families.clip.layouts.transformers_names import TABLE
from diptych.weights.mapping import check_fit
from diptych.weights.native import save_model

transformers = pytest.importorskip("transformers")

VISION = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION |= {"image_size": 32, "patch_size": 8}
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
TEXT |= {
    "vocab_size": 60,
    "max_position_embeddings": 12,
    "bos_token_id": 58,
    "eos_token_id": 59,
    "pad_token_id": 0,
}


@pytest.fixture(params=["quick_gelu", "gelu", "gelu_pytorch_tanh"])
def peer(request, randomise):
    act = {"hidden_act": request.param}
    config = transformers.CLIPConfig(
        text_config=TEXT | act, vision_config=VISION | act, projection_dim=48
    )
    return randomise(transformers.CLIPModel(config))


def features(model, pixels, ids):
    with torch.inference_mode():
        image = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        return image, model.text_projection(model.text_model(input_ids=ids).pooler_output)


def assert_same_features(ours, theirs, pixels, ids):
    with torch.inference_mode():
        actual = ours.encode_image(pixels), ours.encode_text(ids)
    for mine, wanted in zip(actual, features(theirs, pixels, ids), strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=1e-5)


def test_features_agree_both_ways(peer, tmp_path, example):
    peer.save_pretrained(tmp_path / "in")
    assert detect(tmp_path / "in") == "transformers"
    ours, meta = load_model(tmp_path / "in")
    pixels, ids = example(meta.config)
    assert_same_features(ours, peer, pixels, ids)

    save_model(tmp_path / "native", ours)
    convert(tmp_path / "native", "transformers", tmp_path / "out")
    again = transformers.CLIPModel.from_pretrained(tmp_path / "out").eval()
    assert_same_features(ours, again, pixels, ids)

    before, after = peer.state_dict(), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_sharded_folder(peer, tmp_path, example):
    peer.save_pretrained(tmp_path / "in", max_shard_size="200KB")
    assert (tmp_path / "in" / "model.safetensors.index.json").is_file()
    ours, meta = load_model(tmp_path / "in")
    assert_same_features(ours, peer, *example(meta.config))


def test_old_folder_with_pickle_and_position_ids(peer, tmp_path, example):
    peer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    old = {
        f"{tower}_model.embeddings.position_ids": torch.arange(5)[None]
        for tower in ("text", "vision")
    }
    torch.save(peer.state_dict() | old, tmp_path / "pytorch_model.bin")
    ours, meta = load_model(tmp_path)
    assert_same_features(ours, peer, *example(meta.config))


@pytest.mark.parametrize("name", ["vit-b-32", "vit-b-16", "vit-l-14", "vit-l-14-336"])
def test_full_size(name):
    config = pretrained.get(f"{name}-quickgelu")
    with torch.device("meta"):
        theirs = transformers.CLIPModel(
            transformers.CLIPConfig.from_dict(layout._config_json(config))
        )
    state = theirs.state_dict()
    ours = TABLE.to_ours(state)
    check_fit(ours, models.build(config, device="meta").state_dict())
    assert {k: v.shape for k, v in TABLE.to_foreign(ours).items()} == {
        k: v.shape for k, v in state.items()
    }


def test_processor_and_tokenizer_of_an_exported_folder_do_what_ours_do(tmp_path, random_model, vit):
    from PIL import Image

    config = replace(vit, text=replace(vit.text, vocab_size=49408, context_length=16))
    save_model(tmp_path / "in", random_model(config))
    convert(tmp_path / "in", "transformers", tmp_path / "out")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path / "out")
    ours = inputs.build_tokenizer(config.tokenizer, config.text.context_length)
    for text in ("a photo of a cat", "two small dogs, running!"):
        assert tokenizer(text)["input_ids"] == ours.encode(text)
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    )
    processor = transformers.CLIPImageProcessor.from_pretrained(tmp_path / "out")
    theirs = torch.as_tensor(np.array(processor(picture, return_tensors="np")["pixel_values"][0]))
    mine = inputs.Preprocess(config.preprocess, config.image.image_size)(picture)
    assert (theirs - mine).abs().max() < 2 / 255 / 0.26  # one grey level, in standard deviations


def test_preprocessing_is_read(peer, tmp_path):
    peer.save_pretrained(tmp_path)
    wanted = PreprocessConfig(
        resize="squash", interpolation="bilinear", mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3)
    )
    written = {"size": {"height": 32, "width": 32}, "resample": 2, "image_mean": [0.5, 0.4, 0.3]}
    written |= {"image_std": [0.1, 0.2, 0.3], "do_center_crop": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(written))
    assert load_model(tmp_path).config.preprocess == wanted
    (tmp_path / "preprocessor_config.json").rename(tmp_path / "moved")
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": written}))
    assert load_model(tmp_path).config.preprocess == wanted
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(written | {"size": {"shortest_edge": 48}})
    )
    with pytest.raises(CheckpointError, match="48"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "siglip"}, "siglip"),
        ({"text_config": TEXT | {"hidden_act": "gelu_new"}}, "gelu_new"),
        ({"text_config": TEXT | {"eos_token_id": [7, 9]}}, r"eos_token_id is \[7, 9\]"),
        ({"text_config": TEXT | {"eos_token_id": 10**12}}, "must be one of the vocabulary's ids"),
        ({"vision_config": VISION | {"hidden_size": 256}}, "another model"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(peer, tmp_path, change, message):
    peer.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path)


def test_what_clip_model_lacks_is_refused(tmp_path, random_model, vit, resnet):
    for i, config in enumerate(
        (
            replace(vit, logit_bias=-10.0),
            resnet,
            replace(vit, image=replace(vit.image, pool="mean")),
            replace(vit, image=replace(vit.image, layer_scale=0.1)),
            replace(vit, text=replace(vit.text, layer_scale=0.1)),
        )
    ):
        save_model(tmp_path / f"{i}", random_model(config))
        with pytest.raises(CheckpointError, match="no place"):
            convert(tmp_path / f"{i}", "transformers", tmp_path / "out")
    assert not (tmp_path / "out").exists()
