"""Whole evaluations against their parts used by hand."""

import io
import json
import tarfile

import pytest
import torch

from diptych import reports
from diptych.config import DataConfig
from diptych.encoder import class_vectors
from diptych.errors import DataError, UnknownNameError
from diptych.evaluation import Result, evaluate, retrieval, zero_shot
from tests import tiny

NAMES = sorted(tiny.COLOURS)


def shard(path, samples: list[dict[str, bytes]]):
    with tarfile.open(path, "w") as tar:
        for number, sample in enumerate(samples):
            for ending, data in sample.items():
                info = tarfile.TarInfo(f"{number:04}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def png(colour: str, seed: int = 0) -> bytes:
    stream = io.BytesIO()
    tiny.picture(colour, seed).save(stream, "PNG")
    return stream.getvalue()


def test_a_folder_per_class_equals_the_parts_by_hand(tmp_path):
    paths = tiny.write_pictures(tmp_path / "data")
    encoder = tiny.encoder()
    result = evaluate(encoder, "zero-shot", tmp_path / "data", templates="openai-7")
    classes = class_vectors(encoder.embed_texts, NAMES, result.protocol["templates"])
    by_hand = zero_shot(encoder.embed_images(paths), torch.arange(4).repeat_interleave(3), classes)
    assert result.metrics == {
        "top1": by_hand.top1,
        "top5": by_hand.top5,
        "mean_per_class": by_hand.mean_per_class,
    }
    assert result.confusion == tuple(map(tuple, by_hand.confusion.tolist()))
    assert result.class_names == tuple(NAMES)
    assert result.data["used"] == 12
    assert result.model["fingerprint"] == encoder.identity.fingerprint
    assert len(result.protocol["templates"]) == 7
    json.loads(result.to_json())


def test_shards_with_a_file_of_names_give_the_same(tmp_path):
    tiny.write_pictures(tmp_path / "data")
    samples = [
        {"png": png(c, n), "cls": str(NAMES.index(c)).encode()} for n in range(3) for c in NAMES
    ]
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    path = shard(tmp_path / "00.tar", samples)
    by_folder = evaluate(
        tiny.encoder(), "zero-shot", tmp_path / "data", templates="a photo of a {}."
    )
    by_file = evaluate(tiny.encoder(), "zero-shot", path, class_names=tmp_path / "names.txt")
    by_list = evaluate(tiny.encoder(), "zero-shot", DataConfig(path=str(path)), class_names=NAMES)
    assert by_folder.confusion == by_file.confusion == by_list.confusion
    assert by_folder.metrics == by_file.metrics == by_list.metrics


def test_retrieval_with_several_captions(tmp_path):
    captions = [[f"a {c} picture", f"{c} number {n}"][: 1 + n % 2] for n in range(2) for c in NAMES]
    images = [png(c, n) for n in range(2) for c in NAMES]
    samples = [
        {"png": i, "json": json.dumps({"caption": c}).encode()} for i, c in zip(images, captions)
    ]
    encoder = tiny.encoder()
    result = evaluate(encoder, "retrieval", shard(tmp_path / "00.tar", samples))
    texts = encoder.embed_texts([text for group in captions for text in group])
    owners = torch.tensor([i for i, group in enumerate(captions) for _ in group])
    by_hand = retrieval(encoder.embed_images(images), texts, owners)
    assert result.metrics["image_to_text_r1"] == by_hand.image_to_text[1]
    assert result.metrics["text_to_image_r5"] == by_hand.text_to_image[5]
    assert result.metrics["mean_recall"] == by_hand.mean_recall
    assert result.protocol["captions"] == 12


def test_a_limit_takes_the_first(tmp_path):
    tiny.write_pictures(tmp_path / "data")
    result = evaluate(tiny.encoder(), "zero-shot", tmp_path / "data", limit=4)
    assert [sum(row) for row in result.confusion] == [3, 1, 0, 0]
    assert result.per_class[2] is None


def test_broken_samples_are_left_out_and_listed_up_to_a_share(tmp_path):
    tiny.write_pictures(tmp_path / "data")
    (tmp_path / "data" / "red" / "1.png").write_bytes(b"nothing")
    config = DataConfig(path=str(tmp_path / "data"), max_bad_share=0.1)
    result = evaluate(tiny.encoder(), "zero-shot", config)
    assert (result.data["used"], result.data["unusable"]) == (11, 1)
    assert result.data["unusable_samples"][0]["file"].endswith("red/1.png")
    assert evaluate(tiny.encoder(), "zero-shot", tmp_path / "data").data["unusable"] == 1
    (tmp_path / "data" / "red" / "2.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"2 of 12 samples .*red/1\.png"):
        evaluate(tiny.encoder(), "zero-shot", tmp_path / "data")


def test_requests_that_do_not_fit_are_told(tmp_path):
    tiny.write_pictures(tmp_path / "data")
    with pytest.raises(UnknownNameError, match="did you mean 'zero-shot'"):
        evaluate(tiny.encoder(), "zeroshot", tmp_path / "data")
    with pytest.raises(DataError, match=r"has 4 class folders \(.*, but there are 2 class names"):
        evaluate(tiny.encoder(), "zero-shot", tmp_path / "data", class_names=["a", "b"])
    with pytest.raises(DataError):
        evaluate(tiny.encoder(), "zero-shot", tmp_path / "nothing")


def test_heat_maps_of_the_surest_mistakes_are_kept_and_drawn(tmp_path):
    tiny.write_pictures(tmp_path / "data")
    task = str(tmp_path / "data")
    options = {"templates": "a photo of a {}.", "out": tmp_path / "out"}
    [plain] = evaluate(tiny.encoder(), task, **options).values()
    assert "maps" not in plain.mistakes[0]
    results = evaluate(tiny.encoder(), task, maps=True, **options)
    assert not results.kept  # those without maps are measured again
    [result] = results.values()
    shown = [each for each in result.mistakes if "maps" in each]
    assert len(shown) == min(6, len(result.mistakes)) > 0
    first = shown[0]
    texts = [f"a photo of a {first[which]}." for which in ("true", "taken_for")]
    for levels, wanted in zip(first["maps"], tiny.encoder().explain(first["key"], texts)):
        wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min()) * 255
        assert torch.equal(torch.tensor(levels), wanted.round().int())
    assert result.metrics == plain.metrics
    assert Result.from_json(result.to_json()).mistakes[0]["square"] == first["square"]
    again = evaluate(tiny.encoder(), task, maps=True, **options)
    assert len(again.kept) == 1
    titles = [section.title for section in reports.describe_result(result)]
    assert titles.index("Where it looks") == titles.index("Surest mistakes") + 1
    grid = reports.describe_result(result)[titles.index("Where it looks")]
    assert all(cell["jpeg"] for row in grid.body for cell in row["cells"])
    broken = result.to_json().replace('"maps": [[', '"maps": [[[1], [2, 3]], [')
    with pytest.raises(DataError, match="two rectangles of numbers"):
        Result.from_json(broken)


def test_the_surest_mistakes_and_the_confidence_are_kept(tmp_path):
    tiny.write_pictures(tmp_path / "data")
    encoder = tiny.encoder()
    result = evaluate(encoder, "zero-shot", tmp_path / "data", templates="a photo of a {}.")
    wrong = round(12 * (1 - result.metrics["top1"]))
    assert len(result.mistakes) == wrong > 0
    sure = [mistake["confidence"] for mistake in result.mistakes]
    assert sure == sorted(sure, reverse=True)
    first = result.mistakes[0]
    answer = encoder.classify(first["key"], result.class_names, ["a photo of a {}."])
    assert max(answer, key=lambda name: answer[name]) == first["taken_for"] != first["true"]
    assert answer[first["taken_for"]] == pytest.approx(first["confidence"], abs=1e-5)
    assert sum(result.calibration["counts"]) == 12
    assert Result.from_json(result.to_json()) == result
