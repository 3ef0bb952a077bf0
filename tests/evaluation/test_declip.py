"""Zero-shot by DeCLIP's protocol against what its own code gave, whole vectors and token by
token."""

from dataclasses import replace

import pytest
import torch

from diptych import pretrained
from diptych.config import DataConfig, TokenizerConfig
from diptych.datasets import templates
from diptych.encoder import Cache, Encoder, class_vectors
from diptych.errors import ConfigError, DataError
from diptych.evaluation import (
    evaluate,
    picture_tokens,
    token_classes,
    tokens,
    zero_shot,
)
from diptych.models import build
from diptych.objectives.late_interaction import late_interaction_reference
from tests import goldens, tiny
from tests.objectives import recorded

FILES = goldens.files("declip/zeroshot*.json")
CASES = [(path, name) for path in FILES for name in goldens.read(path)]


def encoder_of(path, method):
    record = goldens.read(goldens.beside(path, "zeroshot", method))
    model = recorded.objective(record).model
    model.config = replace(model.config, tokenizer=TokenizerConfig(kind="declip"))
    return Encoder(model.eval())


def images_of(case, size):
    return goldens.images(goldens.seed_in(case["images"]), (len(case["labels"]), 3, size, size))


@pytest.mark.parametrize(("path", "name"), CASES, ids=lambda each: getattr(each, "stem", each))
def test_zero_shot_as_recorded(path, name):
    case, method = goldens.read(path)[name], name.split("_")[0]
    encoder = encoder_of(path, method)
    prompts = templates(f"declip-{case['n_prompts']}")
    told = [text for text in case["texts_of_class0"] if text != "..."]
    assert [each.replace("{}", case["class_names"][0]) for each in prompts][: len(told)] == told
    assert len(prompts) == case["n_prompts"]
    pixels = images_of(case, encoder.config.image.image_size)
    with torch.inference_mode():
        if method == "filip":
            classes = token_classes(encoder, case["class_names"], prompts, mask_padding=False)
            assert list(classes.words.shape) == case["class_embedding_shape"]
            first = torch.tensor(case["class_embedding[0][0]"])
            torch.testing.assert_close(classes.words[0, 0], first, rtol=0, atol=1e-5)
            logits = classes.scores(picture_tokens(encoder.model, pixels))
        else:
            vectors = class_vectors(encoder.embed_texts, case["class_names"], prompts)
            expected = torch.tensor(case["class_embeddings"])
            torch.testing.assert_close(vectors[: len(expected)], expected, rtol=0, atol=1e-5)
            logits = encoder.model.encode_image(pixels, normalize=True) @ vectors.T
    torch.testing.assert_close(logits, torch.tensor(case["logits"]), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        logits.softmax(1), torch.tensor(case["dumped_scores"]), rtol=0, atol=1e-6
    )
    assert logits.argmax(1).tolist() == case["prediction"]
    found = zero_shot(
        logits.clone(), torch.tensor(case["labels"]), torch.eye(len(case["class_names"]))
    )
    assert 100 * found.top1 == pytest.approx(case["metric"]["top1"], abs=1e-4)
    assert 100 * found.top5 == pytest.approx(case["metric"]["top5"], abs=1e-4)


def test_the_protocol_is_the_models():
    """Zero-shot on files: shorter side to 256, the middle 224, bilinear, ImageNet's statistics."""
    preprocess = pretrained.get("declip-vit-b-32-yfcc15m").preprocess
    assert (preprocess.resize, preprocess.interpolation) == ("shortest", "bilinear")
    assert 224 / preprocess.crop_share == 256
    assert preprocess.mean == (0.485, 0.456, 0.406)


def dense():
    torch.manual_seed(0)
    return Encoder(build(replace(pretrained.get("tiny"), token_dim=16)))


def test_padding_takes_no_part_and_templates_are_averaged_by_their_scores():
    """Each template asked alone, its words cut where it ends, is the plain equation."""
    with torch.inference_mode():
        check_padding_and_templates()


def check_padding_and_templates():
    encoder, names, prompts = dense(), ["cat", "big dog"], ["a {}.", "a very long photo of a {}"]
    patches = picture_tokens(encoder.model.eval(), torch.randn(3, 3, 48, 48))
    found = token_classes(encoder, names, prompts).scores(patches)
    for column, name in enumerate(names):
        alone = []
        for prompt in prompts:
            words = token_classes(encoder, [name], [prompt]).words
            alone.append(late_interaction_reference(patches, words)[:, 0])
        torch.testing.assert_close(found[:, column], torch.stack(alone).mean(0))


