"""The page in a real browser, where Chromium is installed: typed, clicked, dropped, by keys, on a
desk and on a phone, without an error in its console."""

import re
from pathlib import Path

import pytest

from tests import tiny

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed")

from tests.app.browsing import DESK, HOSTILE, PHONE, search, sees  # noqa: E402

expect = playwright.expect

DROP = """async ([bytes, name]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
  for (const kind of ["dragenter", "dragover", "drop"])
    window.dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true}));
}"""

CONTRAST = Path(__file__).with_name("contrast.js").read_text()
UNNAMED = Path(__file__).with_name("unnamed.js").read_text()


def test_near_duplicates_of_all_pictures_by_keys(visit):
    page = visit(**DESK)
    page.locator("body").press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("d")
    expect(page.locator("#said")).to_contain_text("of near duplicates, the largest first")
    assert page.url.endswith("#d=1")
    first = page.locator(".tile.first").first
    expect(first.locator(".alike")).to_contain_text("×")
    first.locator(".open").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tile .open").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    page.keyboard.press("Escape")
    page.reload()
    expect(page.locator("#said")).to_contain_text("of near duplicates")
    page.fill("#text", "green")
    expect(page.locator("#said")).to_contain_text("compared")
    expect(page.locator(".tile.first")).to_have_count(0)


def test_typing_finds_while_one_types_and_the_address_remembers(visit, address):
    page = visit(**DESK)
    assert page.url == address.partition("?")[0]
    everything = sees(page)
    with page.expect_response(lambda found: "a blue picture" in (found.request.post_data or "")):
        page.locator("#text").press_sequentially("a blue picture", delay=5)
    expect(page.locator("#said")).to_contain_text("compared")
    expect(page.locator(".tile img.there").first).to_be_visible()
    assert sees(page) != everything
    first = sees(page)
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_contain_text("a blue picture")
    expect(page.locator("#text")).to_have_value("")
    expect(page).to_have_url(re.compile("#t=.*blue"))
    page.reload()
    expect(page.locator(".chip")).to_contain_text("a blue picture")
    expect(page.locator("#said")).to_contain_text("compared")
    assert sees(page) == first
    page.get_by_label("Leave out a blue picture").click()
    expect(page.locator("#said")).to_contain_text("in the order of the index")
    page.go_back()
    expect(page.locator(".chip")).to_have_count(1)


def test_results_of_what_was_typed_before_are_dropped(visit):
    page = visit(**DESK)
    held = []
    page.route(
        "**/api/search",
        lambda route: (
            held.append(route) if "slow" in route.request.post_data else route.continue_()
        ),
    )
    page.fill("#text", "slow")
    page.wait_for_timeout(300)
    search(page, "a red picture")
    shown = sees(page)
    assert len(held) == 1
    page.unroute("**/api/search")
    page.wait_for_timeout(300)
    assert sees(page) == shown


def test_pictures_are_added_subtracted_and_weighed(visit):
    page = visit(**DESK)
    tile = page.locator(".tile").filter(has=page.locator('[title$="/blue/0.png"]'))
    tile.hover()
    tile.get_by_label("More like").click()
    expect(page.locator(".chip")).to_have_count(1)
    expect(page.locator(".tile .open").first).to_have_attribute("title", re.compile("blue/0"))
    page.locator(".tile").nth(1).hover()
    page.locator(".tile").nth(1).get_by_label("Less like").click()
    expect(page.locator(".chip.minus")).to_have_count(1)
    page.locator(".chip.minus input").fill("-0.25")
    page.locator(".chip.minus input").blur()
    expect(page).to_have_url(re.compile("-0.25"))
    page.locator("#clear").click()
    expect(page.locator(".chip")).to_have_count(0)


def test_a_picture_is_dropped(visit, folder):
    page = visit(**DESK)
    data = list((folder / "photos" / "yellow" / "1.png").read_bytes())
    page.evaluate(DROP, [data, "mine.png"])
    expect(page.locator(".chip img")).to_have_attribute("alt", "mine.png")
    expect(page.locator(".tile .open").first).to_have_attribute("title", re.compile("yellow/1"))
    page.set_input_files("#file", folder / "photos" / "blue" / "2.png")
    expect(page.locator(".chip")).to_have_count(2)


def test_a_file_that_is_no_picture_is_one_sentence(visit):
    page = visit(**DESK)
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"no"})
    expect(page.locator("#said.error")).to_contain_text("is not a picture")
    expect(page.locator(".chip")).to_have_count(0)


