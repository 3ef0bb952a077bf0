"""Files and folders that appear whole or not at all, and that last through a power cut.

Everything that promises so is written by this room, in the one order in which file systems keep it
(Pillai et al. 2014, "All File Systems Are Not Created Equal"): written under another name, flushed,
renamed, and then the folder that holds the name flushed. Only after that may what it replaces be
deleted. A kill leaves a hidden `.NAME.….partial` at most, which the next writer of `NAME` removes,
and `sweep`. Where two processes would write the same, one of them holds a `lock`.
"""

from diptych.durable.disk import by_library, naming, sync
from diptych.durable.locks import lock, waiting_lock
from diptych.durable.whole import (
    abandon,
    append,
    new_folder,
    remove,
    sweep,
    unfinished,
    write_file,
)

__all__ = [
    "abandon",
    "append",
    "by_library",
    "lock",
    "naming",
    "new_folder",
    "remove",
    "sweep",
    "sync",
    "unfinished",
    "waiting_lock",
    "write_file",
]
