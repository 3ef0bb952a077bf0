"""An app over a few pictures, asked without a network."""

from pathlib import Path

from starlette.testclient import TestClient

from diptych.app import App, Door, build
from diptych.search import update
from tests import tiny

DOOR = Door(port=8765, token="the-token")
BEARER = {"Authorization": f"Bearer {DOOR.token}"}


def make_index(folder: Path) -> Path:
    """Twelve pictures in folders of four colours, and an index beside them."""
    tiny.write_pictures(folder / "photos")
    update(folder / "x.index", folder / "photos", tiny.encoder())
    return folder / "x.index"


def app_of(index: Path, said: list[str] | None = None) -> App:
    """The app of an index, with its thumbnails beside it."""
    say = (said if said is not None else []).append
    return App(str(index), tiny.encoder(), index.parent / "thumbnails", 1e8, say)


def client_of(app: App, **headers: str) -> TestClient:
    """Who asks as a program does, with the token."""
    return TestClient(
        build(app.answers, DOOR),
        base_url="http://127.0.0.1:8765",
        headers=BEARER | headers,
        raise_server_exceptions=False,
        follow_redirects=False,
    )


def found(client: TestClient, **asked: object) -> dict:
    """What a search gives."""
    answer = client.post("/api/search", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()
