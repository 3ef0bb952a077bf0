"""A picture is fetched where a user asks for it, and only within limits."""

import contextlib
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from diptych.errors import DataError
from diptych.search import Query
from diptych.search.fetch import fetch_picture

DATA = b"0123456789" * 100


@contextlib.contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/a.png"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def say(handler: BaseHTTPRequestHandler, status: int, length: int = 0, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(length))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()


def whole(handler: BaseHTTPRequestHandler) -> None:
    if handler.path == "/a.png":
        return say(handler, 302, Location="/b.png")
    say(handler, 200, len(DATA))
    handler.wfile.write(DATA)


def test_a_picture_is_fetched_where_asked_for():
    with serving(whole) as url:
        assert fetch_picture(url) == DATA
        [term] = Query.from_words([f"2:{url}?token=secret"], fetch=True).terms
        assert (term.what, term.weight, str(term)) == (DATA, 2, f"{url}?…")


def missing(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 404)


def to_a_file(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 302, Location="file:///etc/passwd")


def to_ftp(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 302, Location="ftp://127.0.0.1/a.png")


def broken(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 200, 2 * len(DATA))
    handler.wfile.write(DATA)


def large(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(DATA)


def slow(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 200, 1000)
    for _ in range(50):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.02)


def silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(0.6)


def no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"220 hello\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (missing, "can't be fetched: 404 Not Found"),
        (to_a_file, "can't be fetched: 302"),
        (to_ftp, "can't be fetched: unknown url type: ftp"),
        (broken, "broke off 1,000 bytes before its end"),
        (large, "more than 2,000 bytes"),
        (slow, "takes too long"),
        (silent, "can't be fetched: timed out"),
        (no_http, "can't be fetched: "),
    ],
)
def test_what_goes_wrong_is_one_sentence(answer, sentence):
    with serving(answer) as url, pytest.raises(DataError, match=sentence) as error:
        fetch_picture(url, most=2000, patience=0.3, longest=0.3)
    assert url in str(error.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/a.png", "gopher://x/1"])
def test_only_the_web_is_fetched_from(url):
    with pytest.raises(DataError, match="only http:// and https:// are"):
        Query.from_words([url], fetch=True)


def test_a_server_that_isnt_there():
    with pytest.raises(DataError, match="http://127.0.0.1:9/a.png can't be fetched: .*refused"):
        fetch_picture("http://127.0.0.1:9/a.png")
    with pytest.raises(DataError, match="can't be fetched"):
        fetch_picture("http://[broken/a.png")
