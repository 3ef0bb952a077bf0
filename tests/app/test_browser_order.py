"""The page where answers are late, and who uses it without a mouse or on a small screen, in a real
browser: nothing that came too late is taken for an answer, nothing is lost or out of reach."""

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed")

from tests.app.browsing import DESK, search, sees  # noqa: E402

expect = playwright.expect

FOCUSED = "document.activeElement.closest('.tile') !== null"
PASTE = """words => {
  const carried = new DataTransfer();
  if (words) carried.items.add(words, "text/plain");
  carried.items.add(new File([new Uint8Array(9)], "x.png", {type: "image/png"}));
  const about = {clipboardData: carried, bubbles: true, cancelable: true};
  const paste = new ClipboardEvent("paste", about);
  document.getElementById("text").dispatchEvent(paste);
  return paste.defaultPrevented;
}"""


def hold(page, where: str, what: str = "") -> list:
    """Requests for it, with `what` in them, wait: those are listed."""
    held = []

    def take(route):
        asked = route.request.url + (route.request.post_data or "")
        held.append(route) if what in asked else route.continue_()

    page.route(where, take)
    return held


def go_on(page, held: list) -> None:
    page.wait_for_timeout(300)
    assert len(held) == 1
    with page.expect_response(held[0].request.url):
        held[0].continue_()


def test_an_answer_that_comes_while_a_picture_is_open_leaves_it_the_same(visit):
    page = visit(**DESK)
    held = hold(page, "**/api/search", "a blue picture")
    page.fill("#text", "a blue picture")
    page.wait_for_timeout(300)
    before = sees(page)
    page.locator(".tile .open").nth(3).click()
    go_on(page, held)
    expect(page.locator("#said")).to_contain_text("compared")
    assert sees(page)[3] != before[3] == page.locator("#path").text_content()
    shown = page.locator("#preview").get_attribute("src").replace("preview", "thumbnail")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#path")).to_have_text(before[4])
    page.keyboard.press("ArrowLeft")
    page.locator("#plus").click()
    expect(page.locator(".chip img")).to_have_attribute("src", shown)


def test_a_late_answer_about_another_text_is_dropped(visit):
    page = visit(**DESK)
    page.locator(".tile .open").first.click()
    expect(page.locator("#preview.there")).to_be_visible()
    for form, said, field in (("#why", "#why-said", "#why-text"), ("#label", "#labels", "#names")):
        held = hold(page, "**/api/**", "first")
        page.fill(field, "first")
        page.locator(f"{form} button").first.click()
        page.wait_for_timeout(300)
        page.fill(field, "second")
        page.locator(f"{form} button").first.click()
        expect(page.locator(said)).to_contain_text("second")
        assert len(held) == 1
        page.unroute("**/api/**")
        page.wait_for_timeout(300)
        expect(page.locator(said)).not_to_contain_text("first")
        expect(page.locator(said)).to_contain_text("second")


def test_a_search_that_takes_long_says_so(visit):
    page = visit(**DESK)
    held = hold(page, "**/api/search", "slow")
    page.fill("#text", "slow")
    expect(page.locator("#said")).to_have_text("Searching …")
    go_on(page, held)
    expect(page.locator("#said")).to_contain_text("compared")


def test_the_way_past_the_bar_keeps_the_query(visit):
    page = visit(**DESK)
    search(page, "red")
    found = sees(page)
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".tile .open").first).to_be_focused()
    page.wait_for_timeout(300)
    assert (page.input_value("#text"), sees(page)) == ("red", found)


def test_keys_go_on_where_they_were(visit):
    page = visit(**DESK)
    page.locator(".tile .open").nth(2).focus()
    for key in ("+", "-"):
        with page.expect_response("**/api/search"):
            page.keyboard.press(key)
        expect(page.locator("#said")).to_contain_text("compared")
        expect(page.locator(".tile .open").first).to_be_focused()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".tile .open").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    with page.expect_response("**/api/search"):
        page.keyboard.press("+")
    page.wait_for_function(FOCUSED)


def test_a_text_is_pasted_as_a_text_though_a_picture_lies_beside_it(visit):
    page = visit(**DESK)
    page.focus("#text")
    assert page.evaluate(PASTE, "red car") is False
    assert page.evaluate(PASTE, "") is True
    expect(page.locator("#said.error")).to_contain_text("is not a picture")


def test_a_long_word_makes_no_page_wide(visit):
    page = visit(viewport={"width": 320, "height": 568}, is_mobile=True, has_touch=True)
    search(page, "a" * 300)
    expect(page.locator("#said")).to_contain_text("aaaaaaa")  # the remark on its length
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) == 320
    page.locator(".tile .open").first.click()
    expect(page.locator("#facts")).to_contain_text("pixels")
    page.locator("#facts dt").last.evaluate("column => { column.textContent = 'k'.repeat(200) }")
    assert page.evaluate(width) == 320
    assert page.evaluate("document.getElementById('detail').scrollWidth") == 320
    page.locator("#close").click()
    expect(page.locator("#detail")).to_be_hidden()


def test_an_address_that_somebody_wrote_breaks_nothing(visit, address):
    page = visit(**DESK)
    bare = address.partition("?")[0]
    for part in ("t=null", 't={"text":"a","weight":1e999}', 't={"text":"a","weight":0}', "f=5"):
        page.goto(f"{bare}#{part}")
        expect(page.locator("#said")).to_contain_text("in the order of the index")
        expect(page.locator(".chip")).to_have_count(0)
