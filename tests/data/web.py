"""A web server for tests: files of a folder by ranges, and what real ones do wrong."""

import contextlib
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Web:
    """What it was asked, and how it is to answer."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.asked = list[tuple[str, str, int, int]]()
        """(method, path, first, last) of each request."""
        self.statuses = dict[str, int]()
        """What is answered for a file, by its name."""
        self.fail_every = 0
        """Every so manieth request for bytes fails, in one way after another."""
        self.knows_ranges = True
        self.url = ""
        self._failures = 0

    @property
    def ranges(self) -> list[tuple[str, int, int]]:
        return [(path, first, last) for method, path, first, last in self.asked if method == "GET"]

    def answer(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        path = handler.path.partition("?")[0].lstrip("/")
        file = self.folder / path
        data = file.read_bytes() if file.is_file() else b""
        first, last = 0, len(data) - 1
        asked = handler.headers.get("Range", "") if self.knows_ranges else ""
        if asked:
            first, last = (int(n) for n in asked.removeprefix("bytes=").split("-"))
            last = min(last, len(data) - 1)
        self.asked.append((method, path, first, last))
        status = self.statuses.get(path, 200 if file.is_file() else 404)
        if status != 200:
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        piece = data[first : last + 1]
        fails = method == "GET" and self.fail_every and len(self.asked) % self.fail_every == 0
        kind = self._failures % 3 if fails else -1
        self._failures += bool(fails)
        if kind == 0:  # busy
            handler.send_response(503)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if kind == 1:  # an answer that is short, and says so
            piece = piece[: len(piece) // 2]
        handler.send_response(206 if asked else 200)
        handler.send_header("Content-Length", str(len(piece)))
        handler.send_header("ETag", f'"{hash(data)}"')
        handler.end_headers()
        if kind == 2:  # a connection that breaks
            piece = piece[: len(piece) // 2]
            handler.close_connection = True
        if method == "GET":
            handler.wfile.write(piece)


@contextlib.contextmanager
def serving(folder: Path) -> Generator[Web, None, None]:
    web = Web(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            web.answer(self, "GET")

        def do_HEAD(self):
            web.answer(self, "HEAD")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
