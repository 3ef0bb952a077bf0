"""Each part in which two loads can differ, planted alone: it is named, and its cost is the cosine
between the two loads' vectors."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from diptych import Encoder, diagnose, models
from diptych.checkpoints import convert, load_model
from diptych.config import ClipConfig
from diptych.diagnosis import Load, from_open_clip, from_transformers, load_named
from diptych.diagnosis.probes import TEXTS, pictures
from diptych.errors import ConfigError
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig
from diptych.inputs import ClipTokenizer, Preprocess
from diptych.weights import save_model

SIZES = {"width": 32, "layers": 1, "heads": 1, "mlp_width": 64}
CONFIG = ClipConfig(
    image=VitConfig(image_size=32, patch_size=16, **SIZES),
    text=TextConfig(**SIZES),
    embed_dim=16,
)


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return models.build(CONFIG).state_dict()


def encoder(weights, config=CONFIG, dtype=torch.float32, **parts):
    """The towers in evaluation mode with these weights."""
    model = models.build(config).eval()
    model.load_state_dict(weights)
    for tower in (model.image, model.text):
        tower.to(dtype)
    return Encoder(model, **parts)


def cosines(a, b):
    """Of the probes, the lowest, from the encoders' own vectors."""
    images = (a.embed_images(pictures()) * b.embed_images(pictures())).sum(1)
    texts = (a.embed_texts(TEXTS) * b.embed_texts(TEXTS)).sum(1)
    return [images.min().item(), texts.min().item()]


def other_weights(weights):
    changed = weights["image.projection.weight"].clone()
    changed[0] *= 3
    return weights | {"image.projection.weight": changed}


def preprocessed(**changes):
    return {"preprocess": Preprocess(replace(CONFIG.preprocess, **changes), 32)}


QUICK = replace(CONFIG, text=replace(CONFIG.text, activation="quick_gelu"))
HEADS = replace(CONFIG, image=replace(CONFIG.image, heads=4))
PLANTED = {
    "weights": lambda w: encoder(other_weights(w)),
    "activation": lambda w: encoder(w, QUICK),
    "architecture": lambda w: encoder(w, HEADS),
    "resize": lambda w: encoder(w, **preprocessed(resize="squash")),
    "interpolation": lambda w: encoder(w, **preprocessed(interpolation="bilinear")),
    "mean": lambda w: encoder(w, **preprocessed(mean=(0.5, 0.4, 0.3))),
    "std": lambda w: encoder(w, **preprocessed(std=(0.5, 0.5, 0.5))),
    "context length": lambda w: encoder(w, tokenizer=ClipTokenizer(20)),
    "precision": lambda w: encoder(w, dtype=torch.bfloat16),
}


SAID = {
    "activation": ("text gelu", "text quick_gelu"),
    "mean": ("0.4815, 0.4578, 0.4082", "0.5, 0.4, 0.3"),
}
"""How the two are said, in the words of the configuration."""


@pytest.mark.filterwarnings("ignore::diptych.errors.TruncationWarning")
@pytest.mark.parametrize("part", PLANTED)
def test_the_one_part_that_differs_is_named_with_the_cosine_that_it_costs(weights, part):
    one, other = encoder(weights), PLANTED[part](weights)
    found = diagnose(one, other)
    assert [each.part for each in found.differences] == [part]
    assert found.first is found.costliest
    assert found.first.a != found.first.b
    assert SAID.get(part, (found.first.a, found.first.b)) == (found.first.a, found.first.b)
    wanted = cosines(one, other)
    assert min(wanted) < 0.9999999
    assert list(found.first.cosines) == pytest.approx(wanted, abs=1e-5)
    assert list(found.cosines) == pytest.approx(wanted, abs=1e-5)


def test_two_loads_of_one_model_do_not_differ(weights):
    found = diagnose(encoder(weights), encoder(weights))
    assert (found.differences, found.first, found.costliest) == ((), None, None)
    assert found.cosines == (1.0, 1.0)


