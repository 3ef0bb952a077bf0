"""Classes as vectors beside open_clip's, and the names and templates that scripts import."""

import pickle

import pytest
import torch

from diptych import compat
from diptych.errors import ConfigError
from tests.compat.peers import ours_of, peer_of

open_clip = pytest.importorskip("open_clip")
NAMES = ["cat", "dog", "snow {leopard}"]
STRINGS = ["a photo of a {}.", "the {}", "{} on a mat"]


def test_names_and_templates_are_open_clips():
    assert compat.IMAGENET_CLASSNAMES == open_clip.IMAGENET_CLASSNAMES
    for name in ("OPENAI_IMAGENET_TEMPLATES", "SIMPLE_IMAGENET_TEMPLATES"):
        ours, theirs = getattr(compat, name), getattr(open_clip, name)
        assert [template("cat") for template in ours] == [template("cat") for template in theirs]
        assert pickle.loads(pickle.dumps(ours))[0]("cat") == theirs[0]("cat")  # workers
    for name in ("OPENAI_DATASET", "IMAGENET", "INCEPTION"):
        for what in ("MEAN", "STD"):
            ours = getattr(compat.constants, f"{name}_{what}")
            assert ours == getattr(open_clip.constants, f"{name}_{what}")


@pytest.mark.parametrize("step", [1, 2, 10, None])
def test_columns_are_open_clips(step):
    model, peer = ours_of("vit"), peer_of("vit")
    model.load_state_dict(peer.state_dict())
    for templates in (STRINGS, compat.SIMPLE_IMAGENET_TEMPLATES):
        given = (compat.tokenize, NAMES, templates)
        found = compat.build_zero_shot_classifier(model, *given, num_classes_per_batch=step)
        expected = open_clip.build_zero_shot_classifier(peer, *given, num_classes_per_batch=step)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert not found.requires_grad
        legacy = compat.build_zero_shot_classifier_legacy(model, *given)
        torch.testing.assert_close(legacy, expected, rtol=1e-5, atol=1e-5)


def test_a_model_of_openais_needs_no_normalize_and_other_spellings_are_templates(capsys):
    table = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))

    class Model:
        def encode_text(self, ids):
            return table[ids].sum(1)

    def tokenizer(texts):
        return torch.tensor([[ord(letter) for letter in text.ljust(9)] for text in texts])

    templates = [lambda name: f"a {name}", "{c}s", "the {0}"]  # both kinds, in any order
    given = (Model(), tokenizer, ["ox"], templates)
    found = compat.build_zero_shot_classifier_legacy(*given, use_tqdm=True)
    units = Model().encode_text(tokenizer(["a ox", "oxs", "the ox"]))
    mean = (units / units.norm(dim=1, keepdim=True)).mean(0)
    torch.testing.assert_close(found, (mean / mean.norm())[:, None])
    assert "1/1" in capsys.readouterr().err


def test_templates_are_filled_as_format_strings():
    made, model = [], ours_of("vit")
    for package in compat, open_clip:
        given = (model, compat.tokenize, [1, "an {ox}"], ["{{}} {}", "{!r} s", "{0:>3} {0}", "{}"])
        made.append(package.build_zero_shot_classifier(*given))
    torch.testing.assert_close(*made, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"classnames": []}, r"classnames=\[\] must be a list"),
        ({"classnames": "cat"}, "classnames='cat' must be a list"),
        ({"templates": "a photo of a {}."}, "templates='a photo of a {}.' must be a list"),
        ({"templates": ["a photo"]}, "'a photo' doesn't say where the class name goes"),
        ({"num_classes_per_batch": 0}, "num_classes_per_batch=0"),
    ],
)
def test_what_is_refused(changed, said):
    given = {"classnames": NAMES, "templates": STRINGS} | changed
    with pytest.raises(ConfigError, match=said):
        compat.build_zero_shot_classifier(ours_of("vit"), compat.tokenize, **given)
