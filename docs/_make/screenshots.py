"""The photographs of docs/: `python -m docs._make.screenshots demo` takes them of what
`diptych demo` wrote, with an installed Chromium, into docs/pictures/.

They show the demo's own scenes, which the repository makes: no pictures of others.
"""

import contextlib
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from diptych.app import App, Door, listen
from diptych.cli import main
from diptych.data import scenes
from diptych.search import Index
from docs._make.pictures import FOLDER

DESK = {"viewport": {"width": 1280, "height": 760}}
REPORT = {"viewport": {"width": 1280, "height": 1240}, "device_scale_factor": 0.75}
PHONE = {
    "viewport": {"width": 390, "height": 760},
    "device_scale_factor": 1.5,
    "is_mobile": True,
    "has_touch": True,
}
QUERY = "a red seven"
_TRAINING = "part-4"
"""The demo's curves, before its searches."""
_SCENE = 21
"""Of the scenes of two digits, the one that has the heat maps: a green five and a purple three."""


def write(demo: Path, folder: Path = FOLDER) -> None:
    """All of them, NAME.webp each, of a demo's folder."""
    folder.mkdir(exist_ok=True)
    heat_maps(demo, folder)
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))))
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        report = (demo / "report.html").resolve().as_uri()
        _shoot(browser, f"{report}#{_TRAINING}", folder / "report.webp", REPORT)
        with _served(demo / "pictures.index") as address:
            _shoot(browser, address, folder / "app.webp", DESK, QUERY)
            _shoot(browser, address, folder / "app-phone.webp", PHONE, QUERY)
            _shoot(browser, f"{address}#d=1", folder / "app-duplicates.webp", DESK)
        browser.close()


def heat_maps(demo: Path, folder: Path) -> None:
    """What `diptych explain` draws of a scene of two digits, for the words of each."""
    sample = next(islice(scenes.samples("pairs", _SCENE + 1), _SCENE, None))
    digits = [(each["colour"], scenes.DIGITS[each["value"]]) for each in sample.meta["digits"]]
    run, file = (demo / "run").resolve(), folder.resolve() / "heat-maps.webp"
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        Path("scene.jpg").write_bytes(sample.image)
        texts = [f"a {colour} {digit}" for colour, digit in digits]
        with contextlib.suppress(SystemExit):
            main(["explain", str(run), "scene.jpg", *texts, "--out", "maps.png"])
        _keep(Path("maps.png"), file)


@contextlib.contextmanager
def _served(index: Path) -> Iterator[str]:
    """The address of the app of an index."""
    with tempfile.TemporaryDirectory() as kept, listen("127.0.0.1", 0) as listener:
        app = App(str(index), Index.open(index).encoder, Path(kept), 1e8, print)
        door, stop = Door(port=listener.getsockname()[1]), threading.Event()
        thread = threading.Thread(target=app.serve, args=(door, listener, stop))
        thread.start()
        try:
            yield door.address
        finally:
            stop.set()
            thread.join()


def _shoot(
    browser: Browser, address: str, file: Path, kind: dict[str, Any], query: str = ""
) -> None:
    """What a window shows, after a search for `query`, or for near duplicates."""
    page = browser.new_context(color_scheme="light", **kind).new_page()
    page.goto(address)
    if query:
        page.fill("#text", query)
        expect(page.locator("#said")).to_contain_text("compared", timeout=60_000)
    elif address.endswith("#d=1"):
        expect(page.locator("#said")).to_contain_text("of near duplicates", timeout=60_000)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)  # pictures fade in
    shot = file.with_suffix(".png")
    page.screenshot(path=shot)
    _keep(shot, file)
    shot.unlink()
    page.context.close()


def _keep(shot: Path, file: Path) -> None:
    with Image.open(shot) as picture:
        picture.convert("RGB").save(file, "WEBP", quality=80, method=6)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
