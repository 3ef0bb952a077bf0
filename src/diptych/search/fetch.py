"""One picture from a web server, within limits of size and time, where a user asked for it."""

import http.client
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from diptych.data.remote import shown
from diptych.errors import DataError, first_line
from diptych.version import __version__

_MOST = 100_000_000
"""Bytes of a picture."""
_PATIENCE = 10.0
"""Seconds until a server answers."""
_LONGEST = 60.0
"""Seconds for all of it: a server may give a byte now and then."""
_PIECE = 1 << 16
_SCHEMES = ("http", "https")


def fetch_picture(
    url: str, most: int = _MOST, patience: float = _PATIENCE, longest: float = _LONGEST
) -> bytes:
    """The bytes at an `http` or `https` address, `most` at most, within `longest` seconds. Raises
    DataError."""
    try:
        with _opener().open(_request(url), timeout=patience) as answer:
            return _read(answer, url, most, time.monotonic() + longest)
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(f"{shown(url)} can't be fetched: {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        said = first_line(reason) if isinstance(reason, Exception) else reason
        raise DataError(f"{shown(url)} can't be fetched: {said}") from None


def _request(url: str) -> urllib.request.Request:
    if urlsplit(url).scheme.lower() not in _SCHEMES:
        raise ValueError("only http:// and https:// are")
    return urllib.request.Request(url, headers={"User-Agent": f"diptych/{__version__}"})


def _opener() -> urllib.request.OpenerDirector:
    """Of HTTP alone: a redirection to a file or an FTP server is refused."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _read(answer: http.client.HTTPResponse, url: str, most: int, end: float) -> bytes:
    data = bytearray()
    while piece := answer.read1(_PIECE):
        data += piece
        if len(data) > most:
            raise DataError(
                f"{shown(url)} has more than {most:,} bytes; save it, and name the file"
            )
        if time.monotonic() > end:
            raise DataError(f"{shown(url)} takes too long; save it, and name the file")
    if answer.length:
        raise DataError(f"{shown(url)} broke off {answer.length:,} bytes before its end")
    return bytes(data)
