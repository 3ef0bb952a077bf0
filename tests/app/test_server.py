"""A real server on this machine: its port, its manners, its end."""

import asyncio
import http.client
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing

import pytest
import uvicorn

from diptych.app import listen, patience
from diptych.errors import ConfigError
from diptych.search import update
from tests import tiny


def test_a_port_in_use_is_said_with_one_that_is_free():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is in use") as error:
            listen("127.0.0.1", port)
        free = int(re.search(r"--port (\d+) is free", str(error.value))[1])
        listen("127.0.0.1", free).close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "a..b", "x" * 70])
def test_a_host_of_somebody_else_is_one_sentence(host):
    with pytest.raises(ConfigError, match=re.escape(f"--host {host}")):
        listen(host, 0)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """`diptych app` as a process, and its address."""
    folder = tmp_path_factory.mktemp("served")
    tiny.save(folder / "model")
    tiny.write_pictures(folder / "photos")
    from diptych import load

    update(folder / "x.index", folder / "photos", load(folder / "model"))
    command = [sys.executable, "-m", "diptych", "app", "x.index", "--port", "0", "--cache", "kept"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert "12 pictures" in lines[0], process.stderr.read()
        host, port, token = re.match(r"http://(.*):(\d+)/\?token=(\S+)", lines[1]).groups()
        yield process, host, int(port), token
        process.kill()


def ask(served, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    """Without the manners of a client that tidies the address."""
    _, host, port, token = served
    with closing(http.client.HTTPConnection(host, port, timeout=20)) as connection:
        connection.request(method, path, headers={"Authorization": f"Bearer {token}"} | headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_it_answers_and_serves_nothing_else(served):
    assert ask(served, "GET", "/api/status")[0] == 200
    assert ask(served, "GET", "/")[0] == 200
    for path in (
        *("/../../../../etc/passwd", "/./../etc/passwd", "/..%2f..%2fetc/passwd", "/%00"),
        *("/api/pictures/../status/thumbnail", "/static/", "/app.js/../../guard.py"),
    ):
        status, body = ask(served, "GET", path)
        assert status in (400, 404), path
        assert b"root:" not in body
    for method in ("PUT", "DELETE", "TRACE", "OPTIONS"):
        assert ask(served, method, "/api/search")[0] == 405
    assert ask(served, "GET", "/api/status", Host="evil.example")[0] == 421
    assert ask(served, "GET", "/api/status", Authorization="Bearer x")[0] == 401


def test_broken_requests_break_nothing(served):
    _, host, port, _ = served
    for data in (b"\x00" * 100, b"GET " + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"\r\n\r\n"):
        with socket.create_connection((host, port), timeout=20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    assert ask(served, "GET", "/api/status")[0] == 200


def test_half_a_request_is_not_waited_for_and_a_slow_answer_is(monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE", 0.2)

    async def answer(scope, receive, send):
        await receive()
        await asyncio.sleep(0.5)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(answer, http=patience.Impatient, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    request = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nwhole"
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        for length in (0, 20, len(request) - 3):
            with socket.create_connection(listener.getsockname(), timeout=20) as connection:
                connection.sendall(request[:length])
                assert connection.recv(100) == b"", length
        with socket.create_connection(listener.getsockname(), timeout=20) as connection:
            connection.sendall(request[:-1])
            assert connection.recv(100).startswith(b"HTTP/1.1 204")
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def test_it_listens_to_this_machine_alone(served):
    """Of the machine's other addresses none is listened at."""
    _, _, port, _ = served
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no other address")
        own = probe.getsockname()[0]
    with pytest.raises(OSError):  # noqa: PT011
        socket.create_connection((own, port), timeout=2).close()


def test_ctrl_c_ends_it_cleanly(served):
    process, host, port, _ = served
    with socket.create_connection((host, port)):  # somebody who says nothing doesn't hold it up
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert process.stderr.read() == "diptych: stopped by SIGINT\n"
    assert process.stdout.read() == ""
