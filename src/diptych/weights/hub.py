"""Files from the Hugging Face hub, kept in its cache."""

import contextlib
import difflib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple

from diptych.errors import DownloadError, first_line
from diptych.weights import native
from diptych.weights.read import shards

HUB = "hf-hub:"
_SETTINGS = ("*.json", "vocab.txt", "merges.txt", "*.model")
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".pth.tar", ".ckpt")
"""Of weights under any other name."""
_SHA256_LENGTH = 64
_LISTED = 5
"""Models of the cache in a sentence."""


class Repo(NamedTuple):
    """A model repository of the hub at a revision (branch, tag or commit)."""

    repo_id: str
    revision: str
    endpoint: str | None
    cache_dir: Path | None

    def __str__(self) -> str:
        return f"{HUB}{self.repo_id}" + (f"@{self.revision}" if self.revision != "main" else "")


def fetch(
    name: str,
    *,
    weight_files: Sequence[str],
    file: str = "",
    sha256: str = "",
    endpoint: str | None = None,
    cache_dir: Path | None = None,
) -> Path:
    """Downloads `hf-hub:org/name[@revision]` once; says in which folder its files lie, or where the
    one `file` does.

    Of the weights one of `weight_files` is fetched, the first that there is, or the file that
    stands behind: `hf-hub:org/name/file`. A connection that breaks is taken up where it broke.
    Weights are compared with the hub's sha256, or with `sha256`. Without a network, what was
    fetched before is used. `endpoint` and `cache_dir` None: huggingface_hub's. Raises
    DownloadError, which says what to do.
    """
    place, _, revision = name.removeprefix(HUB).partition("@")
    owner, _, rest = place.partition("/")
    model, _, named = rest.partition("/")
    if not owner or not model:
        raise DownloadError(
            f"{name} names no model of the hub; write hf-hub:org/name or hf-hub:org/name@revision"
        )
    repo = Repo(f"{owner}/{model}", revision or "main", endpoint, cache_dir)
    folder = _snapshot(repo, (file,) if file else (*_SETTINGS, *filter(None, [named])))
    if file or named:
        return _present(repo, folder / (file or named), sha256)
    repo = repo._replace(revision=folder.name)  # one commit for all files
    try:
        return (_weights(repo, weight_files) or _only(repo, weight_files)).parent
    except DownloadError:
        here = [path for path in folder.glob("*") if path.name.endswith(SUFFIXES)]
        if len(here) != 1:
            raise
        # Fetched before, under a name that only the hub could tell.
        return _checked(repo, here[0]).parent


def _snapshot(repo: Repo, patterns: tuple[str, ...]) -> Path:
    """The folder of the revision's commit, with the files that match."""
    from huggingface_hub import snapshot_download

    with _explained(repo, "the model"):
        return Path(snapshot_download(allow_patterns=list(patterns), **repo._asdict()))


def _weights(repo: Repo, weight_files: Sequence[str]) -> Path | None:
    """The preferred weights of a commit: those that are here, else those that the hub has; None if
    it has none."""
    for get in (_cached, _download):
        for name in weight_files:
            path = get(repo, name)
            if path and all(get(repo, shard) for shard in _shards(path)):
                return path
    return None


def _only(repo: Repo, weight_files: Sequence[str]) -> Path:
    """The one file of weights that a commit holds under any other name."""
    from huggingface_hub import HfApi

    with _explained(repo, "the list of files"):
        listed = HfApi(endpoint=repo.endpoint).list_repo_files(repo.repo_id, revision=repo.revision)
    files = sorted(file for file in listed if file.endswith(SUFFIXES))
    if not files:
        raise DownloadError(
            f"{repo} has none of {', '.join(dict.fromkeys(weight_files))}, nor other weights"
        )
    if len(files) > 1:
        raise DownloadError(
            f"{repo} holds {len(files)} weight files; name one, "
            f"as in {HUB}{repo.repo_id}/{files[0]}"
        )
    return _present(repo, _snapshot(repo, (files[0],)) / files[0])


def _there(repo: Repo) -> str:
    """Which models the cache holds, those first whose names are like this one's; empty: none."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        cached = scan_cache_dir(repo.cache_dir).repos
    except CacheNotFound:
        return ""
    found = sorted(
        each.repo_id for each in cached if each.repo_type == "model" and each.size_on_disk
    )
    near = difflib.get_close_matches(repo.repo_id, found, _LISTED)
    shown = [*near, *(name for name in found if name not in near)]
    more = ", …" if len(shown) > _LISTED else ""
    return f" (in the cache: {', '.join(shown[:_LISTED])}{more})" if shown else ""


def _present(repo: Repo, path: Path, sha256: str = "") -> Path:
    if not path.is_file():
        raise DownloadError(f"{repo} has no file {path.name}")
    return _checked(repo, path, sha256)


def _shards(path: Path) -> list[str]:
    return list(shards(path)) if path.name.endswith(".index.json") else []


def _cached(repo: Repo, file: str) -> Path | None:
    """The file if it was fetched before, else None."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(
        repo.repo_id, file, cache_dir=repo.cache_dir, revision=repo.revision
    )
    return _checked(repo, Path(path)) if isinstance(path, str) else None


def _download(repo: Repo, file: str) -> Path | None:
    """The file, or None if the repository doesn't have it."""
    from huggingface_hub import errors, hf_hub_download

    with _explained(repo, file):
        try:
            return _checked(repo, Path(hf_hub_download(filename=file, **repo._asdict())))
        except errors.RemoteEntryNotFoundError:
            return None


def _checked(repo: Repo, path: Path, sha256: str = "") -> Path:
    blob = path.resolve()
    # The cache names a large file by its sha256.
    expected = sha256 or (blob.name if len(blob.name) == _SHA256_LENGTH else "")
    if expected and native.sha256(path) != expected:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise DownloadError(
            f"{path.name} of {repo} came without its sha256 {expected[:12]}… and was removed; "
            "try again"
        )
    return path


@contextlib.contextmanager
def _explained(repo: Repo, what: str) -> Generator[None, None, None]:
    """Turns huggingface_hub's errors into one sentence each."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"{repo} wants its terms accepted; do that on its page, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"the hub has no model {repo.repo_id}, or it is private: then `hf auth login` first"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(f"{repo.repo_id} has no revision {repo.revision}") from error
    except errors.LocalEntryNotFoundError as error:
        raise DownloadError(
            f"{repo} was not fetched before and the hub can't be reached; connect to the network "
            f"and try again, or give a local file{_there(repo)}"
        ) from error
    except errors.HFValidationError as error:
        raise DownloadError(f"{repo} can't be the name of a model: {error}") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise DownloadError(
            f"{what} of {repo} could not be downloaded ({first_line(error)}); try again"
        ) from error
