"""What the tests of the page in a real browser have in common."""

import shutil

from playwright.sync_api import Page, expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
HOSTILE = "<img src=x onerror=alert(1)>.png"
DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}

# Five seconds are short where other tests take the cores: the first search imports SciPy.
expect.set_options(timeout=20_000)


def search(page: Page, text: str) -> None:
    """Type it, and wait for what is found."""
    page.fill("#text", text)
    expect(page.locator("#said")).to_contain_text("compared")


def sees(page: Page) -> list[str]:
    """The paths of the pictures that are shown."""
    return page.locator(".tile .open").evaluate_all("each => each.map(one => one.title)")
