"""Steps of open_clip's for pipelines and scripts of one's own, beside the peer's."""

import argparse
import io
import tarfile

import pytest
import torch
from open_clip import tokenizer as their_tokenizer
from open_clip_train import data as theirs
from open_clip_train import params as their_params
from PIL import Image

from diptych.compat import clip, tokenizer, transform
from diptych.compat.open_clip_train import data, distributed, file_utils, params
from diptych.errors import CheckpointError, ConfigError, UnknownNameError

# webdataset leaves files open, which is said wherever they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
TEXTS = ("  A&amp;amp;B\tcat’s_toy ", "schÃ¶n &lt;3", "", "two\n\nlines")


def test_steps_of_tokenizers_are_open_clips():
    for text in TEXTS:
        assert tokenizer.basic_clean(text) == their_tokenizer.basic_clean(text)
        assert tokenizer.whitespace_clean(text) == their_tokenizer.whitespace_clean(text)
        for how in ("lower", "whitespace", "canonicalize"):
            expected = their_tokenizer.get_clean_fn(how)(text)
            assert tokenizer.get_clean_fn(how)(text) == expected
    assert tokenizer.bytes_to_unicode() == their_tokenizer.bytes_to_unicode()
    assert tokenizer.get_pairs("abca") == their_tokenizer.get_pairs("abca")
    made = tokenizer.SimpleTokenizer(bpe_path=tokenizer.default_bpe())
    assert made.encode("a cat") == [320, 2368]
    with pytest.raises(UnknownNameError, match="lowr"):
        tokenizer.get_clean_fn("lowr")


def test_members_become_samples_as_open_clips_do(tmp_path):
    names = ["a/1.JPG", "a/1.txt", "a/2.seg.png", "a/2.txt", "noending", "a/2.txt", ".hidden"]
    members = [{"fname": name, "data": name, "__url__": "x.tar"} for name in names]
    for options in ({}, {"lcase": False}, {"suffixes": {"txt"}}):
        expected = list(theirs.group_by_keys_nothrow(members, **options))
        assert list(data.group_by_keys_nothrow(members, **options)) == expected
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in names[:4]:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    (tmp_path / "b.tar").write_bytes(b"no tar")
    shards = [{"url": str(tmp_path / name)} for name in ("b.tar", "a.tar", "c.tar")]
    found = list(data.tarfile_to_samples_nothrow(shards))
    assert [sample["__key__"] for sample in found] == ["a/1", "a/2"]
    assert [data.filter_no_caption_or_no_image(sample) for sample in found] == [True, False]
    assert found == list(theirs.tarfile_to_samples_nothrow(shards))


def test_checkpoints_of_torch_are_read_without_running_them(tmp_path):
    path = str(tmp_path / "epoch_1.pt")
    assert not file_utils.check_exists(path)
    file_utils.pt_save({"epoch": 1, "state_dict": {"a": torch.ones(2)}}, path)
    assert file_utils.check_exists(path)
    assert file_utils.pt_load(path, map_location="cpu")["state_dict"]["a"].tolist() == [1, 1]
    torch.save({"code": print}, path)
    with pytest.raises(CheckpointError, match="epoch_1.pt can't be read"):
        file_utils.pt_load(path)
    with pytest.raises(FileNotFoundError):
        file_utils.pt_load(str(tmp_path / "absent.pt"))
    with pytest.raises(ConfigError, match="nothing is copied to s3://b: mount it"):
        file_utils.start_sync_process(300, str(tmp_path), "s3://b", "s3")


@pytest.mark.parametrize("model", ["ViT-B-32", "RN50", "coca_ViT-L-14", "convnext_base"])
def test_settings_of_a_model_are_open_clips(model):
    assert params.get_default_params(model) == their_params.get_default_params(model)


def test_pairs_of_an_option_are_open_clips():
    said = ["--kwargs", "eps=1e-7", "betas=(0.9, 0.95)", "name=cat", "flag=True"]
    found = []
    for action in (params.ParseKwargs, their_params.ParseKwargs):
        parser = argparse.ArgumentParser()
        parser.add_argument("--kwargs", nargs="*", default={}, action=action)
        found.append(parser.parse_args(said).kwargs)
    assert found[0] == found[1]


def test_processes_and_devices_are_told(monkeypatch):
    assert distributed.world_info_from_env() == (0, 0, 1)
    for said in ("RANK=5", "WORLD_SIZE=8", "LOCAL_RANK=1", "MASTER_ADDR=0", "MASTER_PORT=29500"):
        monkeypatch.setenv(*said.split("="))
    assert distributed.world_info_from_env() == (1, 5, 8)
    assert not distributed.is_using_horovod()
    assert distributed.is_device_available("cpu") == (True, True)
    distributed.set_device("cpu")
    assert distributed.is_device_available("xpu") == (False, False)
    assert distributed.is_device_available("cuda") == (torch.cuda.is_available(), True)


def test_transforms_of_ones_own_make_pictures_rgb():
    for make in (transform._convert_to_rgb, clip.clip._convert_image_to_rgb):
        assert make(Image.new("L", (2, 2))).mode == "RGB"
    assert clip.simple_tokenizer.basic_clean(" a&lt;b ") == "a<b"