def test_parts_come_in_the_order_in_which_data_meets_them_and_the_costliest_is_another(weights):
    less = weights | {"image.projection.weight": weights["image.projection.weight"] * 1.001}
    less["logit_scale"] = torch.zeros(1)
    other = encoder(less, QUICK, **preprocessed(resize="squash"))
    found = diagnose(encoder(weights), other)
    parts = [each.part for each in found.differences]
    assert parts == ["weights", "activation", "resize", "logit scale"]
    assert found.costliest.part == "resize"
    scale = found.differences[-1]
    assert (scale.cosines, scale.b) == (None, "x 1.0000")


@pytest.mark.filterwarnings("ignore::diptych.errors.TruncationWarning")
def test_another_size_is_that_and_resized_weights_are_no_difference(weights, tmp_path):
    path = save_model(tmp_path / "m", encoder(weights).model)
    large = Encoder(load_model(path, image_size=64).model)
    found = diagnose(encoder(weights), large)
    assert [each.part for each in found.differences] == ["picture size"]
    assert (found.first.a, found.first.b) == ("32", "64")
    assert list(found.first.cosines) == pytest.approx(cosines(encoder(weights), large), abs=1e-5)


def test_another_tokenizer_is_shown_by_the_first_ids_that_differ(weights):
    load = Load.of(encoder(weights))

    def lazy(texts):
        return load.ids([text.replace("cat", "dog") for text in texts])

    found = diagnose(load, replace(load, ids=lazy))
    [only] = found.differences
    # <start> a photo of a cat <end>: the sixth id
    assert only.part == "tokenizer"
    assert only.a.startswith("text 1, id 6: [2368, 49407")
    assert only.b.startswith("text 1, id 6: [1929, 49407")
    assert only.cosines.images == 1
    assert only.cosines.texts < 0.999


def test_towers_that_have_nothing_in_common_are_still_compared(weights):
    resnet = ResNetConfig(image_size=64, layers=(1, 1, 1, 1), width=8, heads=4)
    other = Encoder(models.build(replace(CONFIG, image=resnet, embed_dim=8)).eval())
    found = diagnose(encoder(weights), other)
    assert found.cosines is None
    assert [each.part for each in found.differences][:2] == ["weights", "architecture"]
    assert found.first.cosines is None


def test_code_that_does_what_no_setting_says_is_remarked(weights):
    load = Load.of(encoder(weights))
    turned = replace(
        load, name="odd", encode_image=lambda pixels: load.encode_image(pixels.flip(3))
    )
    found = diagnose(load, turned)
    assert [each.part for each in found.differences] == ["code"]
    assert any(r.startswith("odd: with the same weights and inputs") for r in found.remarks)
    noisy = replace(load, encode_text=lambda ids: load.encode_text(ids) + torch.rand(1) / 1e3)
    assert any("call .eval()" in remark for remark in diagnose(load, noisy).remarks)


def test_weights_that_are_not_finite_in_one_are_a_difference_and_in_both_a_remark(weights):
    load = Load.of(encoder(weights))
    broken = replace(Load.of(encoder(weights)), name="other")
    name = "text.projection.weight"
    broken.weights[name][0, 0] = float("nan")
    found = diagnose(load, broken)
    assert found.first.part == "weights"
    assert (found.first.a, found.first.b) == (
        f"{name} has 0 numbers that aren't finite",
        f"{name} has 1 numbers that aren't finite",
    )
    assert found.cosines == (1.0, 0.0)
    assert any(remark.startswith("other: some vectors hold") for remark in found.remarks)
    same = diagnose(broken, broken)
    assert (same.differences, same.cosines) == ((), (1.0, 1.0))
    assert any("aren't finite" in remark for remark in same.remarks)


def test_code_whose_vectors_are_not_finite_differs(weights):
    load = Load.of(encoder(weights))
    for part in ("encode_image", "encode_text"):
        code = getattr(load, part)
        beyond = replace(load, **{part: lambda given, code=code: code(given) * float("inf")})
        found = diagnose(load, beyond)
        assert [each.part for each in found.differences] == ["code"]
        assert min(found.cosines) == 0


def test_a_load_that_refuses_its_own_inputs_is_one_sentence(weights):
    load = Load.of(encoder(weights))
    beyond = replace(load, name="mixed", ids=lambda texts: load.ids(texts) + 49408)
    with pytest.raises(ConfigError, match="mixed refuses its own inputs: IndexError"):
        diagnose(load, beyond)