def test_pictures_on_disk(tmp_path):
    tiny.write_pictures(tmp_path, each=2)
    result = evaluate(dense(), "zero-shot", tmp_path, templates="declip-6", by="tokens")
    whole = evaluate(dense(), "zero-shot", tmp_path, templates="declip-6")
    assert result.data["used"] == whole.data["used"] == 8
    assert result.class_names == whole.class_names
    assert sum(map(sum, result.confusion)) == 8
    assert "nearest word" in result.protocol["compared"]
    assert result.protocol["templates"] == list(templates("declip-6"))
    few = evaluate(dense(), "zero-shot", tmp_path, limit=3, by="tokens")
    assert few.data["used"] == 3
    assert len({result.key, few.key, whole.key}) == 3


@pytest.mark.parametrize("by", ["tokens", "tokens-as-published"])
def test_the_engine_gives_the_scores_of_the_parts_by_hand(by, tmp_path, monkeypatch):
    paths, encoder = tiny.write_pictures(tmp_path / "data", each=2), dense()
    names = sorted(tiny.COLOURS)
    encoder.model.eval()
    with torch.inference_mode():
        pixels = torch.stack([encoder.preprocess(path) for path in paths])
        classes = token_classes(encoder, names, ["a {}."], mask_padding=by == "tokens")
        expected = zero_shot(
            classes.scores(picture_tokens(encoder.model, pixels)),
            torch.arange(4).repeat_interleave(2),
            torch.eye(4),
        )
    cache = Cache(tmp_path / "cache")
    options = {"by": by, "templates": "a {}.", "cache": cache}
    assert evaluate(encoder, "zero-shot", tmp_path / "data", **options).metrics == {
        "top1": expected.top1,
        "top5": expected.top5,
        "mean_per_class": expected.mean_per_class,
    }
    [place] = (tmp_path / "cache" / "images").iterdir()
    [block] = cache.places(f"images/{place.name}")
    kept = cache.read(block)
    assert kept is not None
    assert kept.tensors["features"].dtype == torch.float32
    torch.testing.assert_close(
        kept.tensors["features"].norm(dim=2), torch.ones(8, kept.tensors["features"].shape[1])
    )
    monkeypatch.setattr(
        tokens.TokenExtractor, "features", lambda *_: pytest.fail("it lies in the cache")
    )
    monkeypatch.setattr(tokens, "_TILE", 100)
    again = evaluate(encoder, f"{tmp_path}/data", **options)
    assert again.only().confusion == tuple(map(tuple, expected.confusion.tolist()))


def test_models_side_by_side_and_the_tasks_that_tokens_are_for(tmp_path):
    tiny.write_pictures(tmp_path / "data" / "train", each=2)
    tiny.write_pictures(tmp_path / "data" / "test", each=1)
    tiny.picture("red", seed=9).save(tmp_path / "data" / "test" / "red" / "0.png")
    data = f"{tmp_path}/data"
    models = {"without": tiny.encoder(), "with": dense()}
    results = evaluate(models, [data, f"linear/{data}"], by="tokens")
    assert [key.model for key in results] == ["with"]
    assert {key[:2]: reason for key, reason in results.failures.items()} == {
        (data, "without"): "zero-shot token by token needs a model with a token_dim: "
        "FILIP's, or DeFILIP's",
        (f"linear/{data}", "without"): "--by tokens is for zero-shot, not for linear",
        (f"linear/{data}", "with"): "--by tokens is for zero-shot, not for linear",
    }


def test_what_cannot_be_asked(tmp_path):
    tiny.write_pictures(tmp_path, each=2)
    with pytest.raises(ConfigError, match="needs a model with a token_dim"):
        evaluate(tiny.encoder(), "zero-shot", tmp_path, by="tokens")
    with pytest.raises(ConfigError, match="--by tokens is for zero-shot, not for retrieval"):
        evaluate(dense(), "retrieval", tmp_path, by="tokens")
    for name in ("0.png", "1.png"):
        (tmp_path / "red" / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match="2 of 8 samples can't be used, .*the first one is .*red/0"):
        evaluate(dense(), "zero-shot", tmp_path, by="tokens")
    config = DataConfig(path=str(tmp_path), max_bad_share=0.5)
    result = evaluate(dense(), "zero-shot", config, by="tokens")
    assert (result.data["used"], result.data["unusable"]) == (6, 2)
