"""Messages between processes, whose tensors lie in shared memory."""

import io
import itertools
import mmap
import os
import pickle
import sys
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

import torch
from torch import Tensor


class _Pickler(pickle.Pickler):
    """Hands tensors over as arrays, whose memory pickle's fifth protocol leaves to the caller."""

    def reducer_override(self, obj: Any) -> Any:
        return (torch.from_numpy, (obj.numpy(),)) if isinstance(obj, Tensor) else NotImplemented


def send(connection: Connection, message: Any, slot: memoryview | None) -> None:
    """What is big in the message lies in `slot`, or, where it doesn't fit, in a memory file of its
    own."""
    stream, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    apart = buffers.append if sys.platform == "linux" else None
    _Pickler(stream, 5, buffer_callback=apart).dump(message)
    pieces = [buffer.raw() for buffer in buffers]
    sizes = [piece.nbytes for piece in pieces]
    fits = slot is not None and sum(map(_aligned, sizes)) <= len(slot)
    if slot is not None and fits:
        for piece, start in zip(pieces, _starts(sizes), strict=True):
            slot[start : start + piece.nbytes] = piece
    connection.send((stream.getvalue(), sizes, fits))
    if any(sizes) and not fits:
        with open(os.memfd_create("diptych"), "w+b") as file:
            for piece, start in zip(pieces, _starts(sizes), strict=True):
                file.seek(start)
                file.write(piece)
            file.truncate(sum(map(_aligned, sizes)))
            send_handle(connection, file.fileno(), None)


def receive(connection: Connection, slot: memoryview | None) -> Any:
    """What was sent; its tensors lie where they were put. Raises EOFError where its sender dies."""
    data, sizes, in_slot = connection.recv()
    memory = slot
    if any(sizes) and not in_slot:
        descriptor = recv_handle(connection)
        try:
            memory = memoryview(mmap.mmap(descriptor, 0))
        finally:
            os.close(descriptor)
    buffers = list[memoryview | bytearray]()
    for size, start in zip(sizes, _starts(sizes), strict=True):
        buffers.append(memory[start : start + size] if memory and size else bytearray())
    return pickle.loads(data, buffers=buffers)


def _starts(sizes: Sequence[int]) -> Iterable[int]:
    """Where pieces of these sizes begin."""
    return itertools.accumulate(map(_aligned, sizes[:-1]), initial=0) if sizes else ()


def _aligned(place: int) -> int:
    """The next place at which any type of number may begin."""
    return -(-place // 64) * 64
