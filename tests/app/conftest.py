import threading

import pytest

from diptych.app import Door, listen
from tests import tiny
from tests.app import served


@pytest.fixture(scope="session")
def kept_index(tmp_path_factory):
    """An index that tests only read."""
    return served.make_index(tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="session")
def client(kept_index):
    return served.client_of(served.app_of(kept_index))


@pytest.fixture
def index(tmp_path):
    """An index that a test may change."""
    return served.make_index(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the page shows."""
    from tests.app.browsing import HOSTILE

    folder = tmp_path_factory.mktemp("browser")
    (folder / "photos" / "z").mkdir(parents=True)
    tiny.picture("red", 50).save(folder / "photos" / HOSTILE)
    for number in range(90):
        tiny.picture("green", number).save(folder / "photos" / "z" / f"{number:02}.png")
    served.make_index(folder)
    return folder


@pytest.fixture(scope="module")
def address(folder):
    """Of a running app."""
    app = served.app_of(folder / "x.index")
    with listen("127.0.0.1", 0) as listener:
        door = Door(port=listener.getsockname()[1])
        stop = threading.Event()
        thread = threading.Thread(target=app.serve, args=(door, listener, stop))
        thread.start()
        yield door.address
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    """Chromium, where it is installed."""
    from playwright.sync_api import sync_playwright

    from tests.app.browsing import CHROMIUM, FLAGS

    if CHROMIUM is None:
        pytest.skip("Chromium isn't installed")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Opens the page; at the end nothing may have gone wrong in it, or have left for elsewhere."""
    from playwright.sync_api import expect

    wrong, asked, contexts = [], [], []

    def open_page(**kind):
        context = browser.new_context(**kind)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        # A refusal (400) is an answer, though the console has a line of it.
        page.on("console", lambda said: "status of 400" in said.text or wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        expect(page.locator(".tile")).not_to_have_count(0)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
    origin = address.partition("/?")[0]
    assert {url for url in asked if not url.startswith(origin)} == set()
