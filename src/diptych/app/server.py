"""A place to listen at, and the app that answers there until it is stopped."""

import contextlib
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn

from diptych.app.answers import Answers
from diptych.app.build import build
from diptych.app.doubles import Doubles
from diptych.app.guard import Door
from diptych.app.library import Library
from diptych.app.model import Model
from diptych.app.patience import Impatient
from diptych.app.pictures import Pictures
from diptych.app.updating import Updating
from diptych.data.bounded_folder import BoundedFolder
from diptych.encoder import Encoder
from diptych.errors import ConfigError

_NEXT = 100
"""Ports after one in use of which the first free one is named."""
_WAIT = 2.0
"""Seconds that what is under way has at the end."""


class App:
    """An index, its model, and what is kept for them."""

    def __init__(
        self,
        folder: str,
        encoder: Encoder,
        kept: Path,
        kept_bytes: float,
        say: Callable[[str], object],
    ):
        """`kept`: the folder of the thumbnails, which take `kept_bytes` at most; `say` tells who
        started the app what happens. Raises DataError or ConfigError where the index can't be
        opened."""
        self.library = Library(folder, encoder, say)
        with contextlib.suppress(OSError):  # said when something is to be kept there
            kept.mkdir(0o700, parents=True, exist_ok=True)
        room = BoundedFolder(kept, kept_bytes, "choose another --cache")
        pictures = Pictures(lambda: self.library.shelf.places, room)
        self.updating = Updating(self.library, encoder)
        self.doubles = Doubles(self.library)
        self.answers = Answers(self.library, Model(encoder), pictures, self.updating, self.doubles)

    def serve(
        self, door: Door, listener: socket.socket, stop: threading.Event | None = None
    ) -> None:
        """Answer until `stop`, or until the thread is interrupted; an update that is under way
        keeps what it has done."""
        config = uvicorn.Config(
            build(self.answers, door),
            http=Impatient,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            limit_concurrency=256,
        )
        server, stop = uvicorn.Server(config), stop or threading.Event()
        # Not in the main thread: there uvicorn would take the signals, which others answer.
        work = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="server", daemon=True
        )
        watch = threading.Thread(target=self.library.watch, args=(stop,), name="watch", daemon=True)
        try:
            work.start()
            watch.start()
            while work.is_alive() and not stop.wait(1.0):
                pass
        finally:
            stop.set()
            # Connections that nobody closes are cut off after a second, which is no error.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            server.should_exit = True
            self.doubles.stop()
            self.updating.stop(wait=_WAIT)
            work.join(_WAIT)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0: at any free one. Raises ConfigError for a host that
    isn't this machine, and for a port that is in use, with the next one that is free."""
    try:
        return _bound(host, port)
    except (socket.gaierror, UnicodeError) as error:  # a..b is none that could be asked for
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"--host {host} is no name or number of this machine ({why})") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            free = next(filter(lambda each: _is_free(host, each), _after(port)), 0)
            raise ConfigError(
                f"port {port} is in use, maybe by another `diptych app`; --port {free} is free"
            ) from error
        why = os.strerror(error.errno) if error.errno else str(error)
        advice = " (those below 1024 are the system's)" if error.errno == errno.EACCES else ""
        raise ConfigError(
            f"nobody may listen at --host {host} --port {port}: {why}{advice}; choose another"
        ) from error


def _after(port: int) -> range:
    return range(port + 1, min(port + _NEXT, 65536))


def _is_free(host: str, port: int) -> bool:
    try:
        with contextlib.closing(_bound(host, port)):
            return True
    except OSError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # where it doesn't mean that two may listen
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        return listener
    except BaseException:
        listener.close()
        raise
