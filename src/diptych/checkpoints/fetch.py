"""Files from the Hugging Face hub, kept in its cache."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from diptych.checkpoints import native
from diptych.checkpoints.formats import FORMATS
from diptych.checkpoints.read import read_json
from diptych.errors import DownloadError

HUB = "hf-hub:"
_SETTINGS = ("*.json", "vocab.txt", "merges.txt", "*.model")
_WEIGHTS = tuple(name for found in FORMATS for name in found.weight_files)
_SHA256_LENGTH = 64


class Repo(NamedTuple):
    """A model repository of the hub at a revision (branch, tag or commit)."""

    repo_id: str
    revision: str
    endpoint: str | None
    cache_dir: Path | None

    def __str__(self) -> str:
        return f"{HUB}{self.repo_id}" + (f"@{self.revision}" if self.revision != "main" else "")


def fetch(
    name: str, *, file: str = "", sha256: str = "", endpoint: str | None = None, cache_dir: Path | None = None
) -> Path:
    """Downloads `hf-hub:org/name[@revision]` once; says in which folder its files lie, or where the one `file` does.

    Of the weights only one format is fetched. A connection that breaks is taken up where it broke. Weights are compared
    with the hub's sha256, or with `sha256`. Without a network, what was fetched before is used. `endpoint` and
    `cache_dir` None: huggingface_hub's. Raises DownloadError, which says what to do.
    """
    repo_id, _, revision = name.removeprefix(HUB).partition("@")
    if repo_id.count("/") != 1 or not all(repo_id.split("/")):
        raise DownloadError(f"{name} names no model of the hub; write hf-hub:org/name or hf-hub:org/name@revision")
    repo = Repo(repo_id, revision or "main", endpoint, cache_dir)
    if file:
        return _download(repo, file, sha256)
    repo = repo._replace(revision=_settings(repo).name)  # one commit for all files
    return _weights(repo).parent


def _settings(repo: Repo) -> Path:
    """The folder of the revision's commit, with everything small in it."""
    from huggingface_hub import snapshot_download

    with _explained(repo, "its files"):
        return Path(snapshot_download(allow_patterns=list(_SETTINGS), **repo._asdict()))


def _weights(repo: Repo) -> Path:
    from huggingface_hub.errors import EntryNotFoundError

    missing = None
    for name in _WEIGHTS:
        try:
            path = _download(repo, name)
        except DownloadError as error:
            if not isinstance(error.__cause__, EntryNotFoundError):
                raise
            missing = error
            continue
        if name.endswith(".index.json"):
            for shard in sorted(set(read_json(path).get("weight_map", {}).values())):
                _download(repo, shard)
        return path
    raise DownloadError(f"{repo} has none of {', '.join(_WEIGHTS)} within reach ({missing})") from missing


def _download(repo: Repo, file: str, sha256: str = "") -> Path:
    from huggingface_hub import hf_hub_download

    with _explained(repo, file):
        path = Path(hf_hub_download(filename=file, **repo._asdict()))
    blob = path.resolve()
    # The cache names a large file by its sha256.
    expected = sha256 or (blob.name if len(blob.name) == _SHA256_LENGTH else "")
    if expected and native.sha256(path) != expected:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise DownloadError(
            f"{file} of {repo} didn't arrive with the sha256 {expected[:12]}… and was removed; try again"
        )
    return path


@contextlib.contextmanager
def _explained(repo: Repo, what: str) -> Iterator[None]:
    """Turns huggingface_hub's errors into one sentence each."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise DownloadError(f"{repo} wants its terms accepted; do that on its page, then `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"the hub has no model {repo.repo_id}, or it is private: then `hf auth login` first"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(f"{repo.repo_id} has no revision {repo.revision}") from error
    except errors.LocalEntryNotFoundError as error:
        raise DownloadError(
            f"{what} of {repo} was not fetched before and the hub can't be reached; "
            "connect to the network and try again, or give a local file"
        ) from error
    except errors.EntryNotFoundError as error:
        raise DownloadError(f"{repo} has no file {what}") from error
    except errors.HFValidationError as error:
        raise DownloadError(f"{repo} can't be the name of a model: {error}") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise DownloadError(f"{what} of {repo} could not be downloaded: {error}; try again") from error
