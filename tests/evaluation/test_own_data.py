"""Data of one's own: parts, and classes joined by name. The right values are counted by hand."""

import csv
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch

from diptych.errors import DataError
from diptych.evaluation import evaluate, fit_probe
from tests import tiny

NAMES = sorted(tiny.COLOURS)


def write(folder: Path, colours, seeds) -> list[Path]:
    paths = []
    for colour in colours:
        (folder / colour).mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            paths.append(folder / colour / f"{seed}.png")
            tiny.picture(colour, seed).save(paths[-1])
    return paths


def probe_by_hand(train: list[Path], test: list[Path]) -> list[str]:
    """What a linear probe of all colours says of the test pictures, by names alone."""
    encoder = tiny.encoder()
    labels = torch.tensor([NAMES.index(path.parent.name) for path in train])
    features = encoder.image_features(
        torch.stack([encoder.preprocess.pixels(path) for path in train])
    )
    asked = encoder.image_features(torch.stack([encoder.preprocess.pixels(path) for path in test]))
    predicted = fit_probe(features.float(), labels).predict(asked.float())
    return [NAMES[place] for place in predicted.tolist()]


@pytest.mark.parametrize("task", ["linear", "fewshot"])
@pytest.mark.parametrize("place", ["plain", "train-alone", "table.csv", "synthetic:16"])
def test_without_a_training_and_a_test_part_no_classifier_is_trained(tmp_path, task, place):
    write(tmp_path / "plain", NAMES, range(6))
    write(tmp_path / "train-alone" / "train", NAMES, range(6))
    rows = [f"plain/{c}/{seed}.png,{NAMES.index(c)}" for c in NAMES for seed in range(6)]
    (tmp_path / "table.csv").write_text("image,label\n" + "\n".join(rows))
    path = place if ":" in place else f"{tmp_path}/{place}"
    results = evaluate(tiny.encoder(), f"{task}/{path}")
    [reason] = results.failures.values()
    assert f"need a training and a test part: {path}/train and {path}/test" in reason
    with pytest.raises(DataError, match="need a training and a test part"):
        evaluate(tiny.encoder(), task, path)


@pytest.mark.parametrize(
    ("train", "test", "split"),
    [
        ("train", "test", "test"),
        ("Training", "Testing", "test"),
        ("train", "val", "val"),
        ("training", "validation", "val"),
        ("seg_train", "seg_test", "test"),
        ("train2017", "val2017", "val"),
    ],
)
def test_parts_go_by_any_usual_name(tmp_path, train, test, split):
    learned = write(tmp_path / "data" / train, NAMES, range(5))
    asked = write(tmp_path / "data" / test, NAMES, range(10, 12))
    result = evaluate(tiny.encoder(), "linear", tmp_path / "data")
    by_hand = probe_by_hand(learned, asked)
    right = sum(path.parent.name == name for path, name in zip(asked, by_hand))
    assert result.metrics["top1"] == right / 8
    assert (result.data["split"], result.data["used"]) == (split, 8)
    assert result.data["path"] == str(tmp_path / "data" / test)
    assert result.class_names == tuple(NAMES)
    again = evaluate(tiny.encoder(), f"linear/{tmp_path / 'data'}").only()
    assert (again.metrics, again.key) == (result.metrics, result.key)


def test_the_validation_part_chooses_the_penalty_where_there_are_three(tmp_path):
    for split, seeds in (("train", range(4)), ("val", range(20, 22)), ("test", range(10, 12))):
        write(tmp_path / split, NAMES, seeds)
    result = evaluate(tiny.encoder(), "linear", tmp_path)
    assert (result.data["split"], result.protocol["validation"]) == ("test", "the set's own")
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(DataError, match=r"no class has five training samples.*val beside train"):
        evaluate(tiny.encoder(), "linear", tmp_path)


