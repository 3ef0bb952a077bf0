"""Stores of shards that aren't simply there, as the settings of a run have them."""

import itertools
import warnings
from collections.abc import Sequence

from diptych.config import DataConfig
from diptych.data.bounded_folder import BoundedFolder
from diptych.data.braces import expand_braces
from diptych.data.files import Store, Unreachable
from diptych.data.remote import Remote, find, list_once, refuse_secrets
from diptych.data.retry import Retry, Transient
from diptych.data.spool import Pipes, Spool, cache_folder
from diptych.errors import DataWarning


def piped(commands: Sequence[str], config: DataConfig, flags: str) -> tuple[list[str], Store]:
    """The paths of these commands' outputs, and the store that has them."""
    spool = Spool(
        folder=cache_folder(config) / "pipes",
        timeout=config.pipe_timeout,
        most=config.pipe_limit * 1e9,
        flags=flags if flags == "--data." else "",
        retry=Retry(config.retries),
    )
    new = [command for command in commands if not spool.known(command)]
    if len(new) > 1:
        warnings.warn(
            f"the outputs of {len(new):,} commands (pipe:{new[0]}, …) are copied to "
            f"{spool.folder} before anything is read, and kept there while there is room",
            DataWarning,
            stacklevel=2,
        )
    return [f"pipe:{command}" for command in commands], Pipes(spool)


def remote(path: str, config: DataConfig) -> tuple[list[str], Store]:
    """The addresses of the shards at a remote address with braces and `*`, or in a folder, and the
    store that has them. Raises DataError where there are none, or the first can't be had after all
    tries."""
    refuse_secrets(path)
    retry = Retry(config.retries)
    found = (find(each, retry) for each in expand_braces(path))
    urls = list(itertools.chain.from_iterable(found))
    room = BoundedFolder(cache_folder(config) / "remote", config.remote_limit * 1e9)
    store = Remote(retry, room, forward=config.consecutive > 1)
    paths = [store.path(url) for url in urls]
    try:
        store.state(paths[0])
    except Transient:  # a server that is down: all others would wait for it, too
        raise
    except Unreachable:
        pass  # this one alone, maybe
    list_once(urls)
    return paths, store
