"""Fetching, against a small server on this machine that speaks the hub's download protocol."""

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import constants, file_download
from safetensors.torch import load, save

from diptych import pretrained
from diptych.checkpoints import convert, fetch, load_model
from diptych.checkpoints import locate as locating
from diptych.errors import DownloadError
from diptych.pretrained import Entry, Weights
from diptych.weights import native
from diptych.weights.native import save_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories of files, what was asked for, and the faults to commit."""

    def __init__(self):
        self.repos: dict[str, dict[str, bytes]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.cut: dict[str, int] = {}
        """file -> break the connection once, after so many bytes."""
        self.lie: set[str] = set()
        """Files that arrive with a flipped bit."""
        self.gated: set[str] = set()
        self.endpoint = ""

    def asked(self, method: str) -> list[str]:
        return [
            path.rsplit("/", 1)[1]
            for kind, path, _ in self.requests
            if kind == method and "/resolve/" in path
        ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.api("/".join(parts[2:4]), parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), body)
        else:
            self.refuse(404)

    def api(self, repo: str, rest: list[str]) -> None:
        if repo not in self.hub.repos or repo in self.hub.gated:
            return self.refuse(401, "GatedRepo" if repo in self.hub.gated else "RepoNotFound")
        if len(rest) > 1 and rest[1] not in ("main", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        files = self.hub.repos[repo]
        if rest[:1] == ["tree"]:
            entries = [
                {"type": "file", "path": n, "size": len(c), "oid": self.etag(c)}
                for n, c in files.items()
            ]
            return self.json(entries)
        siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
        return self.json(
            {
                "id": repo,
                "modelId": repo,
                "sha": COMMIT,
                "siblings": siblings,
                "private": False,
                "tags": [],
            }
        )

    def file(self, repo: str, revision: str, name: str, body: bool) -> None:
        content = self.hub.repos.get(repo, {}).get(name)
        if revision not in ("main", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        if content is None:
            return self.refuse(404, "EntryNotFound")
        total = len(content)
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{self.etag(content)}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(total - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        if not body:
            return None
        if name in self.hub.lie:
            content = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
        stop = self.hub.cut.pop(name, total)
        self.wfile.write(content[start:stop])
        if stop < total:
            self.close_connection = True
        return None

    def json(self, value) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    @staticmethod
    def etag(content: bytes) -> str:
        """As the hub: sha256 for large files, git's sha1 for small text."""
        return (
            hashlib.sha256(content).hexdigest()
            if len(content) > 2000
            else hashlib.sha1(content).hexdigest()
        )


