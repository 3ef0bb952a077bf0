"""Shards in a bucket, a repository or on a web server, read by ranges through fsspec.

fsspec knows the services (`s3://`, `gs://`, `hf://`, `https://`, `memory://`, ...), and each has
its own package and its own places for credentials. Nothing of it is imported for local files.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from diptych.data.bounded_folder import BoundedFolder
from diptych.data.files import Elsewhere, Store, Unreachable, stamp_of
from diptych.data.pages import Pages
from diptych.data.retry import Retry, Transient
from diptych.data.tar import is_tar
from diptych.errors import ConfigError, DataError, first_line

_PATIENCE = 60.0
"""Seconds for one answer."""
_BUSY = (408, 425, 429)
"""Client errors after which HTTP has the same asked again later."""
_REFUSED = (401, 403)
_STATE = (
    *("size", "ETag", "etag", "md5Hash", "Content-MD5", "generation", "VersionId", "blob_id"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "created"),
)
"""What services say of a file's content."""
_BY_PIPE = "; read it through a command, such as pipe:curl -sSf ADDRESS"
_MANY = 16
"""Files of one folder from which on its list is asked for first."""
_SECRET = re.compile(r"^((?:https?)://)[^/@]*@|^([\w+.-]+://)[^/@:]*:[^/@]*@")
"""A name and password, or a token, before the host."""


def is_remote(path: str) -> bool:
    """Whether it is the address of a file elsewhere.

    >>> from diptych.data.remote import is_remote
    >>> is_remote("s3://bucket/0.tar"), is_remote("file:///data/0.tar"), is_remote("/data/0.tar")
    (True, False, False)
    """
    return "://" in path and not path.startswith("file://")


def shown(url: str) -> str:
    """The address without what may be a secret: a name and password, the query of a signed one.

    >>> from diptych.data.remote import shown
    >>> shown("https://me:secret@example.org/0.tar?X-Amz-Signature=1f")
    'https://example.org/0.tar?…'
    """
    if not is_remote(url):
        return url
    bare, query, _ = _SECRET.sub(r"\1\2", url).partition("?")
    return f"{bare}?…" if query else bare


def refuse_secrets(url: str) -> None:
    """Raises ConfigError for an address with a password in it."""
    if _SECRET.match(url):
        raise ConfigError(
            f"the address of {shown(url)} has a password or a token in it, which the run's files "
            "would show; give it to the service's own tools (docs/data.md says where)"
        )


class NoRanges(DataError):
    """A server gives whole files alone."""


