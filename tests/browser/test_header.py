"""The header: every room is in view, on a phone too, which gives it two lines; its menus work by
keys and without JavaScript; and the command palette leads to whatever one may open."""

import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import Site

SET_UP = """
from annotate.models import *
project = Project.objects.create(name="Kitchen helper", slug="header")
project.admit(name="olga", role="operator")
project.admit(name="alice", role="labeler")
project.publish_guideline(text="Be **brief**.", author=None)
other = Project.objects.create(name="Bakery of the town", slug="header-2")
other.admit(name="olga", role="operator")
Prompt.objects.create(project=project, messages=[{"role": "user", "content": "A soup?"}])
Policy.objects.create(project=project, name="soup-sft", origin="external")
"""
HEIGHT = "document.querySelector('.site-header').offsetHeight"
CUT = """() => { const rooms = document.querySelector(".site-header nav");
  return rooms.scrollWidth - rooms.clientWidth; }"""


@pytest.fixture(scope="module", autouse=True)
def header(site: Site) -> None:
    site.shell(SET_UP)


@pytest.mark.parametrize("width", [1280, 640, 360])  # 640: 1280 at 200 %
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_operator_sees_every_room_and_every_page_of_it(site: Site, sign_in, width, scheme):
    page = sign_in("olga", width=width, scheme=scheme).page
    # With a text on the page, the header has a switch more.
    for path in ("", "guideline/", "policies/", "chat/new/"):
        page.goto(f"{site.url}/p/header/{path}")
        assert page.evaluate(CUT) <= 0, path
        assert width > 800 or page.evaluate(HEIGHT) < 110, path
    for room in page.locator(".site-header .room-menu").all():
        room.locator("summary").click()
        expect(page.locator(".room-pages:visible")).to_have_count(1)
        box = room.locator(".room-pages").bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= width
        serious = [each for each in Axe().run(page).response["violations"]
                   if each["impact"] in ("serious", "critical")]  # fmt: skip
        assert not serious


def test_menus_work_by_keys(site: Site, sign_in):
    page = sign_in("olga").page
    page.goto(f"{site.url}/p/header/prompts/")
    data = page.locator(".room-menu > summary", has_text="Data")
    expect(data).to_have_attribute("aria-current", "true")
    data.focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="Prompts", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    expect(data).to_be_focused()
    expect(page.locator(".room-pages:visible")).to_have_count(0)
    page.locator(".room-menu > summary", has_text="Kitchen").click()
    page.get_by_role("link", name="Bakery of the town").click()
    page.wait_for_url("**/p/header-2/prompts/")


def test_without_javascript_menus_open_and_the_search_is_a_page(site: Site, sign_in):
    page = sign_in("olga", java_script_enabled=False).page
    page.goto(f"{site.url}/p/header/")
    page.locator(".room-menu > summary", has_text="Serve").click()
    page.get_by_role("link", name="Gate", exact=True).click()
    page.wait_for_url("**/p/header/gate/")
    page.get_by_role("link", name="Search").click()
    page.get_by_label("Words").fill("soup")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="soup-sft").click()
    expect(page.get_by_role("heading", name="soup-sft").first).to_be_visible()


def test_the_palette_leads_by_keys_to_what_one_means(site: Site, sign_in):
    page = sign_in("olga").page
    page.goto(f"{site.url}/p/header/policies/")
    page.keyboard.press("Control+k")
    words = page.get_by_role("combobox", name="Search")
    expect(words).to_be_focused()
    expect(page.get_by_role("option").first).to_be_visible()
    words.fill("soup")
    options = page.get_by_role("option")
    expect(options).to_have_count(2)
    expect(options.first).to_have_attribute("aria-selected", "true")
    serious = [each["id"] for each in Axe().run(page).response["violations"]
               if each["impact"] in ("serious", "critical")]  # fmt: skip
    assert not serious
    page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    expect(words).to_be_hidden()
    page.get_by_role("link", name="Search").click()
    words.press_sequentially("queue")
    page.keyboard.press("Enter")  # whether or not what it finds is there by now
    page.wait_for_url("**/p/header/rounds/queue/")


def test_a_late_answer_to_other_words_leads_nowhere(site: Site, sign_in):
    page = sign_in("olga").page
    page.goto(f"{site.url}/p/header/policies/")
    page.route("**/find/?q=soup", lambda route: None)  # held for as long as anybody waits for it
    page.keyboard.press("Control+k")
    words = page.get_by_role("combobox", name="Search")
    page.clock.install()
    page.clock.pause_at(time.time() + 60)  # from here on no pause between letters ends by itself
    words.fill("soup")
    with page.expect_request("**/find/?q=soup"):
        page.clock.run_for(100)
    with page.expect_event("requestfailed", lambda request: "soup" in request.url):
        words.fill("queue")
    page.keyboard.press("Enter")
    page.clock.run_for(100)
    page.wait_for_url("**/p/header/rounds/queue/")


def test_the_header_of_a_phone_has_two_lines(site: Site, sign_in):
    page = sign_in("alice", width=360).page
    page.goto(f"{site.url}/p/header/guideline/")
    page.get_by_role("button", name="Raw").wait_for()
    assert page.evaluate(HEIGHT) < 100
