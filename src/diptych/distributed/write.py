"""Pieces of tensors are written by all processes that have them."""

from collections.abc import Mapping

from diptych.distributed.peers import Peers
from diptych.distributed.pieces import Piece, Store


def write_pieces(pieces: Mapping[str, Piece], store: Store, peers: Peers) -> None:
    """Write the pieces of all processes. Every process calls it, with what `own_pieces` gave it of
    the same tensors, and what one of them raises is raised by all."""
    if peers.size > 1:
        # Takes seconds to import, and alone there is nothing to plan.
        from diptych.distributed.planned import write_planned

        write_planned(pieces, store, peers)
        return
    room = store.create({name: piece.tensor.to("meta") for name, piece in pieces.items()})
    store.put(room, ((name, 0, piece.copy) for name, piece in pieces.items()))
