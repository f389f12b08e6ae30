"""The chat in a real browser, with a model server that writes when it is told to."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.model_server import ModelServer, serving

SET_UP = """
from annotate.models import Policy, Project
project, _ = Project.objects.get_or_create(slug="kitchen-talk", defaults=dict(name="Kitchen talk"))
project.admit(name="{name}", role="guest")
policy, _ = Policy.objects.get_or_create(
    project=project, name="cook",
    defaults=dict(origin="external", model_name="cook-1", endpoint="{endpoint}"),
)
policy.go_live()
"""


@pytest.fixture
def model(site: Site) -> Iterator[ModelServer]:
    with serving(ModelServer(), urlsplit(site.endpoint).port or 0) as script:
        yield script


@pytest.fixture
def guest(site: Site, sign_in, model: ModelServer) -> Callable[..., Page]:
    """guest("gina") opens a new chat; somebody new each time."""

    def come(name: str, **options) -> Page:
        site.shell(SET_UP.format(name=name, endpoint=site.endpoint))
        page = sign_in(name, **options).page
        page.goto(f"{site.url}/p/kitchen-talk/chat/new/")
        return page

    return come


def say(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".turn", has_text=text)).to_be_visible()


def fits(page: Page) -> None:
    """No line is wider than the window."""
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_what_is_typed_is_kept_until_it_is_sent(guest):
    page = guest("keeps")
    message = page.get_by_label("Your message")
    expect(message).to_be_focused()
    low = message.bounding_box()
    page.keyboard.type("One line")
    for _ in range(3):
        page.keyboard.press("Shift+Enter")
    page.keyboard.type("and another")
    high = message.bounding_box()
    assert low and high and high["height"] > low["height"] + 40
    page.reload()
    expect(message).to_have_value("One line\n\n\nand another")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    expect(message).to_have_value("")
    expect(message).to_be_focused()
    page.reload()
    expect(message).to_have_value("")
    # Each chat has a text of its own.
    message.fill("For this chat alone")
    page.get_by_role("link", name="New chat").click()
    expect(message).to_have_value("")
    page.go_back()
    expect(message).to_have_value("For this chat alone")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in/**")
    kept = page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('draft:'))")
    assert kept == []


@pytest.mark.parametrize("by", ["button", "key"])
def test_stop_takes_the_place_of_send(guest, model: ModelServer, by: str):
    model.waits = True
    page = guest(f"stops-by-{by}")
    say(page, "How do I boil an egg?")
    expect(page.locator(".streaming")).to_contain_text("Boil it")
    stop = page.get_by_role("button", name="Stop", exact=True)
    expect(stop).to_have_count(1)
    expect(page.get_by_role("button", name="Send")).to_have_count(0)
    message = page.get_by_label("Your message")
    message.fill("Next")
    message.press("Enter")
    expect(message).to_have_value("Next")
    if by == "button":
        stop.click()
    else:
        message.press("Escape")
    expect(page.get_by_text("You stopped this answer.")).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(stop).to_have_count(0)
    expect(message).to_have_value("Next")


def test_one_button_leads_to_the_end(guest, model: ModelServer):
    model.says = [f"Line {number}.\n\n" for number in range(80)]
    page = guest("scrolls")
    say(page, "How do I boil an egg?")
    expect(page.get_by_role("button", name="Good answer")).to_be_in_viewport()
    jump = page.get_by_role("button", name="Jump to the end")
    expect(jump).to_be_hidden()
    page.evaluate("scrollTo(0, 0)")
    jump.click()
    expect(page.get_by_role("button", name="Good answer")).to_be_in_viewport()
    expect(jump).to_be_hidden()


def test_single_keys_and_the_list_of_them(guest, model: ModelServer):
    page = guest("types")
    say(page, "How do I boil an egg?")
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    message = page.get_by_label("Your message")
    expect(message).to_be_focused()
    page.keyboard.type("?r")
    expect(message).to_have_value("?r")
    page.keyboard.press("Escape")
    expect(message).not_to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    expect(page.get_by_text("2/2")).to_be_visible()
    page.keyboard.press("/")
    expect(message).to_be_focused()
    expect(message).to_have_value("?r")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.wait_for_url("**/chat/new/")
    page.get_by_role("button", name="Shortcuts").click()
    page.get_by_label("Use single-key shortcuts").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("/")
    expect(message).not_to_be_focused()
