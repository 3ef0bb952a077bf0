"""Templates by name, from files, and prompts of each class."""

import json

import pytest

from diptych.datasets import TEMPLATES, templates
from diptych.datasets.class_names import prompts
from diptych.datasets.templates import class_prompts, read_prompts
from diptych.errors import ConfigError, DataError, UnknownNameError


def test_every_template_has_a_place_for_the_name():
    assert len(TEMPLATES["openai-7"]) == 7
    assert all(template.count("{}") == 1 for group in TEMPLATES.values() for template in group)


def test_a_name_a_template_and_several():
    assert templates("openai-7") == TEMPLATES["openai-7"]
    assert len(templates("openai-80")) == 80
    assert templates("a {}") == ("a {}",)
    assert templates(["a {}", "the {}"]) == ("a {}", "the {}")
    assert templates(["simple", "a photo of a {}.", "name"]) == ("a photo of a {}.", "{}")


@pytest.mark.parametrize(
    "place", ["{c}", "{}", "{classname}", "{CLASS}", "{label}", "{class_name}"]
)
def test_the_place_of_the_class_in_any_usual_spelling(place):
    assert templates(f"a {place}, drawn.") == ("a {}, drawn.",)


@pytest.mark.parametrize("text", ["a photo", "a photo of a {thing}.", "a photo of a { }.", "{x}"])
def test_a_template_without_a_place_is_refused(text):
    with pytest.raises(ConfigError, match="doesn't say where the class name goes"):
        templates(text)


def test_an_unknown_name():
    with pytest.raises(UnknownNameError, match="did you mean 'simple'"):
        templates("simpel")


def test_a_file_one_a_line(tmp_path):
    (tmp_path / "t.txt").write_text("a {c}.\n\n  the {}\n")
    (tmp_path / "t.json").write_text('["a {c}.", "the {}"]')
    (tmp_path / "of_one.json").write_text('{"mine": ["a {c}.", "the {}"]}')
    for name in ("t.txt", "t.json", "of_one.json"):
        assert templates(str(tmp_path / name)) == ("a {}.", "the {}")
    (tmp_path / "bad.txt").write_text("a photo\n")
    with pytest.raises(ConfigError, match="'a photo' doesn't say"):
        templates(str(tmp_path / "bad.txt"))
    with pytest.raises(DataError, match="nowhere.txt can't be read"):
        templates(str(tmp_path / "nowhere.txt"))


def test_prompts_of_each_class(tmp_path):
    path = tmp_path / "cupl.json"
    cupl = {"Ice_Cream": ["a cone", "a sundae of {c}"], "tea": "a cup", "coffee": ["a mug"]}
    for values in (cupl, {"mine": cupl}):
        path.write_text(json.dumps(values))
        assert class_prompts(path, ("tea", "ice cream")) == (
            ("a cup",),
            ("a cone", "a sundae of ice cream"),
        )
    with pytest.raises(DataError, match="no prompts of 1 classes: milk"):
        class_prompts(path, ("tea", "milk"))


def test_files_of_templates_have_no_prompts_of_classes(tmp_path):
    for number, values in enumerate((["a {}"], {"mine": ["a {}"]})):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(values))
        assert class_prompts(path, ("tea", "coffee")) == ()
    (tmp_path / "two.json").write_text('{"one": ["a {}"], "two": ["the {}"]}')
    with pytest.raises(DataError, match="no prompts of 2 classes"):
        class_prompts(tmp_path / "two.json", ("tea", "coffee"))


def test_declips_eighty_are_imagenets():
    assert TEMPLATES["declip-80"] == prompts("imagenet1k").templates["openai"]


@pytest.mark.parametrize(
    "text", ["{}", "5", "null", '["a"]', '{"a": {}}', '{"a": []}', '{"a": [], "b": ["b"]}', "", "{"]
)
def test_what_holds_no_prompts_of_classes_is_one_sentence(tmp_path, text):
    path = tmp_path / "prompts.json"
    path.write_text(text)
    with pytest.raises(DataError, match="prompts"):
        read_prompts(path)
