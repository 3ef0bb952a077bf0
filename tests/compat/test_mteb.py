"""An Encoder as mteb's model: by its interface, and by mteb itself where it is installed."""

import json
import sys

import pytest
import torch
from torch.nn.functional import normalize

from diptych.cli import main
from diptych.compat.mteb import MtebModel
from diptych.errors import ConfigError
from diptych.evaluation import read_mteb
from tests import tiny

TEXTS = ["a red picture", "a blue one", "a yellow one"]
PICTURES = [tiny.picture(colour) for colour in ("red", "blue", "yellow")]


def test_batches_of_mteb_become_unit_vectors_in_order():
    encoder = tiny.encoder()
    model = MtebModel(encoder)
    # What mteb's DataLoader gives: dictionaries of columns; the task's words change nothing.
    task = {"task_metadata": None, "hf_split": "test", "hf_subset": "default", "prompt_type": None}
    texts = model.encode([{"text": TEXTS[:2]}, {"text": TEXTS[2:]}], **task)
    assert torch.allclose(texts, encoder.embed_texts(TEXTS), atol=1e-5)
    images = model.encode([{"image": PICTURES, "label": [0, 1, 2]}], batch_size=2, **task)
    assert torch.allclose(images, encoder.embed_images(PICTURES), atol=1e-5)
    both = model.encode([{"text": TEXTS, "image": PICTURES}], **task)
    assert torch.allclose(both, normalize(texts + images, dim=-1), atol=1e-5)
    assert model.encode([]).shape == (0, encoder.width)


def test_similarities_are_cosines_of_whatever_length():
    one, other = torch.randn(3, 5), torch.randn(2, 5)
    wanted = torch.stack([torch.cosine_similarity(row[None], other) for row in one])
    model = MtebModel(tiny.encoder())
    assert torch.allclose(model.similarity(one.numpy() * 7, other), wanted, atol=1e-6)
    assert torch.allclose(model.similarity_pairwise(one[:2], other), wanted.diagonal(), atol=1e-6)


def test_a_batch_of_neither_text_nor_picture_is_refused():
    with pytest.raises(
        ConfigError, match="a batch has audio, and these models read text and image"
    ):
        MtebModel(tiny.encoder()).encode([{"audio": [0]}])


def test_what_loads_a_model_is_refused_beside_a_loaded_one():
    for given in ({"device": "cpu"}, {"revision": "main"}, {"dtype": "bf16"}):
        with pytest.raises(ConfigError, match="give them to diptych.load"):
            MtebModel(tiny.encoder(), **given)


@pytest.mark.filterwarnings("ignore")  # of its own and of scikit-learn on two pictures
def test_mteb_itself_runs_it_and_its_file_is_read(tmp_path):
    mteb = pytest.importorskip("mteb")
    from mteb.mocks.mock_tasks import MockZeroShotClassificationTask
    from mteb.models import EncoderProtocol

    model = MtebModel(tiny.encoder())
    assert isinstance(model, EncoderProtocol)
    cache = mteb.ResultCache(tmp_path)
    found = mteb.evaluate(model, MockZeroShotClassificationTask(), cache=cache)
    [score] = found.task_results
    [file] = tmp_path.rglob("MockZeroShotClassification.json")
    result = read_mteb(file)
    assert result.metrics["main_score"] == pytest.approx(score.get_score(), abs=1e-6)
    assert result.model["name"] == "diptych/tiny 0"


def test_without_mteb_its_description_of_a_model_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb.models.model_meta", None)
    with pytest.raises(ConfigError, match="mteb isn't installed"):
        _ = MtebModel(tiny.encoder()).mteb_model_meta


def test_the_name_in_a_file_is_that_beside_it_and_a_report_reads_it(tmp_path):
    folder = tmp_path / "org__name" / "abc"
    folder.mkdir(parents=True)
    rows = [{"main_score": 0.25, "hf_subset": "en", "accuracy": 0.25}]
    rows.append({"main_score": 0.75, "hf_subset": "de", "accuracy": float("nan")})
    values = {"task_name": "X", "mteb_version": "2.26.24", "scores": {"test": rows}}
    (folder / "X.json").write_text(json.dumps(values))
    assert read_mteb(folder / "X.json").model["name"] == "org/name"
    (folder / "model_meta.json").write_text(json.dumps({"name": "mine/own"}))
    result = read_mteb(folder / "X.json")
    with pytest.raises(SystemExit) as end:
        main(["report", str(folder / "X.json"), "--out", str(tmp_path / "page.html")])
    assert end.value.code == 0
    assert "50.0" in (tmp_path / "page.html").read_text()
    assert (result.model["name"], result.metrics) == ("mine/own", {"main_score": 0.5})
    assert result.protocol["subsets"] == ["en", "de"]