def test_keys_are_enough(visit):
    page = visit(**DESK)
    page.locator("#text").blur()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("red")
    expect(page.locator("#said")).to_contain_text("compared")
    page.keyboard.press("ArrowDown")
    tiles = page.locator(".tile .open")
    expect(tiles.first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(tiles.nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(tiles.nth(1)).not_to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    name = page.locator("#detail-name")
    before = name.text_content()
    page.keyboard.press("ArrowRight")
    expect(name).not_to_have_text(before)
    page.keyboard.press("Escape")
    expect(tiles.nth(1)).to_be_focused()
    page.keyboard.press("+")
    expect(page.locator(".chip")).to_have_count(1)
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    expect(page.locator(".chip")).to_have_count(0)


def test_a_picture_is_explained_and_named(visit):
    page = visit(**DESK)
    search(page, "red")
    page.locator(".tile .open").first.click()
    expect(page.locator("#preview.there")).to_be_visible()
    expect(page.locator("#why-text")).to_have_value("red")
    page.locator("#why button").first.click()
    expect(page.locator("#why-said")).to_contain_text("from the left")
    expect(page.locator("#map")).to_be_visible()
    assert page.locator("#map").bounding_box() == page.locator("#square").bounding_box()
    page.fill("#names", "a cat, a dog, <b>bold</b>")
    page.locator("#label button").click()
    expect(page.locator("#label-said")).to_contain_text("softmax")
    expect(page.locator("#labels li")).to_have_count(3)
    expect(page.locator("#labels")).to_contain_text("<b>bold</b>")
    page.locator("#only").click()
    expect(page.locator("#detail")).to_be_hidden()
    expect(page.locator(".chip")).to_have_count(1)


def test_filters_and_near_duplicates(visit):
    page = visit(**DESK)
    page.locator("#text").blur()
    page.keyboard.press("f")
    page.keyboard.type("yellow")
    expect(page.locator(".tile")).to_have_count(3)
    expect(page.get_by_label("Filters: 1 in use")).to_have_count(1)
    page.reload()
    expect(page.locator(".tile")).to_have_count(3)
    page.locator("#filter").click()
    page.get_by_label("Known").fill("nothing=1")
    expect(page.locator("#said.error")).to_contain_text("No column is called 'nothing'")
    page.get_by_label("Known").fill("width=40; height<30")
    expect(page.locator("#said")).to_contain_text("No picture is as the filters say")
    page.locator("#unfilter").click()
    expect(page.locator(".tile")).to_have_count(60)
    page.get_by_label("Hide near duplicates").check()
    search(page, "green")
    page.locator(".alike").first.click()
    expect(page.get_by_label("Score from")).to_have_value("0.97")
    expect(page.locator(".chip")).to_have_count(1)
    page.locator(".tile .open").first.click()
    expect(page.locator("#facts")).to_contain_text("40 × 30")
    page.locator("#doubles").click()
    expect(page.locator(".chip")).to_have_count(1)


def test_more_comes_as_one_scrolls(visit):
    page = visit(**DESK)
    expect(page.locator(".tile")).to_have_count(60)
    page.locator("#end").scroll_into_view_if_needed()
    expect(page.locator(".tile")).to_have_count(103)
    assert len(set(sees(page))) == 103


def test_an_update_is_seen(visit, folder):
    page = visit(**DESK)
    new = folder / "photos" / "0-new.png"
    tiny.picture("yellow", 60).save(new)
    page.locator("#renew").click()
    expect(page.locator("#about")).to_contain_text(str(folder / "photos"))
    page.locator("#start").click()
    expect(page.locator("#update-said")).to_contain_text("1 added")
    page.keyboard.press("Escape")
    expect(page.locator("#said")).to_contain_text("104 pictures")
    new.unlink()
    page.locator("#renew").click()
    page.locator("#start").click()
    expect(page.locator("#update-said")).to_contain_text("1 removed")


def test_a_picture_that_was_deleted_has_a_placeholder(visit, folder):
    hidden = folder / "photos" / "red" / "0.png"
    away = hidden.rename(folder / "away.png")
    page = visit(**DESK)
    lost = page.locator(".tile").filter(has_text="can't be shown")
    expect(lost).to_have_count(1)
    expect(lost).to_contain_text("0.png")
    away.rename(hidden)


@pytest.mark.parametrize(
    ("kind", "scheme"), [(DESK, "dark"), (PHONE, "light")], ids=["desk", "phone"]
)
def test_it_fits_and_can_be_read(visit, kind, scheme):
    page = visit(**kind, color_scheme=scheme)
    search(page, "a long query that goes on and on, and on, and on, to the end of the line")
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_have_count(1)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) is (scheme == "dark")
    width = kind["viewport"]["width"]
    for opened in ("grid", "detail", "index", "keys"):
        if opened == "detail":
            page.locator(".tile .open").first.click()
        elif opened != "grid":
            page.locator("#renew" if opened == "index" else "#help").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert low_contrast(page) == []
        assert unnamed(page) == []
        if opened != "grid":
            page.keyboard.press("Escape")
    signs = page.locator(".tile .signs").first
    opacity = signs.evaluate("one => Number(getComputedStyle(one).opacity)")
    assert (opacity > 0.5) is (kind is PHONE)
    page.locator("#theme").click()
    turned = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert turned != paper
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == turned


def test_a_hostile_name_is_shown_as_it_is(visit):
    page = visit(**DESK)
    tile = page.locator(".tile").filter(has=page.locator('[title*="onerror"]'))
    expect(tile.locator(".caption span")).to_have_text(HOSTILE)
    tile.locator(".open").click()
    expect(page.locator("#detail-name")).to_have_text(HOSTILE)


def test_the_api_has_its_page(visit, address):
    page = visit(**DESK)
    page.locator("#help").click()
    page.get_by_role("link", name="The API").click()
    expect(page.locator("h1")).to_have_text("The API")
    expect(page.locator("body")).to_contain_text("/api/pictures/{id}/thumbnail")
    assert low_contrast(page) == []


def low_contrast(page) -> list[str]:
    """Texts whose contrast with what is behind them is below 4.5 (WCAG 2.1, AA)."""
    return page.evaluate(CONTRAST)


def unnamed(page) -> list[str]:
    """Visible controls and pictures that a screen reader has no name for."""
    return page.evaluate(UNNAMED)