def test_a_class_that_one_part_lacks_moves_no_other(tmp_path):
    """Of three classes two are in test: by place, every yellow would be called red."""
    learned = write(tmp_path / "train", ("blue", "red", "yellow"), range(6))
    asked = write(tmp_path / "test", ("blue", "yellow"), range(10, 14))
    result = evaluate(tiny.encoder(), "linear", tmp_path)
    by_hand = probe_by_hand(learned, asked)
    right = sum(path.parent.name == name for path, name in zip(asked, by_hand))
    assert right > 4
    assert result.metrics["top1"] == right / 8
    assert result.class_names == ("blue", "red", "yellow")
    assert "test has no class red" in result.data["remarks"]


def test_what_training_never_saw_is_wrong_and_remarked(tmp_path):
    learned = write(tmp_path / "train", ("blue", "yellow"), range(6))
    asked = write(tmp_path / "test", ("blue", "red", "yellow"), range(10, 14))
    result = evaluate(tiny.encoder(), "linear", tmp_path)
    by_hand = probe_by_hand(learned, asked)
    right = sum(path.parent.name == name for path, name in zip(asked, by_hand))
    assert 4 < right <= 8
    assert result.metrics["top1"] == right / 12
    assert result.confusion[1][1] == 0
    assert sum(result.confusion[1]) == 4
    [said] = [each for each in result.data["remarks"] if "can't be right" in each]
    assert said.startswith("4 of 12 test pictures can't be right")
    assert said.endswith("(red)")
    few = evaluate(tiny.encoder(), "fewshot", tmp_path, shots=(1, 2))
    assert list(few.metrics) == ["top1_1_shot", "top1_2_shot"]
    assert max(few.metrics.values()) <= 8 / 12
    assert said in few.data["remarks"]


def test_names_of_a_file_are_those_of_all_parts_together(tmp_path):
    write(tmp_path / "train", ("blue", "yellow"), range(6))
    write(tmp_path / "test", ("blue", "red", "yellow"), range(10, 14))
    words = ["navy", "crimson", "gold"]
    result = evaluate(tiny.encoder(), "linear", tmp_path, class_names=words)
    assert result.class_names == tuple(words)
    assert sum(result.confusion[1]) == 4
    plain = evaluate(tiny.encoder(), "linear", tmp_path)
    assert result.confusion == plain.confusion
    assert any("blue = navy, red = crimson" in each for each in result.data["remarks"])


def test_the_same_pictures_are_no_test(tmp_path):
    write(tmp_path / "copied" / "train", NAMES, range(5))
    shutil.copytree(tmp_path / "copied" / "train", tmp_path / "copied" / "test")
    (tmp_path / "linked").mkdir()
    for split in ("train", "test"):
        os.symlink(tmp_path / "copied" / "train", tmp_path / "linked" / split)
    for place in ("copied", "linked"):
        with pytest.raises(DataError, match="all 20 test pictures of .* are among its training"):
            evaluate(tiny.encoder(), "linear", tmp_path / place)
    write(tmp_path / "copied" / "test", NAMES, range(5, 10))
    result = evaluate(tiny.encoder(), "linear", tmp_path / "copied")
    assert "20 of 40 test pictures are training pictures too" in result.data["remarks"]


@pytest.mark.parametrize("task", ["", "zero-shot"])
def test_a_folder_of_parts_is_measured_on_its_test_part(tmp_path, task):
    write(tmp_path / "data" / "train", NAMES, range(4))
    write(tmp_path / "data" / "test", NAMES, range(10, 12))
    by_data = evaluate(tiny.encoder(), task, tmp_path / "data")
    by_task = evaluate(tiny.encoder(), str(tmp_path / "data")).only()
    by_hand = evaluate(tiny.encoder(), "zero-shot", tmp_path / "data" / "test")
    assert by_data.metrics == by_task.metrics == by_hand.metrics
    assert by_data.class_names == tuple(NAMES)
    assert by_data.data["split"] == by_task.data["split"] == "test"
    assert by_hand.data["split"] == ""


def test_a_training_part_alone_is_measured_by_its_own_path(tmp_path):
    write(tmp_path / "data" / "train", NAMES, range(4))
    with pytest.raises(DataError, match="data has a training part alone"):
        evaluate(tiny.encoder(), "zero-shot", tmp_path / "data")
    assert evaluate(tiny.encoder(), "zero-shot", tmp_path / "data" / "train").data["used"] == 16