@dataclass(frozen=True)
class RemoteFile(Elsewhere):
    """A file that fsspec finds. With `pages` what was read stays on this machine for a while."""

    url: str = field(repr=False)
    state: tuple[int, int]
    retry: Retry = Retry()
    pages: Pages | None = None

    def __str__(self) -> str:
        return shown(self.url)

    @property
    def size(self) -> int:
        return self.state[0]

    def read(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        if self.pages is None:
            return self.fetch(offset, end)
        name = f"{stamp_of(self.url):016x}{self.state[1]:016x}"
        return self.pages.read(name, self.size, offset, end, self.fetch)

    def fetch(self, start: int, end: int) -> bytes:
        """Its bytes from `start` to before `end`, in one request. Raises DataError."""

        def ask() -> bytes:
            with _explaining(self.url):
                filesystem, path = located(self.url)
                data = filesystem.cat_file(path, start=start, end=end, **_limits(filesystem))
            if len(data) > end - start:
                raise self._whole()
            if len(data) < end - start:
                raise Transient(
                    f"{self} gave {len(data):,} of {end - start:,} bytes from byte {start:,}"
                )
            return data

        return self.retry(ask, f"{self.url} {start}")

    def check_ranges(self) -> None:
        """Ask a web server for the last byte. Raises NoRanges where it would give all of them,
        which aren't waited for; DataError."""

        def ask() -> None:
            with _explaining(self.url):
                filesystem, path = located(self.url)
                options = {"block_size": 1, "cache_type": "none", "size": self.size}
                with filesystem.open(path, **options) as file:
                    file.seek(self.size - 1)
                    try:
                        file.read(1)
                    except ValueError:
                        raise self._whole() from None

        if self.url.startswith("http") and self.size > 1:
            self.retry(ask, self.url)

    def _whole(self) -> NoRanges:
        return NoRanges(
            f"{self}: its server gives the whole file where a part is asked for{_BY_PIPE}"
        )


class Remote(Store):
    """Files that fsspec finds; their paths are addresses (`path`). What was read is kept in `room`,
    in pages, where all fits in, or files are read `forward`."""

    def __init__(self, retry: Retry, room: BoundedFolder, forward: bool):
        super().__init__()
        self._retry, self._room, self._forward = retry, room, forward
        self._pages: Pages | None = None
        self._addresses = dict[str, str]()

    def path(self, url: str) -> str:
        """What the file at this address is called here, and in its index, which others may read:
        the query, which may be a signature, stands there as its hash."""
        bare, _, query = url.partition("?")
        path = f"{bare}?{stamp_of(query):016x}" if query else bare
        self._addresses[path] = url
        return path

    def _state(self, path: str) -> tuple[int, int]:
        url = self._addresses[path]

        def ask() -> dict[str, Any]:
            with _explaining(url):
                filesystem, place = located(url)
                return filesystem.info(place)

        found = self._retry(ask, url)
        if not isinstance(size := found.get("size"), int):
            raise Unreachable(f"{shown(url)}: its server doesn't say how long it is{_BY_PIPE}")
        return size, stamp_of(" ".join(f"{key}={found[key]}" for key in _STATE if key in found))

    def check(self, path: str) -> None:
        with contextlib.suppress(Unreachable):  # of this one alone, maybe
            state = self.state(path)
            self.file(path, state).check_ranges()

    def file(self, path: str, state: tuple[int, int]) -> RemoteFile:
        return RemoteFile(self._addresses[path], state, self._retry, self._pages)

    def opened(self, size: int) -> str:
        # Of more than can be kept, read here and there, whole pages would be asked for and dropped
        # for one sample each.
        if self._forward or not self._room.most or size <= self._room.most:
            self._pages = Pages(self._room)
        return ""


def located(url: str) -> tuple[Any, str]:
    """fsspec's file system for the address, of this process and thread, and the path in it."""
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ConfigError(
            f"{url.partition('://')[0]}:// needs another package: pip install 'diptych[remote]' "
            f"({first_line(error)})"
        ) from None
    except ValueError as error:
        raise DataError(f"{shown(url)}: {_cleaned(error, url)}") from None


def find(pattern: str, retry: Retry) -> list[str]:
    """The addresses that one with `*` stands for, or the tars in a folder; a tar's is itself.
    Raises DataError where there are none."""
    path = shown(pattern).removesuffix("?…")
    if not any(letter in path for letter in "*["):
        if is_tar(path):
            return [pattern]
        pattern = f"{pattern.rstrip('/')}/*.tar"

    def ask() -> list[str]:
        with _explaining(pattern):
            filesystem, place = located(pattern)
            return [filesystem.unstrip_protocol(each) for each in filesystem.glob(place)]

    found = sorted(filter(is_tar, retry(ask, pattern)))
    if not found:
        raise DataError(
            f"{shown(pattern)} stands for no shards (.tar), the only files that are read from "
            "elsewhere; copy others to this machine first"
        )
    return found


def list_once(urls: Sequence[str]) -> None:
    """Have the service list the folders that hold many of these, so that it isn't asked of each."""
    folders = Counter(url.rpartition("/")[0] for url in urls if not url.startswith("http"))
    for folder, count in folders.items():
        if count > _MANY:
            with contextlib.suppress(Exception):  # then each is asked of, and that says why
                filesystem, place = located(folder)
                filesystem.ls(place)


@contextlib.contextmanager
def _explaining(url: str) -> Generator[None, None, None]:
    """What goes wrong within is a DataError in one sentence, without secrets, and Transient where
    it may go right the next time."""
    try:
        yield
    except (DataError, ConfigError):
        raise
    except Exception as raised:  # noqa: BLE001  (each service's package has its own)
        # fsspec's HTTP calls everything "not found" where it asks for a length.
        cause = raised.__cause__ if isinstance(raised, FileNotFoundError) else None
        error = cause if isinstance(cause, Exception) else raised
        status, name = _status(error), shown(url)
        if isinstance(error, FileNotFoundError) or status == 404:
            raise Unreachable(f"{name} doesn't exist") from None
        if isinstance(error, PermissionError) or status in _REFUSED:
            raise Unreachable(
                f"{name} may not be read ({_cleaned(error, url)}); credentials are taken from "
                "where the service's own tools keep them (docs/data.md)"
            ) from None
        reason = f"{name} can't be read: {_cleaned(error, url)}"
        if status is not None and 400 <= status < 500 and status not in _BUSY:
            raise Unreachable(reason) from None
        raise Transient(reason) from None


def _status(error: Exception) -> int | None:
    """HTTP's, where the error has one."""
    status = getattr(error, "status", None)  # aiohttp's, gcsfs's; the other is huggingface_hub's
    status = getattr(getattr(error, "response", None), "status_code", status)
    return status if isinstance(status, int) else None


def _cleaned(error: Exception, url: str) -> str:
    """Its first line, or its kind, without what the address holds that isn't shown."""
    words = first_line(error) or type(error).__name__
    query = url.partition("#")[0].partition("?")[2]
    user = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    for secret in filter(None, (url, query, user)):
        words = words.replace(secret, shown(url) if secret == url else "…")
    return words


def _limits(filesystem: Any) -> dict[str, float]:
    from fsspec.asyn import AsyncFileSystem

    return {"timeout": _PATIENCE} if isinstance(filesystem, AsyncFileSystem) else {}
