"""Files that several threads read at once."""

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from diptych.data import files
from diptych.data.files import OpenFiles

THREADS = 8


def test_threads_share_descriptors_and_leave_none_open(tmp_path, monkeypatch):
    """More files than are kept open: none is closed, or taken for another, while it is read."""
    gc.collect()  # files of other tests, whose descriptors would be closed in the midst of this one
    monkeypatch.setattr(files, "_OPEN_FILES", 2)
    opened = list[int]()
    real_open, real_close = os.open, os.close
    monkeypatch.setattr(os, "open", lambda *given: opened.append(real_open(*given)) or opened[-1])
    monkeypatch.setattr(os, "close", lambda number: (opened.remove(number), real_close(number))[1])
    paths = [tmp_path / f"{number}" for number in range(30)]
    for path in paths:
        path.write_text(path.name * 10)
    shared, together = OpenFiles(), threading.Barrier(THREADS)

    def read(_):
        found = []
        for path in paths:
            together.wait()
            found.append(shared.read(path, 0, 10, most=10).decode())
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(read, range(THREADS)):
            assert found == [(path.name * 10)[:10] for path in paths]
    assert 1 <= len(opened) <= 2
    del shared
    assert not opened
