"""Connections that don't wait for ever: uvicorn waits for the rest of a request however long that
takes, and a few hundred halves of requests would keep everybody out."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 60.0
"""Seconds for a whole request, which may bring a picture."""


class Impatient(H11Protocol):
    """Closes the connection of who has begun a request, or none, and doesn't end it."""

    _until: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait for what is missing of it."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        self._stop()

    def _wait(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop()
        elif self._until is None:
            self._until = self.loop.call_later(PATIENCE, self.transport.close)

    def _stop(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None