@contextlib.contextmanager
def serving(state: Hub):
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": state}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server(tmp_path, random_model, vit, monkeypatch, quiet):
    """A hub with a native and a transformers repository, both with files that nobody needs."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    model = random_model(vit)
    save_model(tmp_path / "made" / "native", model)
    convert(tmp_path / "made" / "native", "transformers", tmp_path / "made" / "transformers")
    convert(tmp_path / "made" / "native", "open-clip", tmp_path / "made" / "open-clip")
    state = Hub()
    for name in ("native", "transformers", "open-clip"):
        files = {path.name: path.read_bytes() for path in (tmp_path / "made" / name).iterdir()}
        state.repos[f"org/{name}"] = files | {
            "flax_model.msgpack": b"x" * 5000,
            "README.md": b"# A model",
        }
    state.repos["org/transformers"]["pytorch_model.bin"] = b"y" * 5000
    with serving(state):
        yield state


def test_every_layout_is_fetched_and_loads(server, tmp_path, random_model, vit):
    state = random_model(vit).state_dict()
    for name in ("native", "transformers", "open-clip"):
        folder = fetch(f"hf-hub:org/{name}", endpoint=server.endpoint, cache_dir=tmp_path / "cache")
        loaded, _ = load_model(folder)
        assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.state_dict().items())
    assert not {"flax_model.msgpack", "README.md", "pytorch_model.bin"} & set(server.asked("GET"))


def test_a_name_is_enough(server, tmp_path, monkeypatch):
    """`load_model("hf-hub:org/name")`, with the hub's address from huggingface_hub's own
    settings."""
    monkeypatch.setattr(
        locating,
        "fetch",
        lambda name, cache_dir: fetch(name, endpoint=server.endpoint, cache_dir=tmp_path / "cache"),
    )
    _, meta = load_model("hf-hub:org/transformers@main")
    assert meta.provenance["name"] == "hf-hub:org/transformers@main"
    assert meta.provenance["format"] == "transformers"


@pytest.mark.parametrize("name", ["small", "hf-hub:org/open-clip/open_clip_model.safetensors"])
def test_a_published_name(server, tmp_path, monkeypatch, vit, name):
    weights = Weights(
        repo="org/open-clip", file="open_clip_model.safetensors", format="open-clip", licence="MIT"
    )
    entry = Entry(name="small", config=vit, weights=(weights,))
    for asked, answer in {"entry": entry, "get": vit, "weights": weights}.items():
        monkeypatch.setattr(pretrained, asked, lambda name, answer=answer: answer)
    where = {"endpoint": server.endpoint, "cache_dir": tmp_path / "cache"}
    monkeypatch.setattr(
        locating,
        "fetch",
        lambda name, file, sha256, cache_dir: fetch(name, file=file, sha256=sha256, **where),
    )
    _, meta = load_model(name)
    assert meta.config == vit
    assert meta.provenance["repo"] == "org/open-clip"
    assert meta.provenance["licence"] == "MIT"


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path, monkeypatch):
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # what is lost at a break
    server.cut["model.safetensors"] = 100_000
    folder = fetch("hf-hub:org/native", endpoint=server.endpoint, cache_dir=tmp_path / "cache")
    load_model(folder)
    gets = [
        asked
        for kind, path, asked in server.requests
        if kind == "GET" and path.endswith("model.safetensors")
    ]
    assert gets[0] == ""
    assert gets[1].startswith("bytes=100000-")


def test_cached_files_serve_without_a_network(server, tmp_path):
    cache = tmp_path / "cache"
    first = fetch("hf-hub:org/transformers", endpoint=server.endpoint, cache_dir=cache)
    nobody = "http://127.0.0.1:9"
    assert fetch("hf-hub:org/transformers", endpoint=nobody, cache_dir=cache) == first
    load_model(first)
    one = {"file": "model.safetensors", "cache_dir": cache}
    assert fetch("hf-hub:org/transformers", endpoint=nobody, **one) == first / "model.safetensors"
    server.requests.clear()
    assert fetch("hf-hub:org/transformers", endpoint=server.endpoint, cache_dir=cache) == first
    assert server.asked("GET") == []  # nothing is downloaded twice


def test_a_model_of_timms_is_fetched_and_kept(server, tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    options = {"img_size": 32, "embed_dim": 32, "depth": 1, "num_heads": 2}
    made = timm.create_model("vit_base_patch16_siglip_224", num_classes=0, **options).eval()
    said = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_mode": "squash"}
    content = {"architecture": "vit_base_patch16_siglip_224", "model_args": options}
    server.repos["timm/vit_base_patch16_siglip_224.mine"] = {
        "config.json": json.dumps(content | {"pretrained_cfg": said}).encode(),
        "model.safetensors": save(made.state_dict()),
        "pytorch_model.bin": b"z" * 5000,
        "open_clip_model.safetensors.txt": b"-",
    }
    where = {"endpoint": server.endpoint, "cache_dir": tmp_path / "cache"}
    monkeypatch.setattr(locating, "fetch", lambda name, cache_dir: fetch(name, **where))
    name = "hf-hub:timm/vit_base_patch16_siglip_224.mine"
    model, meta = load_model(name)
    assert (meta.provenance["name"], meta.provenance["format"]) == (name, "timm")
    assert (meta.config.image.width, meta.config.preprocess.resize) == (32, "squash")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.encode_image(pixels), made(pixels), atol=1e-5, rtol=1e-5)
    where["endpoint"] = "http://127.0.0.1:9"
    assert load_model(name).config == meta.config  # from the cache
    with pytest.raises(
        DownloadError, match=r"\(in the cache: timm/vit_base_patch16_siglip_224.mine"
    ):
        load_model("hf-hub:timm/vit_base_patch16_siglip_256.mine")


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_without_network_or_cache_the_sentence_says_what_to_do(server, tmp_path, file):
    with pytest.raises(DownloadError, match="can't be reached; connect to the network") as caught:
        fetch(
            "hf-hub:org/native",
            file=file,
            endpoint="http://127.0.0.1:9",
            cache_dir=tmp_path / "cache",
        )
    assert "\n" not in str(caught.value)


def test_a_wrong_sha256_is_refused_and_not_kept(server, tmp_path):
    server.lie.add("model.safetensors")
    with pytest.raises(DownloadError, match="sha256"):
        fetch("hf-hub:org/transformers", endpoint=server.endpoint, cache_dir=tmp_path / "cache")
    server.lie.clear()
    load_model(
        fetch("hf-hub:org/transformers", endpoint=server.endpoint, cache_dir=tmp_path / "cache")
    )


def test_one_file_with_a_known_sha256(server, tmp_path):
    where = {"endpoint": server.endpoint, "cache_dir": tmp_path / "cache"}
    content = server.repos["org/open-clip"]["open_clip_model.safetensors"]
    right = hashlib.sha256(content).hexdigest()
    path = fetch("hf-hub:org/open-clip", file="open_clip_model.safetensors", sha256=right, **where)
    assert native.sha256(path) == right
    assert server.asked("GET") == ["open_clip_model.safetensors"]
    with pytest.raises(DownloadError, match="sha256"):
        fetch("hf-hub:org/open-clip", file="open_clip_model.safetensors", sha256="0" * 64, **where)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hf-hub:org/absent", "no model org/absent"),
        ("hf-hub:org/native@v9", "no revision v9"),
        ("hf-hub:org/gated", "terms accepted"),
        ("hf-hub:only-a-name", "names no model"),
        ("hf-hub:org/bad name", "can't be the name"),
        ("hf-hub:org/empty", "has none of"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(server, tmp_path, name, says):
    server.repos |= {"org/gated": {}, "org/empty": {"README.md": b""}}
    server.gated.add("org/gated")
    with pytest.raises(DownloadError, match=says) as caught:
        fetch(name, endpoint=server.endpoint, cache_dir=tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_one_file_that_is_absent(server, tmp_path):
    with pytest.raises(DownloadError, match=r"has no file other\.bin"):
        fetch(
            "hf-hub:org/native",
            file="other.bin",
            endpoint=server.endpoint,
            cache_dir=tmp_path / "cache",
        )


def test_weights_under_any_name(server, tmp_path, random_model, vit, monkeypatch):
    """A repository with one other file of weights needs no more than its name; of several, one is
    named."""
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    files = server.repos["org/open-clip"]
    files["ViT_special.safetensors"] = files.pop("open_clip_model.safetensors")
    expected = random_model(vit).state_dict()
    for endpoint in (server.endpoint, "http://127.0.0.1:9"):  # the second time without a network
        where = {"endpoint": endpoint, "cache_dir": tmp_path / "cache"}
        for name in ("hf-hub:org/open-clip", "hf-hub:org/open-clip/ViT_special.safetensors@main"):
            path = fetch(name, **where)
            state = load_model(path).model.state_dict()
            assert all(torch.equal(tensor, state[key]) for key, tensor in expected.items())
    files["another.pt"] = b"z" * 5000
    where = {"endpoint": server.endpoint, "cache_dir": tmp_path / "other"}
    with pytest.raises(
        DownloadError,
        match="holds 2 weight files; name one, as in hf-hub:org/open-clip/ViT_special",
    ):
        fetch("hf-hub:org/open-clip", **where)
    state = load_model(
        fetch("hf-hub:org/open-clip/ViT_special.safetensors", **where)
    ).model.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in expected.items())
    with pytest.raises(DownloadError, match="has no file third.pt"):
        fetch("hf-hub:org/open-clip/third.pt", **where)


def test_shards(server, tmp_path, random_model, vit):
    files = server.repos["org/transformers"]
    tensors = load(files.pop("model.safetensors"))
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[:20], "model-2.safetensors": names[20:]}
    for shard, content in shards.items():
        files[shard] = save({name: tensors[name] for name in content})
    index = {"weight_map": {name: shard for shard, content in shards.items() for name in content}}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    del files["pytorch_model.bin"]
    for endpoint in (server.endpoint, "http://127.0.0.1:9"):
        folder = fetch("hf-hub:org/transformers", endpoint=endpoint, cache_dir=tmp_path / "cache")
        state = load_model(folder).model.state_dict()
        assert torch.equal(state["logit_scale"], random_model(vit).state_dict()["logit_scale"])
