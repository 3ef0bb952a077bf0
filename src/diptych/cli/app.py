"""diptych app photos.index"""

import ipaddress
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from diptych.cli.options import OfIndex
from diptych.cli.parse import parse
from diptych.cli.show import say
from diptych.config.ranges import Above, Range
from diptych.errors import ConfigError
from diptych.writable import check_local

_NEEDS = ("starlette", "uvicorn")


@dataclass(frozen=True, kw_only=True)
class App(OfIndex):
    """Search an index in the browser, with texts and pictures.

    diptych app photos.index

    Prints an address to open. It holds a token, without which nobody gets an answer, and is good
    for this machine alone, until the app ends (Ctrl-C). --host 0.0.0.0 lets others in who have it.
    """

    port: Annotated[int, Range(0, 65535)] = 8765
    """Where to listen; 0: at any free port."""
    host: str = "127.0.0.1"
    """Whom to listen to: this machine alone; 0.0.0.0: who has the address, which travels in the
    clear."""
    cache: str = "~/.cache/diptych/thumbnails"
    """Folder of the thumbnails."""
    cache_limit: Above = 1.0
    """Gigabytes that they may take; the ones used least recently make room."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it, until it is stopped."""
    options = parse(App, "app", arguments)
    if missing := [name for name in _NEEDS if find_spec(name) is None]:
        raise ConfigError(
            f"`diptych app` needs {' and '.join(missing)}: pip install 'diptych[app]'"
        )
    check_local(options.cache, "--cache")
    from diptych.app import App as Served
    from diptych.app import Door, listen
    from diptych.distributed import refuse_many

    refuse_many("diptych app")
    listener = listen(options.host, options.port)  # before the model is loaded
    with listener:
        index = options.open()
        app = Served(
            options.index,
            index.encoder,
            Path(options.cache).expanduser(),
            options.cache_limit * 1e9,
            lambda sentence: say(sentence, error=True),
        )
        door = Door(port=listener.getsockname()[1], host=options.host)
        say(f"{options.index}: {len(index):,} pictures. Open this address; Ctrl-C ends the app.")
        if not _is_own(options.host):
            say(
                "Others who get this address, or listen on the network, can search, too: it isn't "
                "encrypted.",
                error=True,
            )
        say(door.address)
        sys.stdout.flush()  # a program that started it reads it now
        app.serve(door, listener)


def _is_own(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
