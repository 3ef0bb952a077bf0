"""Weights from addresses, and models onto the hub: neither is reached here."""

import hashlib
import importlib
import io
import json
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import open_clip
import pytest
import torch

from diptych import compat
from diptych.compat.push_to_hf_hub import generate_readme, save_config_for_hf, save_for_hf
from diptych.compat.tokenizer import TikTokenTokenizer
from diptych.errors import CheckpointError, ConfigError, DownloadError
from tests.compat.peers import KINDS, ours_of

theirs = importlib.import_module("open_clip.push_to_hf_hub")
CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OPENAIS = f"https://openaipublic.azureedge.net/clip/models/{SHA256}/RN50.pt"
OPEN_CLIPS = (
    f"https://github.com/mlfoundations/open_clip/releases/download/v0.2/rn50-{SHA256[:8]}.pt"
)


class Answer(io.BytesIO):
    """What urlopen gives."""

    def __init__(self, content: bytes, size: int | None = None):
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content) if size is None else size)}


@pytest.fixture
def web(monkeypatch):
    """The answers to come, and the addresses that were asked."""
    found = SimpleNamespace(answers=[], asked=[])

    def urlopen(url, timeout):
        found.asked.append(url)
        return found.answers.pop(0)

    # Where open_clip's own tests put one, too.
    stub = SimpleNamespace(request=SimpleNamespace(urlopen=urlopen))
    monkeypatch.setattr("diptych.compat.pretrained.urllib", stub)
    return found


@pytest.mark.parametrize("url", [OPENAIS, OPEN_CLIPS, "https://example.org/any.pt"])
def test_an_address_is_fetched_once(web, tmp_path, url):
    web.answers = [Answer(CONTENT)]
    path = compat.download_pretrained_from_url(url, tmp_path)
    assert path == str(tmp_path / url.rpartition("/")[2])
    assert (tmp_path / path).read_bytes() == CONTENT
    assert compat.download_pretrained({"url": url}, cache_dir=tmp_path) == path
    assert compat.download_pretrained({"url": url, "hf_hub": "a/b"}, False, tmp_path) == path
    assert web.asked == [url]


@pytest.mark.parametrize("url", [OPENAIS, OPEN_CLIPS])
def test_another_file_is_fetched_again_and_never_kept(web, tmp_path, url):
    file = tmp_path / url.rpartition("/")[2]
    file.write_bytes(b"old")
    web.answers = [Answer(b"other"), Answer(CONTENT, 99), Answer(CONTENT)]
    for said in ("checksum", "7 of 99 bytes"):
        with pytest.raises(DownloadError, match=said) as error:
            compat.download_pretrained_from_url(url, tmp_path)
        assert isinstance(error.value, RuntimeError)  # as open_clip raises
        assert file.read_bytes() == b"old"
    compat.download_pretrained_from_url(url, tmp_path)
    assert file.read_bytes() == CONTENT


def test_what_is_no_address_or_cannot_be_reached(monkeypatch, tmp_path):
    def unreachable(url, timeout):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(DownloadError, match="no network.*download it yourself to"):
        compat.download_pretrained_from_url(OPENAIS, tmp_path)
    with pytest.raises(DownloadError, match="must begin with https"):
        compat.download_pretrained_from_url("file:///etc/hostname", tmp_path)
    with pytest.raises(DownloadError, match="names no file"):
        compat.download_pretrained_from_url("https://example.org/?file=x.pt", tmp_path)
    with pytest.raises(ConfigError, match="neither hf_hub nor url"):
        compat.download_pretrained({"mean": 1})


def test_a_saved_folder_loads_here_and_in_open_clip(tmp_path):
    model, tokenizer = ours_of("vit"), compat.get_tokenizer("ViT-B-32")
    save_for_hf(model, tokenizer, KINDS["vit"], tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"open_clip_model.safetensors", "open_clip_pytorch_model.bin", "vocab.json"} <= names
    said = json.loads((tmp_path / "open_clip_config.json").read_text())["preprocess_cfg"]
    assert said["interpolation"] == "bicubic"
    pixels = torch.randn(2, 3, 32, 32)
    for package in (compat, open_clip):
        made = package.create_model(f"local-dir:{tmp_path}").eval()
        torch.testing.assert_close(made.encode_image(pixels), model.encode_image(pixels))
    with pytest.raises(ConfigError, match="safe_serialization='no'"):
        save_for_hf(model, tokenizer, KINDS["vit"], tmp_path, "no")
    words = compat.SimpleTokenizer(additional_special_tokens=["<mask>"])
    with pytest.raises(ConfigError, match="additional_special_tokens"):
        words.save_pretrained(tmp_path)