def test_a_class_called_train_among_others_is_a_class(tmp_path):
    for name, colour in (("bus", "red"), ("car", "blue"), ("train", "green")):
        write(tmp_path / name, [colour], range(2))
    result = evaluate(tiny.encoder(), "zero-shot", tmp_path)
    assert result.class_names == ("bus", "car", "train")
    assert "a class is called 'train', as a part of a dataset might be" in result.data["remarks"]


def shard(path: Path, samples: list[dict[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, sample in enumerate(samples):
            for ending, data in sample.items():
                member = tarfile.TarInfo(f"{number:04}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def png(colour: str, seed: int) -> bytes:
    stream = io.BytesIO()
    tiny.picture(colour, seed).save(stream, "PNG")
    return stream.getvalue()


def labelled(seeds, names=NAMES) -> list[dict[str, bytes]]:
    """Samples of shards, with the places of their colours in `names`."""
    pictures = [(colour, seed) for colour in NAMES for seed in seeds]
    return [{"png": png(*each), "cls": str(names.index(each[0])).encode()} for each in pictures]


PICTURES = [(colour, seed) for seed in range(3) for colour in NAMES]
CAPTIONS = [[f"a {c} one", f"number {n} is {c}", f"{c} {n}"] for c, n in PICTURES]


def recalls_by_hand() -> dict[str, float]:
    """CLIP_benchmark's definition: pictures to texts, a hit is any of a picture's captions among
    the k nearest; texts to pictures, a hit is the one picture."""
    encoder = tiny.encoder()
    images = encoder.embed_images([tiny.picture(*each) for each in PICTURES])
    texts = encoder.embed_texts([caption for captions in CAPTIONS for caption in captions])
    scores, found = texts @ images.T, dict[str, float]()
    for k in (1, 5, 10):
        near = scores.argsort(1, descending=True)[:, :k].tolist()
        hits = [text // 3 in pictures for text, pictures in enumerate(near)]
        found[f"text_to_image_r{k}"] = sum(hits) / len(hits)
        near = scores.T.argsort(1, descending=True)[:, :k].tolist()
        hits = [any(text // 3 == place for text in each) for place, each in enumerate(near)]
        found[f"image_to_text_r{k}"] = sum(hits) / len(hits)
    return found | {"mean_recall": sum(found.values()) / 6}


def write_captioned(root: Path) -> list[Path]:
    """The same pictures and captions in every layout that people have."""
    for number, each in enumerate(PICTURES):
        tiny.picture(*each).save(root / f"{number}.png")
    rows = [(f"{n}.png", caption) for n, captions in enumerate(CAPTIONS) for caption in captions]
    for name, sign in (("rows.csv", ","), ("rows.tsv", "\t")):
        lines = [sign.join(row) for row in [("image", "caption"), *rows]]
        (root / name).write_text("\n".join(lines))
    # Not side by side: first every first caption, then every second.
    apart = sorted(rows, key=lambda row: row[1][-1])
    (root / "apart.jsonl").write_text(
        "\n".join(json.dumps({"image": image, "caption": text}) for image, text in apart)
    )
    lists = [{"image": f"{n}.png", "caption": each} for n, each in enumerate(CAPTIONS)]
    (root / "lists.jsonl").write_text("\n".join(map(json.dumps, lists)))
    data = [png(*each) for each in PICTURES]
    table = pyarrow.table(
        {
            "image": [data[int(image[:-4])] for image, _ in rows],
            "caption": [text for _, text in rows],
        }
    )
    pyarrow.parquet.write_table(table, root / "bytes.parquet")
    texts = ["\n".join(each).encode() for each in CAPTIONS]
    shard(root / "lines.tar", [{"png": p, "txt": t} for p, t in zip(data, texts)])
    one_each = [(p, t) for p, texts in zip(data, CAPTIONS) for t in texts]
    shard(root / "one-each.tar", [{"png": p, "txt": t.encode()} for p, t in one_each])
    mirror = root / "wds_mine" / "test"
    shard(mirror / "0.tar", [{"png": p, "txt": t} for p, t in zip(data, texts)])
    (mirror / "nshards.txt").write_text("1")
    (root / "wds_mine" / "dataset_type.txt").write_text("retrieval")
    names = ("rows.csv", "rows.tsv", "apart.jsonl", "lists.jsonl", "bytes.parquet")
    return [root / name for name in (*names, "lines.tar", "one-each.tar", "wds_mine")]


def test_pictures_with_several_captions_in_every_layout(tmp_path):
    expected = recalls_by_hand()
    assert 0 < expected["mean_recall"] < 1
    for path in write_captioned(tmp_path):
        result = evaluate(tiny.encoder(), "", path)
        assert result.task == "retrieval", path
        assert result.metrics == pytest.approx(expected), path
        assert (result.data["used"], result.protocol["captions"]) == (12, 36), path
    by_task = evaluate(tiny.encoder(), str(tmp_path / "rows.csv")).only()
    assert by_task.metrics == pytest.approx(expected)


def test_a_cell_of_a_table_is_one_caption(tmp_path):
    tiny.picture("red").save(tmp_path / "0.png")
    tiny.picture("blue").save(tmp_path / "1.png")
    (tmp_path / "t.csv").write_text('image,caption\n0.png,"a red\none"\n1.png,a blue one\n')
    assert evaluate(tiny.encoder(), "retrieval", tmp_path / "t.csv").protocol["captions"] == 2


def test_what_captions_are_is_part_of_the_caches_name(tmp_path):
    rows = ["image,caption,other", "0.png,a red one,blue", "1.png,a blue one,red"]
    tiny.picture("red").save(tmp_path / "0.png")
    tiny.picture("blue").save(tmp_path / "1.png")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    cache, keys = tmp_path / "cache", set[str]()
    for key in ("caption", "other"):
        table = tmp_path / "t.csv"
        found = evaluate(tiny.encoder(), "retrieval", table, caption_key=key, cache=cache)
        fresh = evaluate(tiny.encoder(), "retrieval", table, caption_key=key)
        assert found.metrics == fresh.metrics
        keys.add(found.key)
    assert len(keys) == 2


def test_the_mirrors_layout(tmp_path):
    root = tmp_path / "wds_colours"
    for split, seeds in (("train", range(6)), ("test", range(10, 13))):
        shard(root / split / "0.tar", labelled(seeds))
        (root / split / "nshards.txt").write_text("1")
    (root / "classnames.txt").write_text("\n".join(NAMES))
    (root / "zeroshot_classification_templates.txt").write_text("a {c} picture\nit is {c}\n")
    for path in (root, root / "test"):
        by_data = evaluate(tiny.encoder(), "", path)
        by_task = evaluate(tiny.encoder(), str(path)).only()
        assert by_data.metrics == by_task.metrics
        assert by_data.data["used"] == 12
        assert by_data.class_names == tuple(NAMES)
        assert by_data.protocol["templates"] == ["a {} picture", "it is {}"]
    given = evaluate(tiny.encoder(), "", root, templates="simple")
    assert given.protocol["templates"] == ["a photo of a {}."]
    assert evaluate(tiny.encoder(), "linear", root).protocol["train"] == 24
    (root / "test" / "nshards.txt").write_text("2")
    with pytest.raises(DataError, match=r"should hold 2 shards .*lacks 1.tar"):
        evaluate(tiny.encoder(), "", root)


def test_numbers_whose_names_stand_in_another_order_in_each_part(tmp_path):
    """Shards with class numbers: train's 0 is yellow, test's 0 is blue."""
    for split, names, seeds in (("train", NAMES[::-1], range(6)), ("test", NAMES, range(10, 13))):
        shard(tmp_path / split / "a.tar", labelled(seeds, names))
        (tmp_path / split / "classnames.txt").write_text("\n".join(names))
    result = evaluate(tiny.encoder(), "linear", tmp_path)
    write(tmp_path / "folders" / "train", NAMES, range(6))
    write(tmp_path / "folders" / "test", NAMES, range(10, 13))
    folders = evaluate(tiny.encoder(), "linear", tmp_path / "folders")
    assert result.metrics == folders.metrics
    assert result.metrics["top1"] > 0.5


def test_shards_and_tables_side_by_side_are_parts(tmp_path):
    rows = {"train": list[str](), "test": list[str]()}
    for split, seeds in (("train", range(6)), ("test", range(10, 13))):
        for path in write(tmp_path / "pictures" / split, NAMES, seeds):
            rows[split].append(f"{path},{NAMES.index(path.parent.name)}")
        shard(tmp_path / "shards" / f"my-{split}-0.tar", labelled(seeds))
        (tmp_path / "tables").mkdir(exist_ok=True)
        (tmp_path / "tables" / f"{split}.csv").write_text("\n".join(["image,label", *rows[split]]))
    expected = evaluate(tiny.encoder(), "linear", tmp_path / "pictures")
    for place in ("shards", "tables"):
        found = evaluate(tiny.encoder(), "linear", tmp_path / place)
        assert found.metrics == expected.metrics
        assert found.protocol["train"] == 24


def test_a_column_of_a_table_says_what_belongs_to_which_part(tmp_path):
    rows, parts = list[str](), (("Train", range(6)), ("validation", range(10, 13)))
    for split, seeds in parts:
        for path in write(tmp_path / "pictures" / split, NAMES, seeds):
            rows.append(f"{path},{NAMES.index(path.parent.name)},{split},a {path.parent.name} one")
    header = "image,label,split,caption"
    (tmp_path / "t.csv").write_text("\n".join([header, *sorted(rows, key=lambda row: row[-9:])]))
    expected = evaluate(tiny.encoder(), "linear", tmp_path / "pictures")
    found = evaluate(tiny.encoder(), "linear", tmp_path / "t.csv")
    assert found.metrics == expected.metrics
    assert (found.data["split"], found.data["used"], found.protocol["train"]) == ("val", 12, 24)
    captions = evaluate(tiny.encoder(), "retrieval", tmp_path / "t.csv")
    assert (captions.data["split"], captions.data["used"]) == ("val", 12)


def test_names_for_each_task_and_prompts_of_each_class(tmp_path):
    shard(tmp_path / "a.tar", labelled(range(3)))
    write(tmp_path / "folders", NAMES, range(3))
    paths = [str(tmp_path / "a.tar"), str(tmp_path / "folders")]
    results = evaluate(tiny.encoder(), paths, class_names={paths[0]: NAMES})
    assert not results.failures
    assert results.only(task=paths[0]).metrics == results.only(task=paths[1]).metrics
    prompts = {name: [f"a photo of a {name}."] for name in NAMES}
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    said = evaluate(tiny.encoder(), "", paths[1], templates=str(tmp_path / "prompts.json"))
    assert said.metrics == results.only(task=paths[1]).metrics
    assert (said.protocol["templates"], said.protocol["class_prompts"]) == ([], 4)
    with pytest.raises(DataError, match=r"numbers without names.*--class-names"):
        evaluate(tiny.encoder(), "", paths[0])


def test_predictions_of_each_picture(tmp_path):
    paths = write(tmp_path / "test", NAMES, range(3))
    write(tmp_path / "train", NAMES, range(10, 16))
    encoder = tiny.encoder()
    found = evaluate(encoder, "zero-shot", tmp_path).predictions
    by_hand = encoder.classify(paths, NAMES, ["a photo of a {}."])
    best = [max(shares, key=lambda name: shares[name]) for shares in by_hand]
    assert found.keys == tuple(map(str, paths))
    assert found.true == tuple(path.parent.name for path in paths)
    assert found.predicted == tuple(best)
    highest = [shares[name] for shares, name in zip(by_hand, best)]
    assert found.probability == pytest.approx(highest, abs=1e-5)
    linear = evaluate(encoder, f"linear/{tmp_path}", predictions=tmp_path / "csv")
    [file] = (tmp_path / "csv").glob("*.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    right = sum(row["true"] == row["predicted"] for row in rows)
    assert right / 12 == linear.only().metrics["top1"]
    assert 0.25 < float(rows[0]["probability"]) <= 1