def test_alone_it_is_compared_with_what_was_published_for_its_sizes():
    from tests import tiny

    assert diagnose(tiny.encoder()).differences == ()
    model = tiny.model()
    squash = Preprocess(replace(model.config.preprocess, resize="squash"), 48)
    found = diagnose(Encoder(model, preprocess=squash, name="x"))
    assert (found.b, found.first.part) == ("as tiny is published", "resize")


def test_alone_what_nothing_was_published_for_needs_a_second(weights):
    with pytest.raises(ConfigError, match="name a second load"):
        diagnose(encoder(weights))


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    save_model(folder / "native", encoder(weights).model)
    convert(folder / "native", "open-clip", folder / "open_clip")
    convert(folder / "native", "transformers", folder / "transformers")
    return folder


def test_open_clips_load_of_the_same_weights_does_not_differ(exported):
    ours = load_named(str(exported / "native"))
    theirs = load_named(f"open_clip:{exported / 'open_clip'}")
    assert theirs.name == f"open_clip:local-dir:{exported / 'open_clip'}"
    found = diagnose(ours, theirs)
    assert found.differences == ()
    assert min(found.cosines) > 1 - 1e-6


def test_an_activation_that_no_name_says_is_told_by_the_vectors(exported):
    import open_clip

    name = f"local-dir:{exported / 'open_clip'}"
    # The name says GELU, and what runs is QuickGELU: open_clip's commonest mistake.
    model, _, preprocess = open_clip.create_model_and_transforms(name, force_quick_gelu=True)
    tokenizer = open_clip.get_tokenizer(name)
    config = exported / "open_clip" / "open_clip_config.json"
    theirs = from_open_clip(model.eval(), preprocess, tokenizer, config, "theirs")
    found = diagnose(load_named(str(exported / "native")), theirs)
    assert [each.part for each in found.differences] == ["activation", "activation"]
    assert [each.b for each in found.differences] == ["image quick_gelu", "text quick_gelu"]
    assert found.remarks == ()


def test_transformers_load_differs_in_its_crop_and_in_entities(exported, quiet):
    theirs = load_named(f"transformers:{exported / 'transformers'}", "fp32")
    found = diagnose(load_named(str(exported / "native")), theirs)
    # An odd margin is halved to the other side, and `&amp;` stays as it is.
    assert [each.part for each in found.differences] == ["pixels", "tokenizer"]
    assert "picture 4" in found.differences[0].b
    assert found.differences[1].a.startswith("text 5,")
    assert [each.cosines for each in found.differences] == [
        pytest.approx((found.cosines.images, 1), abs=1e-6),
        pytest.approx((1, found.cosines.texts), abs=1e-6),
    ]
    same = {"images": [Image.new("RGB", (64, 64), "red")], "texts": ["a cat"]}
    assert diagnose(load_named(str(exported / "native")), theirs, **same).differences == ()


def test_a_model_object_of_transformers_is_a_load_as_well(exported, quiet):
    from transformers import CLIPModel, CLIPProcessor

    place = exported / "transformers"
    model = CLIPModel.from_pretrained(place, dtype=torch.float32)
    load = from_transformers(model, CLIPProcessor.from_pretrained(place))
    assert load.name == f"transformers:{place}"
    assert load.config == CONFIG
    assert json.loads((place / "config.json").read_text())["model_type"] == "clip"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("open_clip:", "open_clip: names no model; write open_clip:NAME"),
        ("open_clip:ViT-B-32", "says no weights, and open_clip would make random ones"),
        ("open_clip:nothing:laion", "open_clip can't load nothing"),
        ("transformers:nowhere", "transformers can't load nowhere"),
    ],
)
def test_a_name_that_a_library_refuses_is_one_sentence(name, sentence, quiet):
    with pytest.raises(ConfigError, match=sentence):
        load_named(name)


def test_a_configuration_for_another_librarys_load_is_refused():
    with pytest.raises(ConfigError, match="--config is for models that Diptych loads"):
        load_named("open_clip:ViT-B-32:openai", config="ViT-B-32")