def test_what_is_uploaded(monkeypatch, tmp_path):
    calls = {}

    def upload_folder(self, folder_path, **options):
        calls["files"] = {path.name for path in Path(folder_path).iterdir()}
        calls["config"] = json.loads(Path(folder_path, "open_clip_config.json").read_text())
        return calls.setdefault("options", options)

    api = huggingface_hub.HfApi
    made = SimpleNamespace(repo_id="me/tower")
    monkeypatch.setattr(api, "create_repo", lambda self, name, **options: made)
    monkeypatch.setattr(api, "file_exists", lambda self, *args, **options: False)
    monkeypatch.setattr(api, "upload_folder", upload_folder)
    torch.save(ours_of("quick").state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    cfg = {"model_cfg": KINDS["quick"], "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(cfg))
    name = f"local-dir:{tmp_path}"
    compat.push_pretrained_to_hf_hub(name, "", "tower", create_pr=True, hf_tokenizer_self=True)
    assert calls["options"]["repo_id"] == "me/tower"
    assert calls["options"]["create_pr"]
    assert {"README.md", "open_clip_model.safetensors", "tokenizer_config.json"} <= calls["files"]
    assert calls["config"]["model_cfg"]["quick_gelu"]
    assert calls["config"]["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "tower"
    assert calls["options"]["delete_patterns"] is None
    calls.clear()
    tiktokens = TikTokenTokenizer.__new__(TikTokenTokenizer)
    monkeypatch.setattr(tiktokens, "save_pretrained", lambda folder: {})
    compat.push_to_hf_hub(ours_of("quick"), tiktokens, KINDS["quick"], "tower")
    assert {"tokenizer_config.json", "merges.txt"} <= {*calls["options"]["delete_patterns"]}


def test_without_network_or_token_a_sentence(monkeypatch):
    def refused(self, name, **options):
        raise ConnectionError("the hub can't be reached")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refused)
    model, tokenizer = ours_of("vit"), compat.get_tokenizer("ViT-B-32")
    with pytest.raises(CheckpointError, match="can't be reached.*give token="):
        compat.push_to_hf_hub(model, tokenizer, KINDS["vit"], "me/tower")


CARD = {
    "tags": ["clip", "vision"],
    "license": "apache-2.0",
    "description": "A model.",
    "details": {"Dataset": "LAION", "Papers": ["one", "two"], "Sizes": {"layers": 2}},
    "usage": "Use it.",
    "comparison": "Better.",
    "citation": ["@a", "@b"],
}


@pytest.mark.parametrize("card", [{}, CARD, {"citation": "@a"}])
def test_a_readme_says_what_open_clips_says(card):
    ours, wanted = generate_readme(card, "tower"), theirs.generate_readme(dict(card), "tower")
    lines = [[line for line in text.splitlines() if line] for text in (ours, wanted)]
    assert lines[0] == lines[1]


def test_a_tokenizers_own_files_are_named_in_the_configuration(tmp_path):
    files = {"tiktoken_bpe_path": "open_clip_tiktoken/x.tiktoken"}
    visual = SimpleNamespace(image_mean=(0.5,), image_std=(0.5,), preprocess_cfg={})
    for given, expected in ((files, files), (("tokenizer_config.json",), {})):
        tokenizer = SimpleNamespace(save_pretrained=lambda folder, given=given: given)
        config = {"embed_dim": 8, "text_cfg": {"context_length": 77}}
        save_for_hf(SimpleNamespace(visual=visual), tokenizer, config, tmp_path, skip_weights=True)
        saved = json.loads((tmp_path / "open_clip_config.json").read_text())["model_cfg"]
        assert saved["text_cfg"] == {"context_length": 77} | expected
        assert config["text_cfg"] == {"context_length": 77}


def test_a_model_without_pictures_has_no_preprocessing(tmp_path):
    save_config_for_hf(SimpleNamespace(), tmp_path / "config.json", {"embed_dim": 8})
    assert json.loads((tmp_path / "config.json").read_text()) == {"model_cfg": {"embed_dim": 8}}
