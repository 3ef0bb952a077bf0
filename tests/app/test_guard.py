"""Only who has the token is answered, by a name of this machine, and no page of another origin."""

import pytest
from starlette.testclient import TestClient

from diptych.app import Door
from diptych.app.guard import HEADERS
from tests.app.served import BEARER, DOOR

COOKIE = {"Cookie": f"{DOOR.cookie}={DOOR.token}"}
OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def stranger(client):
    """Who knows no token."""
    return TestClient(client.app, base_url="http://127.0.0.1:8765", follow_redirects=False)


@pytest.mark.parametrize("path", ["/", "/app.js", "/api", "/api/status", "/api/pictures/0-a/map"])
def test_without_the_token_there_is_no_answer(stranger, path):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{DOOR.cookie}=wrong"}):
        answer = stranger.get(path, headers=headers)
        assert answer.status_code == 401
        assert "diptych app" in answer.text
    assert stranger.get(f"{path}?token=wrong").status_code == 401
    assert stranger.get(path, headers={"Authorization": "Bearer tökén".encode()}).status_code == 401


def test_the_address_gives_a_cookie_and_forgets_the_token(stranger):
    answer = stranger.get("/", params={"token": DOOR.token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert stranger.get("/", headers=OWN).status_code == 200
    assert stranger.get("/api/status", headers=OWN).status_code == 200
    # Nowhere else is the token taken from an address: addresses are written down.
    strange = TestClient(stranger.app, base_url="http://127.0.0.1:8765")
    assert strange.get("/api/status", params={"token": DOOR.token}).status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost:9000", 200),  # through a tunnel
        ("[::1]:8765", 200),
        ("192.168.1.7:8765", 200),
        ("evil.example:8765", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_a_name_that_was_pointed_here_is_not_ours(client, host, status):
    assert client.get("/api/status", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OWN, 200),
        ({"Origin": "http://127.0.0.1:8765"}, 200),
        ({}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),  # another port of this machine
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8766", **OWN}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[", **OWN}, 403),
    ],
)
def test_what_changes_something_is_asked_by_our_own_page(stranger, headers, status):
    answer = stranger.post("/api/search", json={}, headers=COOKIE | headers)
    assert answer.status_code == status


def test_other_pages_may_lead_here_and_read_nothing(stranger):
    to_us = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    as_image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert stranger.get("/", headers=COOKIE | to_us).status_code == 200
    assert stranger.get("/api/status", headers=COOKIE | to_us).status_code == 403
    assert stranger.get("/", headers=COOKIE | as_image).status_code == 403
    assert stranger.get("/app.js", headers=COOKIE | as_image).status_code == 403


def test_every_answer_is_strict_with_browsers(client, stranger):
    answers = [client.get(path) for path in ("/", "/api", "/api/status", "/nothing", "/api/no")]
    answers += [stranger.get("/"), client.get("/api/status", headers={"Host": "evil.example"})]
    for answer in answers:
        assert HEADERS.items() <= dict(answer.headers).items()
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert "unsafe" not in HEADERS["content-security-policy"]
    preflight = client.options("/api/search", headers={"Origin": "http://evil.example"})
    assert preflight.status_code == 405


def test_a_token_is_long_and_new_each_time_and_is_not_shown():
    one, other = Door(port=1), Door(port=1)
    assert one.token != other.token
    assert len(one.token) >= 32
    assert one.token not in repr(one)
    assert one.address == f"http://127.0.0.1:1/?token={one.token}"
    assert Door(port=1, host="::1").address.startswith("http://[::1]:1/")


def test_the_page_needs_no_script_or_style_within(client):
    for path in ("/", "/api"):
        page = client.get(path, headers=BEARER).text
        assert "<script>" not in page
        assert "style=" not in page
        assert "http://" not in page.replace("http://127.0.0.1:8765", "")
        assert "https://" not in page
